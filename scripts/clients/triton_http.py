"""Triton's own HTTP clients, the plain one and the asyncio one, against a running server; raw bodies beside them."""

import asyncio
import gzip
import json
import ssl
import zlib

import numpy as np
import protocol
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from protocol import TREES
from target import TRACE, TRACEPARENT, Target, checks_of, close, known, receipted, run, same
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

KIB = 1024


def tensor(name, values, binary=True):
    made = triton.InferInput(name, list(values.shape), np_to_triton_dtype(values.dtype))
    return made.set_data_from_numpy(values, binary_data=binary)


class Kit:
    """HTTP as protocol.py wants it."""

    def __init__(self, target):
        self.target = target
        secure = {"ssl": True, "ssl_options": {"ca_certs": target.ca}} if target.ca else {}
        self.client = triton.InferenceServerClient(target.http, concurrency=8, **secure)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.close()

    def another(self):
        return Kit(self.target)

    @property
    def headers(self):
        # The client writes into the headers that it is given.
        return dict(self.target.headers)

    input = staticmethod(tensor)
    output = staticmethod(triton.InferRequestedOutput)

    def infer(self, model, inputs, headers=None, **more):
        return self.client.infer(model, inputs, headers=headers or self.headers, **more)

    def told(self, ask, *given):
        return ask(*given, headers=self.headers)

    def plain(self, tensor):
        return tensor["name"], tensor["datatype"], tensor["shape"]

    def config(self, model):
        return self.client.get_model_config(model, headers=self.headers)

    def index(self):
        return self.client.get_model_repository_index(headers=self.headers)

    def is_not_ready(self, model, version=""):
        return not self.client.is_model_ready(model, version, headers=self.headers)

    def response(self, result):
        return result.get_response()

    def parameters(self, result):
        return result.get_response()["parameters"]

    def refused(self, status, ask, *given, **named):
        if given:
            named.setdefault("headers", self.headers)
        try:
            ask(*given, **named)
        except InferenceServerException as error:
            assert error.status() == str(status), (status, error)
            return error.message()
        raise AssertionError(f"answered, where {status} is due")


def check_tensors_as_json(kit):
    x, answers = known(TREES)
    wanted = [triton.InferRequestedOutput("raw", binary_data=False), triton.InferRequestedOutput("probability")]
    for binary in [True, False]:
        result = kit.infer("trees", [tensor("input", x, binary)], outputs=wanted)
        # JSON carries the shortest form that gives the same bits.
        same(result.as_numpy("raw"), answers["raw"])
        close(result.as_numpy("probability"), answers["probability"])
        raw, probability = result.get_output("raw"), result.get_output("probability")
        assert "data" in raw and "binary_data_size" not in raw.get("parameters", {}), raw
        assert "data" not in probability and probability["parameters"]["binary_data_size"] == 8 * len(x), probability


def check_not_a_number_and_infinity_in_json(kit):
    x, answers = known(TREES)
    x = x.copy()
    x[0] = [np.nan, np.inf, -np.inf, 3, 0]
    wanted = kit.infer("trees", [tensor("input", x)]).as_numpy("raw")
    same(kit.infer("trees", [tensor("input", x, False)]).as_numpy("raw"), wanted)
    for nothing in ["NaN", "null", '"NaN"']:
        body = request([[nothing, "-Infinity", '"Infinity"', "Infinity", "0"]])
        status, _, told = kit.target.exchange("POST", "/v2/models/trees/infer", body)
        assert status == 200, told
    kit.target.need("identity")
    inputs = [tensor(name, values, name in ["fp16", "bf16"]) for name, values in protocol.DATATYPES.items()]
    wanted = [triton.InferRequestedOutput(f"{name}_out", binary_data=False) for name in ["fp32", "fp64"]]
    given = kit.infer("identity", inputs, outputs=wanted)
    # What JSON can't write comes back as null; the rest comes back as it was.
    assert given.get_output("fp64_out")["data"][:2] == [None, None], given.get_response()
    assert given.as_numpy("fp32_out")[1, 0] == np.float32(1e-45)


def request(rows, **more):
    """A request of JSON numbers as they are written."""
    data = ",".join("[" + ",".join(row) + "]" for row in rows)
    head = "".join(f'"{name}":{json.dumps(value)},' for name, value in more.items())
    tensor = f'{{"name":"input","datatype":"FP64","shape":[{len(rows)},5],"data":[{data}]}}'
    return f'{{{head}"inputs":[{tensor}]}}'.encode()


def check_all_datatypes_as_json(kit):
    kit.target.need("identity")
    binary_only = ["fp16", "bf16"]
    texts = np.array([["grün", ""], ['"quoted"', "line\nbreak \\ \u2028 \x01"]], np.object_)
    values = protocol.DATATYPES | {"bytes": texts, "fp32": np.array([[1.5, 0.1], [-0.0, 3e38]], np.float32)}
    inputs = [tensor(name, given, name in binary_only) for name, given in values.items()]
    wanted = [triton.InferRequestedOutput(f"{name}_out", binary_data=name in binary_only) for name in values]
    result = kit.infer("identity", inputs, outputs=wanted)
    for name, given in values.items():
        back = result.as_numpy(f"{name}_out")
        if name == "bytes":
            assert list(back.ravel()) == list(given.ravel())
        elif name == "fp64":
            assert np.isnan(back[0]).all() and (back[1] == given[1]).all(), back
        else:
            same(back, given)


def check_compression(kit):
    x, answers = known(TREES)
    many, raw = np.tile(x, (50, 1)), np.tile(answers["raw"], 50)
    for sent in [None, "gzip", "deflate"]:
        for wanted in [None, "gzip", "deflate"]:
            for binary in [True, False]:
                more = {"request_compression_algorithm": sent, "response_compression_algorithm": wanted}
                same(kit.infer("trees", [tensor("input", many, binary)], **more).as_numpy("raw"), raw)
    body = request([["0.5"] * 5] * 200)
    for name, packed in [("gzip", gzip.compress(body)), ("deflate", zlib.compress(body))]:
        headers = {"content-encoding": name, "accept-encoding": name}
        status, told, answer = kit.target.exchange("POST", "/v2/models/trees/infer", packed, headers)
        assert (status, told["content-encoding"]) == (200, name), (status, told)
        answer = gzip.decompress(answer) if name == "gzip" else zlib.decompress(answer)
        assert len(json.loads(answer)["outputs"][0]["data"]) == 200
    bomb = {"content-encoding": "gzip"}
    status, _, told = kit.target.exchange("POST", "/v2/models/trees/infer", gzip.compress(bytes(64 * KIB * KIB)), bomb)
    assert status == 413, told


def check_a_body_of_nothing_but_a_tensor(kit):
    x, answers = known(TREES)
    path, headers = "/v2/models/trees/infer", {"inference-header-content-length": "0"}
    status, told, answer = kit.target.exchange("POST", path, x.tobytes(), headers)
    length = int(told["inference-header-content-length"])
    assert status == 200 and told["content-type"] == "application/octet-stream", (status, told)
    head = json.loads(answer[:length])
    place = 0
    for output in head["outputs"]:
        size = output["parameters"]["binary_data_size"]
        blob = answer[length + place : length + place + size]
        if output["name"] == "raw":
            same(np.frombuffer(blob), answers["raw"])
        place += size
    assert length + place == len(answer)
    status, _, told = kit.target.exchange("POST", path, x.tobytes()[:-3], headers)
    assert status == 400, told


def check_malformed_requests_get_400(kit):
    good = request([["1", "2", "3", "4", "5"]])
    octets = {"content-type": "application/octet-stream"}
    length = lambda text: octets | {"inference-header-content-length": text}
    sized = lambda size, kind="FP64": json.dumps(
        {"inputs": [{"name": "input", "datatype": kind, "shape": [1, 5], "parameters": {"binary_data_size": size}}]}
    ).encode()
    bodies = {
        "nothing": (b"", {}),
        "no JSON": (b"{nonsense", {}),
        "a cut": (good[:-4], {}),
        "bytes": (b"\xff\xfe\x00\x01", {}),
        "deep": (b"[" * 100_000, {}),
        "a list": (b"[]", {}),
        "no inputs": (b"{}", {}),
        "inputs of text": (b'{"inputs": "x"}', {}),
        "an unknown datatype": (good.replace(b"FP64", b"FP8"), {}),
        "too few values": (good.replace(b"[1,5]", b"[1,6]"), {}),
        "too many values": (good.replace(b"[1,5]", b"[1,4]"), {}),
        "a negative length": (good.replace(b"[1,5]", b"[-1,5]"), {}),
        "a length beyond memory": (good.replace(b"[1,5]", b"[4611686018427387904,5]"), {}),
        "text for numbers": (good.replace(b"[1,2", b'["one",2'), {}),
        "a number that is no time": (request([["1"] * 5], parameters={"timeout": "soon"}), {}),
        "a head beyond the body": (good, length("9999999")),
        "a head of no length": (good, length("many")),
        "a negative head": (good, length("-1")),
        "a blob too short": (sized(40) + bytes(39), length(str(len(sized(40))))),
        "a blob too long": (sized(40) + bytes(41), length(str(len(sized(40))))),
        "a blob of another size": (sized(24) + bytes(24), length(str(len(sized(24))))),
        "a negative blob": (sized(-1) + bytes(40), length(str(len(sized(-1))))),
        "gzip that is none": (good, {"content-encoding": "gzip"}),
        "deflate that is none": (good, {"content-encoding": "deflate"}),
    }
    for what, (body, headers) in bodies.items():
        status, _, told = kit.target.exchange("POST", "/v2/models/trees/infer", body, headers)
        assert status == 400 and json.loads(told)["error"], (what, status, told)
    status, _, told = kit.target.exchange("POST", "/v2/models/trees/infer", good, {"content-encoding": "br"})
    assert status == 415, told
    status, _, told = kit.target.exchange("GET", "/v2/models/trees/infer")
    assert status == 405, told
    status, _, told = kit.target.exchange("POST", "/v2/models/trees/infer", good)
    assert status == 200, told


def check_traces_and_receipts(kit):
    body = request([["1", "2", "3", "4", "5"]])
    for path in ["/v2/models/trees/infer", "/v2/models/nobody/infer"]:
        status, told, _ = kit.target.exchange("POST", path, body, {"traceparent": TRACEPARENT})
        assert told["traceparent"].split("-")[1] == TRACE and told["traceparent"] != TRACEPARENT, told
        receipted(told["server-timing"], answered=status == 200)
    _, first, _ = kit.target.exchange("POST", "/v2/models/trees/infer", body)
    _, second, _ = kit.target.exchange("POST", "/v2/models/trees/infer", body)
    assert first["traceparent"].split("-")[1] != second["traceparent"].split("-")[1]


def check_asynchronous_requests(kit):
    x, answers = known(TREES)
    asked = [kit.client.async_infer("trees", [tensor("input", x)], headers=kit.headers) for _ in range(30)]
    bad = kit.client.async_infer("nobody", [tensor("input", x)], headers=kit.headers)
    for one in asked:
        same(one.get_result(timeout=30).as_numpy("raw"), answers["raw"])
    assert "nobody" in kit.refused(404, lambda: bad.get_result(timeout=30))


def check_the_asyncio_client(kit):
    asyncio.run(by_asyncio(kit))


async def by_asyncio(kit):
    target = kit.target
    context = ssl.create_default_context(cafile=target.ca) if target.ca else None
    x, answers = known(TREES)
    async with triton_aio.InferenceServerClient(target.http, ssl=bool(target.ca), ssl_context=context) as client:
        headers = kit.headers
        assert await client.is_server_live(headers=headers) and await client.is_server_ready(headers=headers)
        assert (await client.get_model_metadata("trees", headers=kit.headers))["name"] == "trees"
        assert (await client.get_model_config("trees", headers=kit.headers))["max_batch_size"] > 1
        assert (await client.get_inference_statistics("trees", headers=kit.headers))["model_stats"]

        async def one(place):
            more = {"request_compression_algorithm": ["gzip", "deflate", None][place % 3], "request_id": str(place)}
            given = [tensor("input", x, place % 2 == 0)]
            result = await client.infer("trees", given, headers=kit.headers, **more)
            same(result.as_numpy("raw"), answers["raw"])
            assert result.get_response()["id"] == str(place)

        await asyncio.wait_for(asyncio.gather(*(one(place) for place in range(50))), timeout=60)
        for status, model, values in [("404", "nobody", x), ("400", "trees", np.zeros((2, 3)))]:
            try:
                await client.infer(model, [tensor("input", values)], headers=kit.headers)
                raise AssertionError(f"answered, where {status} is due")
            except InferenceServerException as error:
                assert error.status() == status, error


if __name__ == "__main__":
    target = Target(__doc__)
    run("triton_http", checks_of(vars(protocol), globals()), Kit(target))
