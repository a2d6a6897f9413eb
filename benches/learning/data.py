"""The data sets of the benchmark, the same rows and the same split for Homeostat and for its peers.

Each set becomes work/NAME/data.parquet, in order: by time where there is time, otherwise by a keyed hash of the row's
place. Of n rows the last round(.2 n) are the test and the round(.15 n) before them the validation, which is how
`homeostat train` splits; the key column `row` settles ties of time. Beside it lie split.json and project/, made by
`homeostat init`.

  benches/learning/.venv/bin/python benches/learning/data.py [NAME ...]
"""

import json
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
DATA = ROOT.parent / "shared" / "data"
WORK = HERE / "work"
TEST, VALIDATION = 0.2, 0.15
KEY = "row"


def mixed(x):
    """The finaliser of SplitMix64 (Steele et al., OOPSLA 2014)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def keyed(count, seed):
    """64 bits for each of `count` places."""
    with np.errstate(over="ignore"):
        return mixed(np.arange(count, dtype=np.uint64) ^ mixed(np.uint64(seed)))


def shuffled(frame):
    return frame.iloc[np.argsort(keyed(len(frame), 7), kind="stable")].reset_index(drop=True)


def bts_flights_3m():
    """Late by more than 15 minutes: origin, destination, distance, and the hour and day as categories."""
    frame = pd.read_parquet(DATA / "bts_flights_3m" / "flights_2001h1.parquet")
    frame["at"] = frame["date"].dt.tz_localize("UTC")
    frame["hour"] = "h" + frame["date"].dt.hour.astype(str)
    frame["weekday"] = "d" + frame["date"].dt.day_of_week.astype(str)
    frame["late"] = (frame["delay"] > 15).astype("int64")
    frame["distance"] = frame["distance"].astype("float64") / 1000
    # The time itself is for the split alone: its parts are there as categories, as a linear model wants them.
    columns = ["origin", "destination", "hour", "weekday", "distance"]
    return frame[["at", *columns, "late"]], {"target": "late", "time": "at", "columns": columns}


def covtype():
    """The most frequent kind of forest against the others."""
    frame, told = covtype7()
    frame["second"] = (frame.pop("Cover_Type") == 2).astype("int64")
    return frame, told | {"task": "binary", "target": "second"}


def covtype7():
    frame = shuffled(pd.read_parquet(DATA / "covtype" / "covtype.parquet"))
    return frame, {"task": "multiclass", "target": "Cover_Type"}


def flights():
    """The example project's query: what was known two hours before departure, with the weather."""
    import datafusion

    session = datafusion.SessionContext()
    folder = ROOT / "examples" / "flights" / "data"
    for table in ("flights", "weather", "planes", "airports"):
        session.register_parquet(table, str(folder / f"{table}.parquet"))
    batches = session.sql((folder / "arrival.sql").read_text()).collect()
    frame = pa.Table.from_batches(batches).to_pandas()
    frame = frame[frame["late"].notna()].copy()
    frame["late"] = frame["late"].astype("int64")
    frame["weekday"] = frame["sched_dep"].dt.tz_convert("America/New_York").dt.day_of_week
    # Left out as in the example; `landed_at` is known too late.
    dropped = ["flight_key", "sched_dep", "landed_at", "plane_year", "plane_seats", "plane_engine", "plane_manufacturer"]
    return frame.drop(columns=[*dropped, "tailnum"]), {"target": "late", "time": "event_time"}


def adult():
    """Both of its files, in one keyed order."""
    both = [pd.read_parquet(DATA / "adult" / f"adult_{part}.parquet") for part in ("train", "test")]
    frame = shuffled(pd.concat(both, ignore_index=True))
    frame["income"] = frame["income"].str.strip().str.startswith(">").astype("int64")
    return frame, {"target": "income"}


def open_bandit():
    """Clicks, fewer than one in a hundred. Which policy chose and how probable its choice was are no features."""
    frame = pd.read_parquet(DATA / "open_bandit" / "obd_small_men_women.parquet")
    frame = frame.drop(columns=["policy", "propensity_score"])
    for name in ("item_id", "position"):
        frame[name] = frame["campaign"].str[0] + frame[name].astype(str) if name == "item_id" else "p" + frame[name].astype(str)
    frame.columns = [name.replace("-", "_") for name in frame.columns]
    return frame, {"target": "click", "time": "timestamp"}


def bike_sharing():
    frame = pd.read_parquet(DATA / "bike_sharing" / "hour.parquet")
    frame["at"] = (pd.to_datetime(frame["dteday"]) + pd.to_timedelta(frame["hr"], unit="h")).dt.tz_localize("UTC")
    return frame.drop(columns=["dteday", "instant", "casual", "registered"]), {"target": "cnt", "time": "at", "task": "regression"}


def beijing_air():
    frame = pd.read_parquet(DATA / "beijing_air" / "beijing_air.parquet")
    frame["at"] = frame.pop("datetime").dt.tz_localize("UTC")
    frame = frame.rename(columns={"PM2.5": "PM25"})
    return frame[frame["PM25"].notna()], {"target": "PM25", "time": "at", "task": "regression"}


SETS = [bts_flights_3m, covtype, covtype7, flights, adult, open_bandit, bike_sharing, beijing_air]


def parts(rows):
    """Rows of train and of validation; Rust rounds halves up."""
    test, validation = (int(rows * share + 0.5) for share in (TEST, VALIDATION))
    return rows - test - validation, validation


def write(make):
    folder = WORK / make.__name__
    made = folder / "split.json"
    if made.is_file():
        return
    frame, told = make()
    if "time" in told:
        frame = frame.sort_values(told["time"], kind="stable").reset_index(drop=True)
        frame[told["time"]] = frame[told["time"]].astype("datetime64[us, UTC]")
    frame.insert(0, KEY, np.arange(len(frame), dtype="int64"))
    train, validation = parts(len(frame))
    rest = {told["target"], told.get("time"), KEY}
    columns = told.get("columns") or [name for name in frame.columns if name not in rest]
    split = {"name": make.__name__, "task": "binary", "time": None} | told
    split |= {"rows": len(frame), "train": train, "validation": validation, "columns": columns}
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), folder / "data.parquet", compression="zstd")
    if make is bts_flights_3m:
        # For the example linear_rate, which knows of no key.
        pq.write_table(pa.Table.from_pandas(frame.drop(columns=[KEY]), preserve_index=False), folder / "rate.parquet")
    made.write_text(json.dumps(split, indent=1))
    print(f"{make.__name__}: {len(frame)} rows, {len(columns)} columns", file=sys.stderr)


def split_of(name):
    return json.loads((WORK / name / "split.json").read_text())


def project(name, binary):
    """A fresh project of the set by `homeostat init`. The folder and the model's name."""
    split, folder = split_of(name), WORK / name / "project"
    shutil.rmtree(folder, ignore_errors=True)
    command = [binary, "init", folder, "--data", WORK / name / "data.parquet", "--target", split["target"], "--key", KEY]
    command += ["--name", name, "--task", split["task"], *(["--time", split["time"]] if split["time"] else [])]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"homeostat init, {name}: {done.stderr.strip()[-600:]}")
    # Measured on the newest rows; a last fit on all rows is not part of the comparison.
    settings = {"split": {"refit": False, "test": TEST, "validation": VALIDATION}}
    if name == "bts_flights_3m":
        settings["features"] = {"columns": split["columns"], "cross": [["origin", "destination"]]}
    declare(folder, name, settings)
    return folder


def declare(folder, model, settings):
    """Sets keys of a model's declaration: {section: {key: value}}. TOML's booleans, numbers, strings and lists of these
    read like JSON's."""
    path = folder / "models" / f"{model}.toml"
    text = path.read_text()
    for section, keys in settings.items():
        head = f"[{section}]"
        if head not in text.splitlines():
            text += f"\n{head}\n"
        before, after = text.split(head + "\n", 1)
        body, found, rest = re.match(r"(.*?)(^\[|\Z)(.*)", after, re.S | re.M).groups()
        for key, value in keys.items():
            body = re.sub(rf"^{key} = (\[[^\]]*\]|.*)\n", "", body, flags=re.M)
            body = f"{key} = {json.dumps(value)}\n" + body
        text = f"{before}{head}\n{body}{found}{rest}"
    path.write_text(text)


def main():
    known = {make.__name__: make for make in SETS}
    for name in sys.argv[1:] or known:
        if name not in known:
            sys.exit(f"there is no set {name}; there are {', '.join(known)}")
        write(known[name])


if __name__ == "__main__":
    main()
