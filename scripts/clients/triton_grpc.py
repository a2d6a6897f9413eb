"""Triton's own gRPC clients, the plain one and the asyncio one, against a running server; streams, deadlines,
cancellation, health and reflection beside them."""

import asyncio
import queue

import grpc
import numpy as np
import protocol
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from google.protobuf.json_format import MessageToDict
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from protocol import TREES
from target import GRPC_CODES, TRACE, TRACEPARENT, Target, checks_of, known, receipted, run, same, until
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

PATIENCE = 30


def tensor(name, values):
    made = triton.InferInput(name, list(values.shape), np_to_triton_dtype(values.dtype))
    return made.set_data_from_numpy(values)


class Kit:
    """gRPC as protocol.py wants it."""

    def __init__(self, target):
        self.target = target
        self.headers = target.headers
        self.secure = {"ssl": True, "root_certificates": target.ca} if target.ca else {}
        self.client = triton.InferenceServerClient(target.grpc, **self.secure)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.close()

    def another(self):
        return Kit(self.target)

    def channel(self):
        if not self.target.ca:
            return grpc.insecure_channel(self.target.grpc)
        with open(self.target.ca, "rb") as file:
            return grpc.secure_channel(self.target.grpc, grpc.ssl_channel_credentials(file.read()))

    def metadata(self, **more):
        return list((self.headers | more).items())

    input = staticmethod(tensor)
    output = staticmethod(triton.InferRequestedOutput)

    def infer(self, model, inputs, headers=None, **more):
        return self.client.infer(model, inputs, headers=headers or self.headers, client_timeout=PATIENCE, **more)

    def told(self, ask, *given):
        return MessageToDict(ask(*given, headers=self.headers), preserving_proto_field_name=True)

    def plain(self, tensor):
        return tensor["name"], tensor["datatype"], [int(length) for length in tensor["shape"]]

    def config(self, model):
        return self.told(self.client.get_model_config, model)["config"]

    def index(self):
        return self.told(self.client.get_model_repository_index)["models"]

    def is_not_ready(self, model, version=""):
        try:
            return not self.client.is_model_ready(model, version, headers=self.headers)
        except InferenceServerException as error:
            return error.status() == "StatusCode.NOT_FOUND"

    def response(self, result):
        return MessageToDict(result.get_response(), preserving_proto_field_name=True)

    def parameters(self, result):
        named = result.get_response().parameters.items()
        return {name: getattr(value, value.WhichOneof("parameter_choice")) for name, value in named}

    def refused(self, status, ask, *given, **named):
        if given:
            named.setdefault("headers", self.headers)
        try:
            ask(*given, **named)
        except InferenceServerException as error:
            assert error.status() == f"StatusCode.{GRPC_CODES[status]}", (status, error)
            return error.message()
        raise AssertionError(f"answered, where {GRPC_CODES[status]} is due")


def check_compression(kit):
    x, answers = known(TREES)
    for name in ["gzip", "deflate"]:
        result = kit.infer("trees", [tensor("input", np.tile(x, (50, 1)))], compression_algorithm=name)
        same(result.as_numpy("raw"), np.tile(answers["raw"], 50))


def check_contents_beside_raw_bytes(kit):
    """A message whose numbers stand in its typed fields, as clients of other languages write them."""
    x, answers = known(TREES)
    with kit.channel() as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        contents = service_pb2.InferTensorContents(fp64_contents=x.ravel().tolist())
        given = {"name": "input", "datatype": "FP64", "shape": list(x.shape), "contents": contents}
        message = service_pb2.ModelInferRequest(model_name="trees", inputs=[given])
        answer = stub.ModelInfer(message, metadata=kit.metadata(), timeout=PATIENCE)
        place = [output.name for output in answer.outputs].index("raw")
        same(np.frombuffer(answer.raw_output_contents[place]), answers["raw"])
        message.raw_input_contents.append(x.tobytes())
        given = code(lambda: stub.ModelInfer(message, metadata=kit.metadata(), timeout=PATIENCE))
        assert given == grpc.StatusCode.INVALID_ARGUMENT, "contents and raw bytes at once"


def code(ask):
    try:
        ask()
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def check_traces_and_receipts(kit):
    x, _ = known(TREES)
    given = {"name": "input", "datatype": "FP64", "shape": list(x.shape)}
    message = service_pb2.ModelInferRequest(model_name="trees", inputs=[given], raw_input_contents=[x.tobytes()])
    with kit.channel() as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        _, call = stub.ModelInfer.with_call(message, metadata=kit.metadata(traceparent=TRACEPARENT), timeout=PATIENCE)
        told = dict(call.initial_metadata())
        assert told["traceparent"].split("-")[1] == TRACE and told["traceparent"] != TRACEPARENT, told
        receipted(told["server-timing"])


def check_callbacks(kit):
    x, answers = known(TREES)
    came = queue.Queue()
    for place in range(30):
        model = "nobody" if place == 7 else "trees"
        kit.client.async_infer(
            model,
            [tensor("input", x)],
            lambda result, error: came.put((result, error)),
            request_id=str(place),
            headers=kit.headers,
        )
    ids, errors = set(), []
    for _ in range(30):
        result, error = came.get(timeout=PATIENCE)
        if error:
            errors.append(error.status())
        else:
            same(result.as_numpy("raw"), answers["raw"])
            ids.add(result.get_response().id)
    assert errors == ["StatusCode.NOT_FOUND"] and len(ids) == 29, (errors, ids)


def check_streams_outlive_errors(kit):
    x, answers = known(TREES)
    came = queue.Queue()
    kit.client.start_stream(lambda result, error: came.put((result, error)), headers=kit.headers)
    for place in range(40):
        model = "nobody" if place == 11 else "trees"
        values = np.zeros((2, 3)) if place == 12 else x
        kit.client.async_stream_infer(
            model, [tensor("input", values)], request_id=str(place), enable_empty_final_response=True
        )
    for place in range(40):
        result, error = came.get(timeout=PATIENCE)
        if place in [11, 12]:
            assert error and ("nobody" in error.message() or "shape" in error.message()), (place, error)
            continue
        assert not error, error
        same(result.as_numpy("raw"), answers["raw"])
        response = result.get_response()
        assert response.id == str(place), "answers of a stream come in the requests' order"
        assert response.parameters["triton_final_response"].bool_param
        receipted(response.parameters["server-timing"].string_param)
    kit.client.stop_stream()


def check_deadlines(kit):
    x, _ = known(TREES)
    # Ten megabytes there and back take longer than two milliseconds.
    words = tensor("word", np.array([f"{place:01000}" for place in range(10_000)], np.object_))
    assert kit.infer("words", [words]).as_numpy("same").shape == (10_000,)
    try:
        kit.client.infer("words", [words], headers=kit.headers, client_timeout=0.002)
        raise AssertionError("answered within two milliseconds")
    except InferenceServerException as error:
        assert error.status() == "StatusCode.DEADLINE_EXCEEDED", error
    with kit.channel() as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        message = service_pb2.ModelInferRequest(model_name="trees")
        odd = [("grpc-timeout", "soon")]
        assert code(lambda: stub.ModelInfer(message, metadata=kit.metadata() + odd)) != grpc.StatusCode.OK
    kit.infer("trees", [tensor("input", x)])


def check_cancellation(kit):
    x, answers = known(TREES)
    many = np.tile(x, (340, 1))
    came = queue.Queue()
    answer = lambda result, error: came.put(error)
    for _ in range(10):
        call = kit.client.async_infer("trees", [tensor("input", many)], answer, headers=kit.headers)
        call.cancel()
    codes = {str(error.status()) if error else "answered" for error in (came.get(timeout=PATIENCE) for _ in range(10))}
    assert codes <= {"StatusCode.CANCELLED", "answered"} and "StatusCode.CANCELLED" in codes, codes
    kit.client.start_stream(lambda result, error: came.put(error), headers=kit.headers)
    for _ in range(20):
        kit.client.async_stream_infer("trees", [tensor("input", many)])
    kit.client.stop_stream(cancel_requests=True)
    same(kit.infer("trees", [tensor("input", x)]).as_numpy("raw"), answers["raw"])
    until("no request is in work", lambda: in_work(kit) == 0)


def in_work(kit):
    status, _, body = kit.target.exchange("GET", "/metrics")
    assert status == 200, body
    lines = [line.split() for line in body.decode().splitlines() if not line.startswith("#")]
    return sum(float(value) for name, value in lines if name.split("{")[0] == "homeostat_requests_in_work")


def check_a_message_beyond_the_limit(kit):
    with kit.channel() as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        message = service_pb2.ModelInferRequest(model_name="trees", raw_input_contents=[bytes(20 << 20)])
        given = code(lambda: stub.ModelInfer(message, metadata=kit.metadata(), timeout=PATIENCE))
        allowed = [grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INVALID_ARGUMENT]
        assert given in allowed, given
    assert kit.client.is_server_live(headers=kit.headers)


def check_the_health_service(kit):
    with kit.channel() as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        serving = health_pb2.HealthCheckResponse.SERVING
        for service in ["", "inference.GRPCInferenceService"]:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE)
            assert answer.status == serving, (service, answer)
        unknown = health_pb2.HealthCheckRequest(service="nobody")
        assert code(lambda: stub.Check(unknown, timeout=PATIENCE)) == grpc.StatusCode.NOT_FOUND
        watched = stub.Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
        assert next(watched).status == serving
        watched.cancel()


def check_reflection(kit):
    with kit.channel() as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        names = set(database.get_services())
        assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= names, names
        file = database.FindFileContainingSymbol("inference.GRPCInferenceService")
        methods = {method.name for service in file.service for method in service.method}
        assert {"ModelInfer", "ModelStreamInfer", "RepositoryIndex", "ModelStatistics"} <= methods, methods


def check_the_asyncio_client(kit):
    asyncio.run(asyncio.wait_for(by_asyncio(kit), timeout=120))


async def by_asyncio(kit):
    x, answers = known(TREES)
    headers = kit.headers
    async with triton_aio.InferenceServerClient(kit.target.grpc, **kit.secure) as client:
        assert await client.is_server_ready(headers=headers) and await client.is_model_ready("trees", headers=headers)
        assert (await client.get_model_metadata("trees", headers=headers)).name == "trees"
        ask = lambda: client.infer("trees", [tensor("input", x)], headers=headers)
        for result in await asyncio.gather(*(ask() for _ in range(50))):
            same(result.as_numpy("raw"), answers["raw"])
        try:
            await client.infer("nobody", [tensor("input", x)], headers=headers)
            raise AssertionError("answered for a model that is not there")
        except InferenceServerException as error:
            assert error.status() == "StatusCode.NOT_FOUND", error

        async def requests():
            for place in range(20):
                model = "nobody" if place == 5 else "trees"
                yield {"model_name": model, "inputs": [tensor("input", x)], "request_id": str(place)}

        came = [pair async for pair in client.stream_infer(requests(), stream_timeout=PATIENCE, headers=headers)]
        assert len(came) == 20 and [place for place, (_, error) in enumerate(came) if error] == [5], came
        for result, error in came:
            if not error:
                same(result.as_numpy("raw"), answers["raw"])


if __name__ == "__main__":
    target = Target(__doc__)
    run("triton_grpc", checks_of(vars(protocol), globals()), Kit(target))
