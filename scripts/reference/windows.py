"""The windows of seeded streams once more, in pandas. Reads streams, arrivals, windows and answers (JSON lines) from a
folder, computes the last two again from the first two, and ends with 1 where anything differs. What the words mean stands
in crates/vocabulary/src/stream.rs."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

NAMES = ["events", "values", "sum", "mean", "variance", "min", "max", "words", "newest"]
BEFORE_ALL = -(10**18)


def read(folder, name, whole=()):
    frame = pd.read_json(folder / f"{name}.jsonl", lines=True, dtype=False, convert_dates=False, precise_float=True)
    return frame.astype({column: "Int64" for column in whole})


def accept(stream, arrivals):
    """The events that count, in the order of arrival, and how many of them came behind the watermark."""
    newest, idle = [BEFORE_ALL] * stream.partitions, [False] * stream.partitions
    watermark, seen, counted, late = BEFORE_ALL, set(), [], 0
    for row in arrivals.itertuples():
        if pd.isna(row.time):
            idle[row.part] = True
        else:
            time = int(row.time)
            if stream.kind in ("tumbling", "hopping"):
                first_end = time // stream.slide * stream.slide + stream.slide
            else:
                first_end = time + 1
            too_late = first_end <= watermark - stream.lateness
            if not too_late and (pd.isna(row.id) or row.id not in seen):
                seen.add(row.id)
                counted.append(row.Index)
                late += time < watermark
            newest[row.part] = max(newest[row.part], time)
            idle[row.part] = False
        held = [time for time, sleeps in zip(newest, idle) if not sleeps]
        if held:
            watermark = max(watermark, min(held) - stream.out_of_order)
    return arrivals.loc[counted], late


def members_of_windows(stream, events):
    """Pairs of event and window, as a frame with `start` and `end`."""
    if stream.kind == "session":
        events = events.sort_values(["key", "time"], kind="stable")
        apart = events.groupby("key")["time"].diff()
        run = ((apart.isna()) | (apart >= stream.gap)).cumsum()
        by_run = events.groupby(run)["time"]
        return events.assign(start=by_run.transform("min"), end=by_run.transform("max") + stream.gap)
    first = events["time"] // stream.slide * stream.slide + stream.slide
    parts = []
    for k in range(-(-stream.size // stream.slide)):
        end = first + k * stream.slide
        part = events.assign(start=end - stream.size, end=end)
        parts.append(part[part["start"] <= part["time"]])
    return pd.concat(parts)


def members_of_answer(stream, events, question):
    known = events[(events["key"] == question.key) & (events["sequence"] < question.sequence)]
    known = known[known["time"] < question.at]
    if stream.kind == "session":
        known = known.sort_values("time", kind="stable")
        run = (known["time"].diff().isna() | (known["time"].diff() >= stream.gap)).cumsum()
        known = known[run == run.max()]
        is_open = len(known) > 0 and question.at - known["time"].max() < stream.gap
        return known if is_open else known[:0]
    if stream.kind == "sliding":
        return known[known["time"] >= (question.at - stream.size) // stream.tile * stream.tile]
    end = question.at // stream.slide * stream.slide
    return known[(known["time"] < end) & (known["time"] >= end - stream.size)]


def aggregate(members, by):
    """One row a group, with the aggregates."""
    x = members.groupby(by)["x"]
    found = pd.DataFrame(
        {
            "events": members.groupby(by).size(),
            "values": x.count(),
            "sum": x.sum(min_count=1),
            "mean": x.sum(min_count=1) / x.count().where(x.count() > 0),
            "variance": x.var(ddof=1),
            "min": x.min(),
            "max": x.max(),
            "words": members.groupby(by)["word"].nunique(),
        }
    )
    ordered = members[members["x"].notna()].sort_values(["time", "id", "x"])
    return found.join(ordered.groupby(by)["x"].last().rename("newest")).astype(float)


def differing(what, found, expected):
    """How many rows differ; all values exactly but for the variance, whose sums have no order of their own."""
    both = expected[NAMES].astype(float).join(found, how="outer", lsuffix="", rsuffix="_again")
    if len(both) != len(expected) or len(both) != len(found):
        print(f"{what}: {len(expected)} of ours, {len(found)} of pandas, {len(both)} together")
        return max(1, len(both) - min(len(expected), len(found)))
    bad = np.zeros(len(both), dtype=bool)
    for name in NAMES:
        ours, again = both[name].to_numpy(), both[f"{name}_again"].to_numpy()
        near = np.isclose(ours, again, rtol=1e-9, atol=1e-9, equal_nan=True)
        bad |= ~(near if name == "variance" else (ours == again) | (np.isnan(ours) & np.isnan(again)))
    if bad.any():
        print(f"{what}: {bad.sum()} differ, for example\n{both[bad].head(3).T}")
    return int(bad.sum())


def main(folder):
    streams = read(folder, "streams")
    arrivals = read(folder, "arrivals", ["time", "key", "id"])
    windows, answers = read(folder, "windows"), read(folder, "answers")
    bad, in_windows, in_answers = 0, [], []
    arrivals_of, answers_of = dict(list(arrivals.groupby("scenario"))), dict(list(answers.groupby("scenario")))
    for stream in streams.itertuples():
        events, late = accept(stream, arrivals_of[stream.scenario])
        lost = int(arrivals_of[stream.scenario]["time"].notna().sum()) - len(events)
        if (len(events), late, lost) != (stream.accepted, stream.late, stream.not_counted):
            print(f"stream {stream.scenario}: {len(events)} count, {late} late, {lost} do not; the engine says otherwise")
            bad += 1
        if stream.kind != "sliding" and len(events):
            in_windows.append(members_of_windows(stream, events))
        if stream.scenario in answers_of:
            for question in answers_of[stream.scenario].itertuples():
                members = members_of_answer(stream, events, question)
                in_answers.append(members.assign(n=question.n))
    found = aggregate(pd.concat(in_windows), ["scenario", "key", "start", "end"])
    bad += differing("windows", found, windows.set_index(["scenario", "key", "start", "end"]))
    answers = answers.set_index(["scenario", "n"])
    found = aggregate(pd.concat(in_answers), ["scenario", "n"]).reindex(answers.index)
    # Nothing happened: no event, no value, no word.
    for name in ("events", "values", "words"):
        found[name] = found[name].fillna(0.0)
    bad += differing("answers", found, answers)
    print(f"{len(streams)} streams, {len(windows)} windows, {len(answers)} answers: {bad} differ")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
