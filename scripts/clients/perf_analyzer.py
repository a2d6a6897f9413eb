"""NVIDIA's load generator perf_analyzer, as it comes in a wheel, against a running server: it reads metadata,
configuration and statistics, then loads a model over HTTP and gRPC. Its exit status and its table are checked.

It needs libb64 of the system, and libcudart, which comes in a wheel too; both are in .venv-perf (scripts/python.sh)."""

import csv
import json
import os
import subprocess
import tempfile
from pathlib import Path

from target import Target, checks_of, known, run

VENV = Path(__file__).resolve().parents[2] / ".venv-perf"
BINARY = VENV / "bin" / "perf_analyzer"


def analyzed(target, *more, grpc=False):
    """Runs it for two short windows; gives its table, by concurrency."""
    (cuda,) = VENV.glob("lib/python*/site-packages/nvidia/cuda_runtime/lib")
    address = target.grpc if grpc else target.http
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "table.csv"
        command = [BINARY, "-u", address, "-i", "grpc" if grpc else "http", "-f", table, *more]
        command += ["--measurement-interval", "500", "--stability-percentage", "900", "--max-trials", "3"]
        ran = subprocess.run(
            command,
            env=os.environ | {"LD_LIBRARY_PATH": str(cuda)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        assert ran.returncode == 0, f"{' '.join(map(str, command))} ended with {ran.returncode}:\n{ran.stdout}"
        with open(table) as file:
            rows = list(csv.DictReader(file))
    assert rows and all(float(row["Inferences/Second"]) > 0 for row in rows), ran.stdout
    assert "Failed" not in ran.stdout, ran.stdout
    return rows, ran.stdout


def server_side(said):
    return [line for line in said.splitlines() if "Inference count" in line or "Execution count" in line]


def check_http(target):
    rows, said = analyzed(target, "-m", "trees", "-b", "8", "--concurrency-range", "1:4:3")
    assert [row["Concurrency"] for row in rows] == ["1", "4"], rows
    assert any("Inference count" in line for line in server_side(said)), said


def check_grpc(target):
    rows, said = analyzed(target, "-m", "trees", "-b", "8", "--concurrency-range", "4", grpc=True)
    assert len(rows) == 1 and server_side(said), said


def check_grpc_streaming(target):
    analyzed(target, "-m", "trees", "--streaming", "--concurrency-range", "2", grpc=True)


def check_real_rows_at_a_rate(target):
    x, _ = known("xgboost_binary.json")
    rows = [[0.0 if value != value else float(value) for value in row] for row in x.tolist()]
    rows = [row for row in rows if max(map(abs, row)) < 1e6]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"data": [{"input": row} for row in rows]}, file)
        file.flush()
        analyzed(target, "-m", "boosted", "--input-data", file.name, "--request-rate-range", "100")


def check_tensors_as_json(target):
    analyzed(target, "-m", "trees", "--input-tensor-format", "json", "--output-tensor-format", "json")


if __name__ == "__main__":
    run("perf_analyzer", checks_of(globals()), Target(__doc__))
