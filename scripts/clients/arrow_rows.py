"""Tables over /v1/models/{m}/predict, as pyarrow writes and reads them, beside the same rows as JSON."""

import io
import json

import pyarrow as pa
from target import Target, checks_of, known, run

ARROW = "application/vnd.apache.arrow.stream"
TREES = "lightgbm_binary.txt"


def stream(table, batch_rows=None):
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=batch_rows)
    return sink.getvalue()


def asked(target, model, body, kind, accept):
    headers = {"content-type": kind, "accept": accept}
    status, told, answer = target.exchange("POST", f"/v1/models/{model}/predict", body, headers)
    assert status == 200, answer
    assert told["content-type"].startswith(accept), told
    if accept == ARROW:
        return pa.ipc.open_stream(answer).read_all()
    return json.loads(answer)["predictions"]


def orders():
    return {
        "order_id": [f"a{n}" for n in range(4)],
        "at": ["2024-03-01T10:00:00Z", "2024-03-01T11:30:00Z", "2024-03-02T00:00:00Z", "2024-03-03T23:59:00Z"],
        "price": [20.0, None, 99.5, 5.25],
        "shop": ["web", "north", "south", "web"],
        "express": [True, False, True, False],
    }


def check_a_declared_model(target):
    columns = orders()
    rows = [dict(zip(columns, values)) for values in zip(*columns.values())]
    wanted = asked(target, "returned", json.dumps({"rows": rows}).encode(), "application/json", "application/json")
    for batch_rows in [None, 1]:
        table = asked(target, "returned", stream(pa.table(columns), batch_rows), ARROW, ARROW)
        assert table.column_names == ["id", "value", "label", "version"], table.schema
        assert table["value"].to_pylist() == [row["value"] for row in wanted]
        assert table["version"].to_pylist() == [1] * 4 and len(set(table["id"].to_pylist())) == 4
    mixed = asked(target, "returned", stream(pa.table(columns)), ARROW, "application/json")
    assert [row["value"] for row in mixed] == [row["value"] for row in wanted]


def check_types_that_other_tools_write(target):
    columns = orders()
    wanted = asked(target, "returned", stream(pa.table(columns)), ARROW, ARROW)["value"].to_pylist()
    times = pa.array(columns["at"]).cast(pa.timestamp("us", tz="UTC"))
    for at, shop in [
        (times, pa.array(columns["shop"]).dictionary_encode()),
        (times.cast(pa.timestamp("ns", tz="UTC")), pa.array(columns["shop"], pa.large_string())),
    ]:
        table = pa.table(columns | {"at": at, "shop": shop, "price": pa.array(columns["price"], pa.float32())})
        assert asked(target, "returned", stream(table), ARROW, ARROW)["value"].to_pylist() == wanted


def check_an_imported_model(target):
    x, answers = known(TREES)
    columns = {f"Column_{place}": pa.array(x[:, place]) for place in range(x.shape[1])}
    table = asked(target, "trees", stream(pa.table(columns)), ARROW, ARROW)
    wanted = answers["probability"].tolist()
    assert all(abs(a - b) < 1e-12 for a, b in zip(table["value"].to_pylist(), wanted)), table
    assert table["id"].null_count == len(x)
    finite = [row for row in x.tolist() if all(abs(v) < 1e300 for v in row)]
    rows = [{f"Column_{place}": value for place, value in enumerate(row)} for row in finite]
    answer = asked(target, "trees", json.dumps({"rows": rows}).encode(), "application/json", "application/json")
    by_row = {tuple(row): value for row, value in zip(x.tolist(), wanted)}
    assert all(abs(given["value"] - by_row[tuple(row)]) < 1e-12 for given, row in zip(answer, finite))
    assert all(given["label"] == int(given["value"] >= 0.5) for given in answer), answer[:3]


def check_what_is_wrong_is_told(target):
    x, _ = known(TREES)
    bodies = {
        "no Arrow": ("trees", b"nonsense", ARROW, 400),
        "a cut stream": ("trees", stream(pa.table({"Column_0": [1.0] * 100}))[:-200], ARROW, 400),
        "an unknown feature": ("trees", b'{"rows":[{"Colunm_0":1}]}', "application/json", 400),
        "text for a number": ("trees", b'{"rows":[{"Column_0":"x"}]}', "application/json", 400),
        "no rows key": ("trees", b"{}", "application/json", 400),
        "an unknown model": ("nobody", b'{"rows":[{}]}', "application/json", 404),
    }
    for what, (model, body, kind, wanted) in bodies.items():
        status, _, told = target.exchange("POST", f"/v1/models/{model}/predict", body, {"content-type": kind})
        assert status == wanted and json.loads(told)["error"], (what, status, told)


if __name__ == "__main__":
    run("arrow_rows", checks_of(globals()), Target(__doc__))
