"""`homeostat init`, `check`, `train` and `evaluate` with no hand edits, beside LightGBM with defaults on the same split.

Names of sets on the command line choose among them. Data: ../shared/data from the project's root. Exit status 1 where a set misses its bound: 0.01 AUC, or 3 % RMSE.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import lightgbm
import numpy as np
import pandas as pd
from sklearn.metrics import log_loss, roc_auc_score

ROOT = pathlib.Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"
BINARY = ROOT / "target" / "release" / "homeostat"


def newest(frame, time):
    """The newest fifth by time is the test."""
    frame = frame.sort_values(time, kind="stable").reset_index(drop=True)
    cut = int(len(frame) * 0.8)
    return frame[:cut], frame[cut:]


def shuffled(frame):
    """A fifth by a fixed permutation is the test, for data without an order."""
    order = np.random.default_rng(7).permutation(len(frame))
    cut = int(len(frame) * 0.8)
    return frame.iloc[order[:cut]], frame.iloc[order[cut:]]


def adult():
    train = pd.read_parquet(DATA / "adult" / "adult_train.parquet")
    test = pd.read_parquet(DATA / "adult" / "adult_test.parquet")
    target = train.columns[-1]
    for frame in (train, test):
        frame[target] = frame[target].astype(str).str.strip().str.rstrip(".")
    return train, test, target, None, lambda y: (y == ">50K").astype(int)


def bike_sharing():
    frame = pd.read_parquet(DATA / "bike_sharing" / "hour.parquet").drop(columns=["casual", "registered"])
    frame["at"] = pd.to_datetime(frame["dteday"]) + pd.to_timedelta(frame["hr"], unit="h")
    frame["at"] = frame["at"].dt.tz_localize("UTC")
    train, test = newest(frame.drop(columns=["dteday"]), "at")
    return train, test, "cnt", "at", None


def beijing_air():
    frame = pd.read_parquet(DATA / "beijing_air" / "beijing_air.parquet")
    # The hour is given several times over; one instant is made of its parts.
    frame = frame.drop(columns=list(frame.select_dtypes(["datetime", "datetimetz"])))
    names = {name.lower(): name for name in frame.columns}
    frame["at"] = pd.to_datetime(frame[[names[part] for part in ("year", "month", "day", "hour")]].rename(columns=str.lower))
    frame["at"] = frame["at"].dt.tz_localize("UTC")
    target = next(name for name in frame.columns if name.lower().replace(".", "").replace("_", "") == "pm25")
    train, test = newest(frame[frame[target].notna()], "at")
    return train, test, target, "at", None


def kdd99():
    frame = pd.read_parquet(DATA / "kdd99" / "train_10pct.parquet")
    label = frame.columns[-1]
    frame["attack"] = (~frame[label].astype(str).str.startswith("normal")).astype("int64")
    train, test = shuffled(frame.drop(columns=[label]))
    return train, test, "attack", None, lambda y: y


def told(folder, *args):
    done = subprocess.run([BINARY, *args, "--json"], cwd=folder, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        sys.exit(f"homeostat {' '.join(args)}: {done.stderr}")
    return json.loads(done.stdout)


def ours(folder, train, test, target, time):
    train.to_parquet(folder / "train.parquet")
    test.to_parquet(folder / "test.parquet")
    args = ["init", "project", "--data", "train.parquet", "--target", target]
    told(folder, *args, *(["--time", time] if time else []))
    root = folder / "project"
    told(root, "check")
    trained = told(root, "train")
    evaluated = told(root, "evaluate", trained["version"], "--data", "../test.parquet")
    if evaluated["rows"] != len(test):
        sys.exit(f"{len(test)} rows were to be judged, {evaluated['rows']} were")
    return evaluated["metrics"], trained["seconds"]


def lightgbms(train, test, target, time, outcome):
    columns = [name for name in train.columns if name not in (target, time)]
    both = pd.concat([train[columns], test[columns]])
    if time:
        # The same parts of the instant that a pipeline takes by default.
        at = pd.concat([train[time], test[time]]).dt
        both["time_hour"], both["time_weekday"] = at.hour.values, at.day_of_week.values
    for name in both.columns:
        if both[name].dtype == object or str(both[name].dtype) in ("str", "string", "category"):
            both[name] = both[name].astype("category")
    x, tested = both[: len(train)], both[len(train) :]
    if outcome is None:
        model = lightgbm.LGBMRegressor(verbose=-1, n_jobs=2).fit(x, train[target])
        error = model.predict(tested) - test[target]
        return {"rmse": float(np.sqrt(np.mean(error**2)))}
    model = lightgbm.LGBMClassifier(verbose=-1, n_jobs=2).fit(x, outcome(train[target]))
    p, y = model.predict_proba(tested)[:, 1], outcome(test[target])
    return {"auc": roc_auc_score(y, p), "logloss": log_loss(y, p)}


def main():
    missed = []
    print(f"LightGBM {lightgbm.__version__} with defaults, two threads\n")
    print(f"{'set':14} {'metric':8} {'homeostat':>10} {'LightGBM':>10}  bound")
    for make in (adult, bike_sharing, beijing_air, kdd99):
        name = make.__name__
        if len(sys.argv) > 1 and name not in sys.argv[1:]:
            continue
        if not (DATA / name).is_dir():
            print(f"skipped: {name} (no {DATA / name})")
            continue
        train, test, target, time, outcome = make()
        with tempfile.TemporaryDirectory() as folder:
            mine, _ = ours(pathlib.Path(folder), train, test, target, time)
        peer = lightgbms(train, test, target, time, outcome)
        for metric, value in peer.items():
            bound = {"auc": value - 0.01, "rmse": value * 1.03}.get(metric)
            fine = bound is None or (mine[metric] >= bound if metric == "auc" else mine[metric] <= bound)
            if not fine:
                missed.append(f"{name} {metric}")
            shown = "" if bound is None else f"{bound:.4f} {'kept' if fine else 'MISSED'}"
            print(f"{name:14} {metric:8} {mine[metric]:10.4f} {value:10.4f}  {shown}")
    if missed:
        sys.exit("missed: " + ", ".join(missed))


main()
