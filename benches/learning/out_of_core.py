"""Three million flights, repeated with noise to any number of rows, in pieces, as one Parquet file that is sorted by time;
with a project over it, ready for `homeostat train --stream` and `homeostat predict`.

Copy n lies n half-years after the first: its flights are as late as those, its distances are up to 1 % off, and one
flight in twenty is of another hour. So the rows are new, and there is as much to learn from each copy.

  benches/learning/.venv/bin/python benches/learning/out_of_core.py FOLDER ROWS [HOMEOSTAT]
"""

import pathlib
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from data import bts_flights_3m

PIECE_ROWS = 500_000
HALF_YEAR = pd.Timedelta(days=182)
SPEC = """
[learner]
kind = "linear"

[learner.linear]
epochs = 1
"""


def copies(rows):
    """Pieces of the copies, `rows` rows in all, in order of time."""
    frame, _ = bts_flights_3m()
    frame = frame.sort_values("at", kind="stable").reset_index(drop=True)
    random = np.random.default_rng(1)
    copy = written = 0
    while written < rows:
        for start in range(0, len(frame), PIECE_ROWS):
            piece = frame[start : start + min(PIECE_ROWS, rows - written)].copy()
            piece["at"] += copy * HALF_YEAR
            piece["distance"] *= 1 + random.uniform(-0.01, 0.01, len(piece))
            moved = random.random(len(piece)) < 0.05
            piece.loc[moved, "hour"] = [f"h{hour}" for hour in random.integers(0, 24, int(moved.sum()))]
            yield piece
            written += len(piece)
            if written == rows:
                return
        copy += 1


def project(folder, binary, sample):
    """As `init` makes it of some of the rows; the contract then holds for all."""
    sample.to_parquet(folder / "flights.parquet", index=False)
    if (folder / "project").exists():
        raise SystemExit(f"{folder / 'project'} is there already; name an empty folder")
    command = [binary, "init", "project", "--data", "flights.parquet", "--target", "late", "--time", "at", "--name", "late"]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    model = folder / "project" / "models" / "late.toml"
    lines = model.read_text().split("\n[learner")[0]
    model.write_text(lines + SPEC)
    (folder / "flights.parquet").unlink()
    return folder / "project" / "data" / "flights.parquet"


def main():
    folder, rows = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    binary = pathlib.Path(sys.argv[3] if len(sys.argv) > 3 else "target/release/homeostat").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    path = writer = None
    for piece in copies(rows):
        if path is None:
            path = project(folder, binary, piece)
            writer = pq.ParquetWriter(path, pa.Schema.from_pandas(piece, preserve_index=False), compression="zstd")
        writer.write_table(pa.Table.from_pandas(piece, schema=writer.schema, preserve_index=False))
    writer.close()
    print(f"{path}: {rows} rows, {path.stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
