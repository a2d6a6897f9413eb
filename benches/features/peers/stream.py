"""Tumbling windows of a minute with count and mean by key, over the events of crates/features/examples/tumbling_rate.rs.

The events are objects in memory before the clock starts. Bytewax is a stream processor as Homeostat is; pandas and Polars
group the whole table at once, which no stream can, and stand here as what the arithmetic alone costs.
"""

import argparse
import datetime

from common import Clock, answer

START_US = 1_699_999_200_000_000
MINUTE_US = 60_000_000
MASK = (1 << 64) - 1


def events(count, keys):
    """Instants in microseconds, keys and values, by Knuth's MMIX generator."""
    dice = 1

    def draw(below):
        nonlocal dice
        dice = (dice * 6_364_136_223_846_793_005 + 1_442_695_040_888_963_407) & MASK
        return (dice >> 33) % below

    return [(START_US + place * 1000 - draw(5_000_000), draw(keys), draw(1_000_000) / 100.0) for place in range(count)]


def bytewax(made):
    import bytewax.operators as op
    import bytewax.operators.windowing as win
    from bytewax.dataflow import Dataflow
    from bytewax.testing import TestingSink, TestingSource, run_main

    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    made = [(str(key), (epoch + datetime.timedelta(microseconds=at), x)) for at, key, x in made]
    found = []

    def fold(state, event):
        return state[0] + 1, state[1] + event[1]

    def run():
        flow = Dataflow("tumbling")
        keyed = op.input("events", flow, TestingSource(made, batch_size=1024))
        clock = win.EventClock(ts_getter=lambda event: event[0], wait_for_system_duration=datetime.timedelta(seconds=5))
        windower = win.TumblingWindower(length=datetime.timedelta(minutes=1), align_to=epoch)
        folded = win.fold_window("minute", keyed, clock, windower, lambda: (0, 0.0), fold, lambda a, b: (a[0] + b[0], a[1] + b[1]))
        means = op.map("mean", folded.down, lambda one: (one[0], one[1][0], one[1][1][0], one[1][1][1] / one[1][1][0]))
        op.output("out", means, TestingSink(found))
        run_main(flow)
        return len(found), sum(one[2] for one in found)

    return run


def pandas(made):
    import pandas as pd

    frame = pd.DataFrame(made, columns=["at", "key", "x"])

    def run():
        found = frame.groupby([frame["at"] // MINUTE_US, "key"])["x"].agg(["count", "mean"])
        return len(found), int(found["count"].sum())

    return run


def polars(made):
    import polars as pl

    frame = pl.DataFrame(made, schema=["at", "key", "x"], orient="row")

    def run():
        found = frame.group_by(pl.col("at") // MINUTE_US, "key").agg(pl.len().alias("count"), pl.col("x").mean())
        return len(found), int(found["count"].sum())

    return run


def main():
    peers = {"bytewax": bytewax, "pandas": pandas, "polars": polars}
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer", required=True, choices=peers)
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--keys", type=int, default=1000)
    asked = parser.parse_args()
    run = peers[asked.peer](events(asked.events, asked.keys))
    with Clock() as clock:
        windows, counted = run()
    answer(events=asked.events, keys=asked.keys, seconds=clock.seconds, cpu_seconds=clock.cpu_seconds,
           events_per_cpu_second=asked.events / clock.cpu_seconds, windows=windows, counted=counted)


if __name__ == "__main__":
    main()
