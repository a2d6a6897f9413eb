"""Losses of every row under models of different ages, by our own trees: WORK/NAME/losses.f32 (models x rows, row-major,
little-endian; NaN where the model already knew the row), and WORK/NAME/told.json (the rows' times, when each model was
trained, and how long that took).

  ../learning/.venv/bin/python retraining.py [NAME ...]    (the packages of benches/learning/requirements.txt)
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "learning"))
from data import DATA, ROOT, beijing_air, bike_sharing, flights  # noqa: E402

BINARY = pathlib.Path(os.environ.get("HOMEOSTAT", ROOT / "target" / "release" / "homeostat"))
WORK = HERE / "work"
# Of the rows, what the first model learns from; then this many models more, evenly in time.
FIRST = 0.25
MODELS = 36


def elec2():
    """Whether the price of electricity in New South Wales goes up, each half hour from May 1996 on."""
    frame = pd.read_parquet(DATA / "elec2" / "elec2.parquet")
    names = {name.lower(): name for name in frame.columns}
    target = names.get("class") or names.get("target") or frame.columns[-1]
    frame["up"] = frame.pop(target).astype(str).str.strip().str.upper().isin(["UP", "1", "TRUE"]).astype("int64")
    frame["at"] = pd.Timestamp("1996-05-07", tz="UTC") + pd.to_timedelta(np.arange(len(frame)) * 30, unit="min")
    # The date is only the order again.
    return frame.drop(columns=[names["date"]] if "date" in names else []), {"target": "up", "time": "at"}


SETS = [flights, elec2, bike_sharing, beijing_air]


def told(folder, *args):
    done = subprocess.run([BINARY, *args, "--json"], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"homeostat {' '.join(args)}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def losses(make):
    frame, about = make()
    time, target = about["time"], about["target"]
    regression = about.get("task") == "regression"
    frame[time] = frame[time].astype("datetime64[us, UTC]")
    frame = frame.sort_values(time, kind="stable").reset_index(drop=True)
    folder = WORK / make.__name__
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    frame.to_parquet(folder / "all.parquet", index=False)
    command = ["init", "project", "--data", "all.parquet", "--target", target, "--time", time, "--name", "m"]
    told(folder, *command, *(["--task", "regression"] if regression else []))
    project = folder / "project"
    first, last = frame[time].iloc[int(len(frame) * FIRST)], frame[time].iloc[-1]
    cuts = [first + (last - first) * step / (MODELS + 1) for step in range(MODELS + 1)]
    truth = frame[target].to_numpy(dtype=float)
    # One unit of loss: what a model that knows nothing loses a row; errors beyond count as one.
    scale = float(np.abs(truth[: int(len(frame) * FIRST)] - truth[: int(len(frame) * FIRST)].mean()).mean())
    rows, models = [], []
    for cut in cuts:
        made = told(project, "train", "m", "--to", cut.strftime("%Y-%m-%dT%H:%M:%SZ"))
        out = folder / "answers.parquet"
        out.unlink(missing_ok=True)
        told(project, "predict", made["version"], "--data", "data/all.parquet", "--out", str(out))
        answers = pd.read_parquet(out)
        said = answers["value"].to_numpy(dtype=float)
        if regression:
            loss = np.minimum(np.abs(said - truth) / scale, 1.0)
        else:
            loss = ((said >= 0.5) != (truth >= 0.5)).astype(float)
        loss[(frame[time] < cut).to_numpy()] = np.nan
        rows.append(loss.astype("<f4"))
        models.append({"at": int(cut.value // 1000), "seconds": made["seconds"], "version": made["version"]})
        print(f"{make.__name__} {cut:%Y-%m-%d}: later loss {np.nanmean(loss):.4f}", file=sys.stderr)
    np.stack(rows).tofile(folder / "losses.f32")
    at = frame[time].astype("int64") // (1 if frame[time].dtype.unit == "us" else 1000)
    at.to_numpy(dtype="<i8").tofile(folder / "times.i64")
    (folder / "told.json").write_text(json.dumps({"rows": len(frame), "models": models, "regression": regression}))


def main():
    for make in [one for one in SETS if not sys.argv[1:] or one.__name__ in sys.argv[1:]]:
        losses(make)


if __name__ == "__main__":
    main()
