"""What Triton's clients must get over HTTP and over gRPC alike; each check is given a kit that knows the transport."""

import json
from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import numpy as np
from target import Skipped, close, known, same

TREES, BOOSTED, MANY = "lightgbm_binary.txt", "xgboost_binary.json", "lightgbm_multiclass.txt"

COMPUTING = ["compute_input", "compute_infer", "compute_output"]

DATATYPES = {
    "bool": np.array([[True, False], [False, True]]),
    "uint8": np.array([[0, 255], [1, 2]], np.uint8),
    "uint16": np.array([[0, 65535], [1, 2]], np.uint16),
    "uint32": np.array([[0, 2**32 - 1], [1, 2]], np.uint32),
    "uint64": np.array([[0, 2**64 - 1], [1, 2]], np.uint64),
    "int8": np.array([[-128, 127], [1, 2]], np.int8),
    "int16": np.array([[-(2**15), 2**15 - 1], [1, 2]], np.int16),
    "int32": np.array([[-(2**31), 2**31 - 1], [1, 2]], np.int32),
    "int64": np.array([[-(2**63), 2**63 - 1], [1, 2]], np.int64),
    "fp16": np.array([[np.nan, -65504], [6e-8, np.inf]], np.float16),
    "bf16": np.array([[1.5, -3e38], [0, 1e-38]], ml_dtypes.bfloat16),
    "fp32": np.array([[np.nan, -np.inf], [1e-45, 3.4e38]], np.float32),
    "fp64": np.array([[np.nan, np.inf], [5e-324, -0.0]], np.float64),
    "bytes": np.array([["grün", ""], ["a\tb", "x" * 3000]], np.object_),
    "scalar": np.array(1.25, np.float32),
}

ORDERS = {
    "at": ["2024-03-01T10:00:00Z", "2024-03-01T23:15:00Z", "2024-03-02T05:30:00Z"],
    "price": [21.0, float("nan"), 99.5],
    "shop": ["web", "north", "south"],
    "express": [True, False, True],
}


def check_health(kit):
    client, headers = kit.client, kit.headers
    assert client.is_server_live(headers=headers) and client.is_server_ready(headers=headers)
    for model in ["returned", "trees", "boosted"]:
        assert client.is_model_ready(model, headers=headers), model
    assert client.is_model_ready("trees", "1", headers=headers)
    assert kit.is_not_ready("nobody") and kit.is_not_ready("trees", "7")


def check_server_metadata(kit):
    told = kit.told(kit.client.get_server_metadata)
    assert told["name"] == "homeostat" and told["version"], told
    for extension in ["binary_tensor_data", "classification", "statistics", "model_configuration", "schedule_policy"]:
        assert extension in told["extensions"], extension


def check_model_metadata(kit):
    told = kit.told(kit.client.get_model_metadata, "trees")
    assert (told["name"], told["versions"]) == ("trees", ["1"]) and told["platform"], told
    assert [kit.plain(tensor) for tensor in told["inputs"]] == [("input", "FP64", [-1, 5])], told
    assert {tensor["name"] for tensor in told["outputs"]} == {"raw", "probability"}, told
    told = kit.told(kit.client.get_model_metadata, "returned")
    kinds = {tensor["name"]: tensor["datatype"] for tensor in told["inputs"]}
    assert kinds.items() >= {"price": "FP64", "shop": "BYTES", "express": "BOOL"}.items(), kinds
    assert [kit.plain(tensor) for tensor in told["outputs"]] == [("probability", "FP64", [-1])], told
    kit.refused(404, kit.client.get_model_metadata, "nobody")
    kit.refused(404, kit.client.get_model_metadata, "trees", "7")


def check_model_config(kit):
    config = kit.config("trees")
    assert config["name"] == "trees" and config["max_batch_size"] > 1, config
    (given,) = config["input"]
    dims = [int(length) for length in given["dims"]]
    assert (given["name"], given["data_type"], dims) == ("input", "TYPE_FP64", [5]), config
    kit.refused(404, kit.client.get_model_config, "nobody")


def check_statistics_count_requests(kit):
    def counted():
        (stats,) = kit.told(kit.client.get_inference_statistics, "boosted")["model_stats"]
        parts = stats["inference_stats"]
        counts = [int(parts[name].get("count", 0)) for name in ["success", "queue", "cache_hit", *COMPUTING]]
        return np.array([int(stats.get("inference_count", 0)), int(parts["success"].get("ns", 0)), *counts])

    x = np.random.default_rng().normal(size=(20, 5)).astype(np.float32)
    before = counted()
    for _ in range(3):
        kit.infer("boosted", [kit.input("input", x)])
    rows, ns, success, queue, hits, *computing = counted() - before
    assert (success, queue, rows) == (3, 3, (3 - hits) * len(x)) and ns > 0, (success, queue, rows, hits)
    assert computing == [3 - hits] * 3, (computing, hits)
    names = {stats["name"] for stats in kit.told(kit.client.get_inference_statistics)["model_stats"]}
    assert {"trees", "boosted", "returned"} <= names, names


def check_repository(kit):
    client, headers = kit.client, kit.target.operator_headers
    lines = {line["name"]: line for line in kit.index()}
    assert lines["trees"]["version"] == "1" and lines["trees"]["state"] == "READY", lines
    if kit.target.key:
        kit.refused(403, client.unload_model, "trees", headers=kit.headers)
        kit.refused(403, client.load_model, "trees", headers=kit.headers)
    x, answers = known(TREES)
    client.unload_model("trees", headers=headers)
    assert kit.is_not_ready("trees")
    assert {line["name"]: line["state"] for line in kit.index()}["trees"] == "UNAVAILABLE"
    kit.refused(503, kit.infer, "trees", [kit.input("input", x)])
    client.load_model("trees", headers=headers)
    assert client.is_model_ready("trees", headers=kit.headers)
    same(kit.infer("trees", [kit.input("input", x)]).as_numpy("raw"), answers["raw"])
    kit.refused(404, client.load_model, "nobody", headers=headers)
    kit.refused(404, client.unload_model, "nobody", headers=headers)
    kit.refused(409, client.unload_model, "returned", headers=headers)
    kit.refused(400, client.load_model, "trees", headers=headers, config='{"max_batch_size": 1}')


def check_known_answers(kit):
    for model, file in [("trees", TREES), ("boosted", BOOSTED)]:
        x, answers = known(file)
        result = kit.infer(model, [kit.input("input", x)])
        same(result.as_numpy("raw"), answers["raw"])
        close(result.as_numpy("probability"), answers["probability"])
        for row in [0, 7, len(x) - 1]:
            alone = kit.infer(model, [kit.input("input", x[row : row + 1])])
            same(alone.as_numpy("probability"), result.as_numpy("probability")[row : row + 1])
        again = kit.infer(model, [kit.input("input", x)], model_version="1")
        same(again.as_numpy("probability"), result.as_numpy("probability"))


def check_only_the_requested_outputs(kit):
    x, answers = known(TREES)
    result = kit.infer("trees", [kit.input("input", x)], outputs=[kit.output("raw")])
    same(result.as_numpy("raw"), answers["raw"])
    assert result.as_numpy("probability") is None
    kit.refused(400, kit.infer, "trees", [kit.input("input", x)], outputs=[kit.output("probabilty")])


def check_classification(kit):
    if kit.target.key:
        x, _ = known(MANY)
        kit.refused(403, kit.infer, "many", [kit.input("input", x)])
        raise Skipped("this key may not ask the model of several classes (it was refused rightly)")
    x, answers = known(MANY)
    result = kit.infer("many", [kit.input("input", x)], outputs=[kit.output("probabilities", class_count=2)])
    classes = result.as_numpy("probabilities")
    assert classes.shape == (len(x), 2)
    for row, (first, second) in zip(answers["probabilities"], classes):
        value, place = first.decode().split(":")[:2]
        assert int(place) == row.argmax() and abs(float(value) - row.max()) < 1e-9, (row, first)
        assert float(second.decode().split(":")[0]) <= float(value)


def check_identity_of_all_datatypes(kit):
    kit.target.need("identity")
    inputs = [kit.input(name, values) for name, values in DATATYPES.items()]
    result = kit.infer("identity", inputs)
    for name, values in DATATYPES.items():
        given = result.as_numpy(f"{name}_out")
        if name == "bytes":
            assert [text.decode() for text in given.ravel()] == list(values.ravel())
        else:
            same(given, values)


def check_texts(kit):
    words = np.array(["red", "grün", "", "unknown"], np.object_)
    result = kit.infer("words", [kit.input("word", words)])
    assert list(result.as_numpy("place")) == [1, 2, 3, -1]
    assert [text.decode() for text in result.as_numpy("same")] == list(words)


def orders(kit):
    columns = kit.told(kit.client.get_model_metadata, "returned")["inputs"]
    kinds = {"FP64": np.float64, "BOOL": np.bool_, "BYTES": np.object_, "INT64": np.int64}
    given = [(column["name"], kinds[column["datatype"]]) for column in columns if column["name"] in ORDERS]
    keys = np.array(["n1", "n2", "n3"], np.object_)
    extra = [kit.input(c["name"], keys) for c in columns if c["name"] == "order_id"]
    return extra + [kit.input(name, np.array(ORDERS[name], kind)) for name, kind in given]


def check_a_declared_model_takes_raw_columns(kit):
    result = kit.infer("returned", orders(kit))
    given = result.as_numpy("probability")
    assert given.shape == (3,) and ((0 < given) & (given < 1)).all(), given
    rows = [{name: values[at] for name, values in ORDERS.items()} for at in range(3)]
    rows = [{k: v for k, v in row.items() if v == v} for row in rows]
    body = json.dumps({"rows": [row | {"order_id": f"n{at}"} for at, row in enumerate(rows)]}).encode()
    status, _, told = kit.target.exchange("POST", "/v1/models/returned/predict", body)
    assert status == 200, told
    assert [row["probability"] for row in json.loads(told)["predictions"]] == list(given)
    ids = kit.parameters(result)["prediction_ids"].split(",")
    assert len(ids) == 3
    status, _, told = kit.target.exchange("GET", f"/v1/predictions/{ids[0]}")
    assert status == 200 and json.loads(told)["row"]["shop"] == "web", told


def check_id_priority_timeout(kit):
    x, answers = known(TREES)
    result = kit.infer("trees", [kit.input("input", x)], request_id="r-17", priority=1, timeout=30_000_000)
    same(result.as_numpy("raw"), answers["raw"])
    response = kit.response(result)
    assert (response["id"], response["model_name"], response["model_version"]) == ("r-17", "trees", "1"), response
    kit.infer("trees", [kit.input("input", x)], parameters={"colour": "green", "depth": 3, "flag": True})
    kit.refused(504, kit.infer, "trees", [kit.input("input", x + 0.001)], timeout=1)


def check_large_batches(kit):
    x, answers = known(TREES)
    many = np.tile(x, (300, 1))
    result = kit.infer("trees", [kit.input("input", many)])
    same(result.as_numpy("raw"), np.tile(answers["raw"], 300))
    kit.refused(413, kit.infer, "trees", [kit.input("input", np.tile(x, (400, 1)))])


def check_errors_name_what_is_wrong(kit):
    x, _ = known(TREES)
    ask = lambda name, values, model="trees", **more: lambda: kit.infer(model, [kit.input(name, values)], **more)
    kit.refused(404, ask("input", x, "nobody"))
    kit.refused(404, ask("input", x, model_version="7"))
    assert "is missing" in kit.refused(400, ask("inptu", x))
    assert "[3, 2]" in kit.refused(400, ask("input", np.zeros((3, 2))))
    assert "FP64" in kit.refused(400, ask("input", np.array([["a"] * 5], np.object_)))
    assert "no rows" in kit.refused(400, ask("input", np.zeros((0, 5))))
    kit.refused(400, lambda: kit.infer("trees", [kit.input("input", x), kit.input("more", x)]))


def check_many_callers_at_once(kit):
    x, answers = known(TREES)

    def ask(row):
        with kit.another() as other:
            for place in range(row, row + 5):
                place %= len(x)
                given = other.infer("trees", [other.input("input", x[place : place + 1])])
                same(given.as_numpy("raw"), answers["raw"][place : place + 1])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(24)))


def check_keys(kit):
    if not kit.target.key:
        raise Skipped("no tenants are declared")
    x, _ = known(TREES)
    for headers in [{}, {"authorization": "Bearer hs_wrong"}, {"authorization": kit.target.key + "x"}]:
        kit.refused(401, lambda: kit.client.infer("trees", [kit.input("input", x)], headers=headers))
