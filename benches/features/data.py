"""What the comparisons are made on: the flights example's rows with its contract and model, and tables to join.

  benches/features/.venv/bin/python benches/features/data.py
"""

import json
import pathlib
import tomllib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
EXAMPLE = ROOT / "examples" / "flights"
WORK = HERE / "work"
FLIGHTS, CONTRACT, MODEL = WORK / "flights.parquet", WORK / "contract.json", WORK / "model.json"
JOIN_KEYS = 1000


def flights():
    """The example's query on DataFusion: one row for each flight of 2013 from New York, by time."""
    WORK.mkdir(exist_ok=True)
    for path, name in [(CONTRACT, "contracts/flights.toml"), (MODEL, "models/arrival.toml")]:
        path.write_text(json.dumps(tomllib.loads((EXAMPLE / name).read_text())))
    if FLIGHTS.is_file():
        return
    import datafusion

    session = datafusion.SessionContext()
    for table in ("flights", "weather", "planes", "airports"):
        session.register_parquet(table, str(EXAMPLE / "data" / f"{table}.parquet"))
    rows = pa.Table.from_batches(session.sql((EXAMPLE / "data" / "arrival.sql").read_text()).collect())
    contract = json.loads(CONTRACT.read_text())
    kinds = {"string": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(),
             "timestamp": pa.timestamp("us", "UTC")}
    rows = pa.table({one["name"]: rows[one["name"]].cast(kinds[one["type"]]) for one in contract["column"]})
    rows = rows.filter(pc.is_valid(rows["late"])).sort_by("event_time")
    pq.write_table(rows, FLIGHTS, compression="zstd")


def joins(rows):
    """`rows` questions and ten times as many facts of JOIN_KEYS keys over a year, each by time. Paths of both."""
    WORK.mkdir(exist_ok=True)
    paths = []
    for place, (name, count) in enumerate([("left", rows), ("right", 10 * rows)]):
        path = WORK / f"{name}_{rows}.parquet"
        paths.append(path)
        if path.is_file():
            continue
        draw = np.random.default_rng(place + 1)
        # A second apart at least on average; the same microsecond hardly ever twice, so that ties decide nothing.
        at = np.sort(draw.integers(0, 365 * 86_400_000_000, count)) + 1_356_998_400_000_000
        table = {"key": pa.array(draw.integers(0, JOIN_KEYS, count)), "at": pa.array(at, pa.timestamp("us", "UTC"))}
        if name == "right":
            table["value"] = pa.array(draw.integers(0, 1 << 20, count).astype("float64"))
        else:
            table["row"] = pa.array(np.arange(count))
        pq.write_table(pa.table(table), path, compression="snappy")
    return paths


if __name__ == "__main__":
    flights()
    joins(300_000)
