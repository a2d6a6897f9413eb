"""What the peers share: the sets as pandas frames, the metrics, the clocks, and one line of JSON as the answer."""

import json
import os
import pathlib
import resource
import sys
import time

import numpy as np
import pandas as pd

HERE = pathlib.Path(__file__).resolve().parent
WORK = HERE.parent / "work"


class Clock:
    """Wall and CPU seconds of this process, all its threads together."""

    def __enter__(self):
        self.began, self.cpu_began = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_):
        self.seconds, self.cpu_seconds = time.perf_counter() - self.began, time.process_time() - self.cpu_began


class Set:
    """Inputs `x` (categories as pandas categories), outcomes `y` (0/1, a quantity, or the class's place), and which rows
    are train, validation and test."""

    def __init__(self, name):
        split = json.loads((WORK / name / "split.json").read_text())
        self.name, self.task = name, split["task"]
        frame = pd.read_parquet(WORK / name / "data.parquet")
        self.x = frame[split["columns"]].copy()
        if split["time"] and split["time"] not in split["columns"] and name != "bts_flights_3m":
            # The same parts of the instant that Homeostat's pipeline takes by default.
            self.x["time_hour"], self.x["time_weekday"] = frame[split["time"]].dt.hour, frame[split["time"]].dt.day_of_week
        train, known = split["train"], split["train"] + split["validation"]
        self.train, self.validation = slice(0, train), slice(train, known)
        self.known, self.test = slice(0, known), slice(known, len(frame))
        self.categorical = [one for one in self.x.columns if not pd.api.types.is_numeric_dtype(self.x[one])]
        for one in self.categorical:
            # Only categories that were there to learn from; a later one is missing.
            kinds = pd.CategoricalDtype(sorted(self.x[one].iloc[self.known].dropna().unique()))
            self.x[one] = self.x[one].astype(kinds)
        outcome = frame[split["target"]].to_numpy()
        self.classes = np.unique(outcome) if self.task == "multiclass" else None
        self.y = np.searchsorted(self.classes, outcome) if self.task == "multiclass" else outcome.astype("float64")

    def codes(self):
        """As one block of doubles: categories by their place, missing as NaN."""
        block = np.empty(self.x.shape)
        for place, name in enumerate(self.x.columns):
            column = self.x[name]
            if name in self.categorical:
                code = column.cat.codes.to_numpy()
                block[:, place] = np.where(code < 0, np.nan, code)
            else:
                block[:, place] = column.to_numpy(dtype="float64", na_value=np.nan)
        return block


def auc(y, score):
    order = np.argsort(score, kind="stable")
    ranked = score[order]
    ranks = np.empty(len(y))
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    ends = np.r_[starts[1:], len(y)]
    # Ties share the mean of their ranks.
    ranks[order] = np.repeat((starts + ends + 1) / 2, ends - starts)
    ones = float(y.sum())
    return float((ranks[y == 1].sum() - ones * (ones + 1) / 2) / (ones * (len(y) - ones)))


def metrics(task, y, predicted):
    """The metrics that Homeostat gives too. `predicted` holds probabilities, or quantities."""
    if task == "regression":
        error = predicted - y
        return {"rmse": float(np.sqrt(np.mean(error**2))), "mae": float(np.mean(np.abs(error)))}
    p = np.clip(predicted, 1e-15, 1 - 1e-15)
    if task == "binary":
        return {"auc": auc(y, p), "logloss": float(-np.mean(np.where(y == 1, np.log(p), np.log1p(-p))))}
    chosen = p[np.arange(len(y)), y]
    return {"logloss": float(-np.mean(np.log(chosen))), "accuracy": float(np.mean(predicted.argmax(axis=1) == y))}


def answer(**told):
    told["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(told))


def keep_to(threads):
    """To as many cores as threads, so that a helper thread does not use another core unseen."""
    allowed = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, allowed[: max(1, threads)])


def note(*words):
    print(*words, file=sys.stderr, flush=True)
