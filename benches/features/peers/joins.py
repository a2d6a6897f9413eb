"""For each question the newest fact of its key at or before its instant, by the peers' own operators.

Both tables are in memory and sorted by time before the clock starts, as pandas and Polars demand; the result is in memory.
`matched` and `sum` must agree.
"""

import argparse

from common import Clock, answer


def pandas(left, right):
    import pandas as pd

    left, right = pd.read_parquet(left), pd.read_parquet(right)
    return lambda: pd.merge_asof(left, right, on="at", by="key")["value"]


def polars(left, right):
    import polars as pl

    left, right = pl.read_parquet(left).set_sorted("at"), pl.read_parquet(right).set_sorted("at")
    return lambda: left.join_asof(right, on="at", by="key", check_sortedness=False)["value"].to_pandas()


def duckdb(left, right):
    import duckdb

    session = duckdb.connect()
    session.sql("SET threads = 1")
    for name, path in [("l", left), ("r", right)]:
        session.sql(f"CREATE TABLE {name} AS SELECT * FROM read_parquet('{path}')")
    asked = "SELECT l.row, r.value FROM l ASOF LEFT JOIN r ON l.key = r.key AND l.at >= r.at"
    return lambda: session.sql(asked).to_arrow_table()["value"].to_pandas()


def main():
    peers = {"pandas": pandas, "polars": polars, "duckdb": duckdb}
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer", required=True, choices=peers)
    parser.add_argument("left")
    parser.add_argument("right")
    asked = parser.parse_args()
    join = peers[asked.peer](asked.left, asked.right)
    with Clock() as clock:
        values = join()
    answer(rows=len(values), seconds=clock.seconds, cpu_seconds=clock.cpu_seconds, matched=int(values.notna().sum()), sum=float(values.sum()))


if __name__ == "__main__":
    main()
