"""Homeostat beside its peers on this machine: the same models, rows and client, answers checked, medians of repeats.

For each model and server: the highest throughput in a closed loop whose p99 stays within 10 ms (1 to 64 connections),
and latency at a fixed low rate in an open loop. Beside them a handler that does nothing, and ONNX Runtime called in
a loop in process. Servers take turns within each repeat. Both cores are shared by the server and the client.

  sh benches/serving/setup.sh
  benches/serving/.venvs/models/bin/python benches/serving/run.py [--quick] [--only mlp,homeostat,fastapi-2]
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

import harness
import models
import peers
import wires
from harness import Model, Trouble

HERE = pathlib.Path(__file__).resolve().parent
P99_MS = 10
LOW_RATE = 50
MODELS = ("logistic", "mlp", "trees", "mobilenet")
# Formats that cost about the same to read are compared with each other.
TEXT = ("oip", "rows")
OURS = "homeostat"
PROGRAMS = (OURS, "noop", "in-process", *(peer.name for peer in peers.ALL))
# Within this share of each other, two medians count as level.
LEVEL = 0.05


def options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="names of models and servers, with commas; all of a kind not named")
    parser.add_argument("--quick", action="store_true", help="two minutes: one model, one short repeat")
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--seconds", type=float, help="of each level of the search")
    parser.add_argument("--low-seconds", type=float, help="of the open loop at the low rate")
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "results.json")
    given = parser.parse_args()
    named = [name for name in given.only.split(",") if name]
    if unknown := [name for name in named if name not in MODELS + PROGRAMS]:
        parser.error(f"--only {','.join(unknown)}: the names are {', '.join(MODELS + PROGRAMS)}")
    given.models = [name for name in MODELS if name in named] or list(MODELS[:1] if given.quick else MODELS)
    given.programs = [name for name in PROGRAMS if name in named] or list(PROGRAMS)
    given.repeats = given.repeats or (1 if given.quick else 3)
    given.seconds = given.seconds or (0.7 if given.quick else 2.0)
    given.low_seconds = given.low_seconds or (2.0 if given.quick else 6.0)
    given.connections = "1,8,32" if given.quick else "1,2,4,8,16,32,64"
    return given


def start(program, model, peer=None):
    """The server, its wire formats with their paths, and what it calls the input and the output."""
    spec = model.spec
    if program == "noop":
        text = not model.large
        answer = {"data": model.expected[0].tolist()} if text else {"parameters": {"binary_data_size": 4000}}
        output = {"name": spec["output"], "shape": [1, model.expected.size], "datatype": "FP32"} | answer
        size = len(wires.packed({"model_name": model.name, "model_version": "1", "outputs": [output]}))
        server = harness.noop(size + (0 if text else model.expected[0].nbytes))
        server.wait("/")
        return server, {"oip" if text else "oip-binary": "/"}, (spec["input"], spec["output"])
    path = f"/v2/models/{model.name}/infer"
    if program == OURS:
        file = model.folder / ("model.txt" if model.name == "trees" else "model.onnx")
        server = harness.homeostat(harness.homeostat_project(harness.WORK / "homeostat", {model.name: file}))
        formats = {"oip-binary": path} if model.large else {"oip": path, "oip-binary": path}
        try:
            return server, formats, harness.described(server, model)
        except Exception:
            server.stop()
            raise
    peer = peer or next(peer for peer in peers.ALL if peer.name == program)
    formats = {wire: path.format(model=model.name) for wire, path in peer.wires(model).items()}
    output = "predict_proba" if (program, model.name) == ("mlserver-own", "logistic") else None
    return peer.start(model), formats, (spec["input"], output)


def measure(program, model, given, peer=None):
    """One repeat: a report for each wire format. `peer` is given where its settings are others than in peers.py."""
    server, formats, (tensor, output) = start(program, model, peer)
    reports = {}
    with server:
        for wire, path in formats.items():
            bodies = harness.WORK / "bodies" / f"{model.name}-{program}-{wire}"
            wires.write(bodies, wire, path, model.rows, tensor, output)
            if program != "noop":
                harness.check(server, model, wire, path, tensor, output)
            harness.load("closed", server, bodies, connections=8, seconds=1, warmup=0)
            before = server.cpu_seconds()
            found = harness.load(
                "search", server, bodies, connections=given.connections, seconds=given.seconds, warmup=0, p99_ms=P99_MS
            )
            spent = server.cpu_seconds() - before
            low = harness.load(
                "open", server, bodies, rate=LOW_RATE, seconds=given.low_seconds, connections=8, arrivals="poisson"
            )
            requests = sum(level["requests"] for level in found["levels"])
            reports[wire] = {
                "best": found["best"],
                "levels": found["levels"],
                "low": low,
                "server_cpu_us": spent / max(requests, 1) * 1e6,
                "memory_mib": server.memory_mib(),
                "start_seconds": server.start_seconds,
            }
    return reports


def in_process(model, given):
    """ONNX Runtime in a loop, by threads of its session and threads that call it."""
    reports = {}
    for threads, callers in ((1, 1), (2, 1), (1, 2)):
        env = peers.QUIET | {"MODEL_DIR": str(model.folder), "THREADS": str(threads), "CALLERS": str(callers)}
        env |= {"SECONDS": str(max(given.seconds, 2))}
        program = peers.VENVS / "models" / "bin" / "python"
        command = [program, peers.PEERS / "onnxruntime_loop.py"]
        done = subprocess.run(command, env=os.environ | env, capture_output=True, text=True, check=True)
        best = json.loads(done.stdout)
        low = {"latency_ms": best["latency_ms"]}
        shown = f"{threads} thread{'s' * (threads > 1)}, {callers} caller{'s' * (callers > 1)}"
        reports[shown] = {"best": best, "levels": [], "low": low}
    return reports


def gather(given):
    """Repeats of each model, server and wire format, and why some have none."""
    entries, failed = {}, {}
    for repeat in range(given.repeats):
        for name in given.models:
            model = Model(name)
            programs = [program for program in given.programs if applies(program, model)]
            # Each repeat begins with another one, so that none is always measured after the same neighbour.
            turned = programs[repeat % len(programs) :] + programs[: repeat % len(programs)]
            for program in turned:
                print(f"repeat {repeat + 1} of {given.repeats}: {name}, {program}", file=sys.stderr, flush=True)
                try:
                    reports = in_process(model, given) if program == "in-process" else measure(program, model, given)
                except (Trouble, OSError, subprocess.SubprocessError) as error:
                    failed[f"{name}, {program}"] = str(error)
                    print(f"  failed: {str(error)[-800:]}", file=sys.stderr)
                    continue
                for wire, report in reports.items():
                    entries.setdefault((name, program, wire), []).append(report)
    return entries, failed


def applies(program, model):
    peer = next((peer for peer in peers.ALL if peer.name == program), None)
    if program == "in-process":
        return model.name == "mobilenet"
    return peer is None or peer.serves(model)


def median(repeats, *path, missing=None):
    """Of the figure at `path`; repeats without one count as `missing`, or not at all."""
    values = []
    for value in repeats:
        for key in path:
            value = value.get(key) if value else None
        values.append(missing if value is None else value)
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def summary(entries):
    rows = []
    for (model, program, wire), repeats in entries.items():
        row = {
            "model": model,
            "program": program,
            "wire": wire,
            # A repeat in which no level kept the limit is a throughput of nothing.
            "throughput": median(repeats, "best", "throughput", missing=0.0),
            "connections": median(repeats, "best", "connections"),
            "p99_ms": median(repeats, "best", "latency_ms", "p99"),
            "low_p50_ms": median(repeats, "low", "latency_ms", "p50"),
            "low_p99_ms": median(repeats, "low", "latency_ms", "p99"),
            "server_cpu_us": median(repeats, "server_cpu_us"),
            "memory_mib": median(repeats, "memory_mib"),
            "start_seconds": median(repeats, "start_seconds"),
            "kept": sum(bool(repeat["best"]) for repeat in repeats),
            "repeats": repeats,
        }
        rows.append(row)
    return sorted(rows, key=lambda row: (MODELS.index(row["model"]), -row["throughput"]))


def verdicts(rows):
    """Homeostat beside each peer, in formats of the same kind; ratios above 1 are in Homeostat's favour."""
    said = []
    for ours in rows:
        if ours["program"] != OURS:
            continue
        for peer in rows:
            alike = peer["model"] == ours["model"] and (peer["wire"] in TEXT) == (ours["wire"] in TEXT)
            if not alike or peer["program"] in (OURS, "noop", "in-process"):
                continue
            for figure in ("throughput", "low_p50_ms", "low_p99_ms", "memory_mib"):
                mine, theirs = ours[figure], peer[figure]
                if mine is None or theirs is None or mine == theirs == 0:
                    continue
                above, below = (mine, theirs) if figure == "throughput" else (theirs, mine)
                # JSON knows no infinity; a thousand stands for a peer that never kept the limit.
                ratio = above / below if below else 1000.0
                verdict = "level" if abs(ratio - 1) <= LEVEL else "won" if ratio > 1 else "lost"
                said.append(
                    {"model": ours["model"], "wire": ours["wire"], "peer": peer["program"], "peer_wire": peer["wire"]}
                    | {"figure": figure, "ratio": ratio, "verdict": verdict}
                )
    return said


def versions():
    told = {"python": platform.python_version(), "kernel": platform.release()}
    for peer in peers.ALL:
        if (peers.VENVS / peer.venv / "done").is_file():
            script = "import importlib.metadata as m, sys; print('\\n'.join(m.version(p) for p in sys.argv[1:]))"
            program = peers.VENVS / peer.venv / "bin" / "python"
            found = subprocess.run([program, "-c", script, *peer.packages], capture_output=True, text=True).stdout
            told[peer.name] = dict(zip(peer.packages, found.split()))
    if harness.HOMEOSTAT.is_file():
        told[OURS] = subprocess.run([harness.HOMEOSTAT, "--version"], capture_output=True, text=True).stdout.strip()
    return told


def cpu():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {"name": named[0] if named else platform.machine(), "cores": os.cpu_count()}


def shown(value, digits=None):
    if not value:
        return "–"
    return f"{value:,.0f}" if digits is None else f"{value:.{digits}f}"


def markdown(results):
    said = [f"{results['date']}, {results['cpu']['name']}, {results['cpu']['cores']} cores shared by server and client; "
            f"load average at the start {results['load_average'][0]:.1f}; `{results['command']}`.", ""]
    for model in dict.fromkeys(row["model"] for row in results["rows"]):
        said += [f"### {model}", ""]
        said += ["| server | wire | requests/s at p99 ≤ 10 ms | connections | p99 there, ms | p50 at 50/s, ms "
                 "| p99 at 50/s, ms | server CPU, µs/request | memory, MiB |", "|---|---|--:|--:|--:|--:|--:|--:|--:|"]
        for row in results["rows"]:
            if row["model"] == model:
                cells = [row["program"], row["wire"], shown(row["throughput"]), shown(row["connections"]),
                         shown(row["p99_ms"], 2), shown(row["low_p50_ms"], 2), shown(row["low_p99_ms"], 2),
                         shown(row["server_cpu_us"]), shown(row["memory_mib"])]
                said.append(f"| {' | '.join(cells)} |")
        said.append("")
    for verdict in ("lost", "level", "won"):
        picked = [one for one in results["verdicts"] if one["verdict"] == verdict]
        said.append(f"Homeostat {verdict} {len(picked)} of {len(results['verdicts'])} comparisons"
                    + (":" if picked and verdict != "won" else "."))
        if verdict != "won":
            said += [f"- {one['model']}, {one['figure']}: {one['ratio']:.2f} of {one['peer']} ({one['wire']} beside "
                     f"{one['peer_wire']})" for one in picked]
    said += [f"- failed: {name}: {' '.join(text.split())[-300:]}" for name, text in results["failed"].items()]
    return "\n".join([*said, "", "Versions: " + json.dumps(results["versions"])])


def main():
    given = options()
    harness.go_alone()
    if not harness.LOAD.is_file():
        sys.exit("the load generator is not built: cargo build --release --package load")
    models.make()
    results = {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu(),
        "load_average": os.getloadavg(),
        "command": " ".join(["benches/serving/run.py", *sys.argv[1:]]),
        "versions": versions(),
        "settings": {peer.name: {"small": peer.env | peer.small_env, "large": peer.env | peer.large_env} for peer in peers.ALL},
    }
    entries, results["failed"] = gather(given)
    results["rows"] = summary(entries)
    results["verdicts"] = verdicts(results["rows"])
    harness.write_results(given.out, results)
    print(markdown(results).replace(str(harness.ROOT), "."))


if __name__ == "__main__":
    main()
