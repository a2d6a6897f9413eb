"""The KServe SDK's clients, REST and gRPC, against a running server."""

import asyncio
import logging
import sys

# The package reads the command line, as its server's, when it is imported.
ARGUMENTS, sys.argv[1:] = sys.argv[1:], []

import grpc
import httpx
import numpy as np
from kserve import InferInput, InferRequest, InferenceGRPCClient, InferenceRESTClient, RESTConfig
from kserve.protocol.infer_type import RequestedOutput
from target import Target, checks_of, close, known, run, same

TREES = "lightgbm_binary.txt"
PATIENCE = 60


def requested(values, binary, **more):
    tensor = InferInput("input", list(values.shape), "FP64")
    tensor.set_data_from_numpy(values, binary_data=binary)
    return InferRequest("trees", [tensor], **more)


def rest(target, ask):
    async def asked():
        verify = target.ca or True
        async with InferenceRESTClient(RESTConfig(protocol="v2", verify=verify, timeout=PATIENCE)) as client:
            return await ask(client)

    return asyncio.run(asyncio.wait_for(asked(), PATIENCE))


def by_grpc(target, ask):
    async def asked():
        secure = {"use_ssl": True, "root_certificates": target.ca} if target.ca else {}
        async with InferenceGRPCClient(target.grpc, timeout=PATIENCE, **secure) as client:
            return await ask(client)

    return asyncio.run(asyncio.wait_for(asked(), PATIENCE))


def output(result, name):
    return next(output.as_numpy() for output in result.outputs if output.name == name)


def check_rest_health(target):
    url, headers = target.url(), target.headers

    async def ask(client):
        assert await client.is_server_live(url, headers=headers) is True
        assert await client.is_server_ready(url, headers=headers) is True
        for model, ready in [("trees", True), ("returned", True), ("nobody", False)]:
            assert await client.is_model_ready(url, model, headers=headers) is ready, model

    rest(target, ask)


def check_rest_answers(target):
    x, answers = known(TREES)
    # The SDK writes infinities in JSON as null.
    finite = ~np.isinf(x).any(axis=1)
    x, answers = x[finite], {name: values[finite] for name, values in answers.items()}

    async def ask(client):
        for sent in [True, False]:
            for wanted in [True, False]:
                request = requested(x, sent, request_id="k-1", parameters={"binary_data_output": wanted})
                told = {}
                result = await client.infer(
                    target.url(), request, "trees", headers=dict(target.headers), response_headers=told
                )
                # The SDK leaves out the version of what came as JSON.
                assert (result.id, result.model_name) == ("k-1", "trees"), result
                same(output(result, "raw"), answers["raw"])
                close(output(result, "probability"), answers["probability"])
                assert ("inference-header-content-length" in told) == wanted, told
        wanted = [RequestedOutput("raw", {"binary_data": True}), RequestedOutput("probability", {"binary_data": False})]
        request = requested(x, True, request_outputs=wanted)
        result = await client.infer(target.url(), request, "trees", headers=dict(target.headers))
        same(output(result, "raw"), answers["raw"])
        close(output(result, "probability"), answers["probability"])

    rest(target, ask)


def check_rest_errors(target):
    async def ask(client):
        for status, model, values in [(404, "nobody", np.zeros((1, 5))), (400, "trees", np.zeros((1, 3)))]:
            for binary in [True, False]:
                try:
                    request = requested(values, binary)
                    await client.infer(target.url(), request, model, headers=dict(target.headers))
                    raise AssertionError(f"answered, where {status} is due")
                except httpx.HTTPStatusError as error:
                    assert error.response.status_code == status and model in str(error), error

    rest(target, ask)


def check_rest_json_of_a_declared_model(target):
    values = {"at": "2024-03-01T10:00:00Z", "price": 21.0, "shop": "web", "express": True, "order_id": "k1"}
    kinds = {"at": "BYTES", "price": "FP64", "shop": "BYTES", "express": "BOOL", "order_id": "BYTES"}

    async def ask(client):
        response = await httpx.AsyncClient(verify=target.ca or True).get(
            f"{target.url()}/v2/models/returned", headers=target.headers
        )
        names = [tensor["name"] for tensor in response.json()["inputs"]]
        inputs = [InferInput(name, [1], kinds[name], data=[values[name]]) for name in names if name in values]
        result = await client.infer(
            target.url(), InferRequest("returned", inputs), "returned", headers=dict(target.headers)
        )
        (probability,) = output(result, "probability")
        assert 0 < probability < 1, result

    rest(target, ask)


def check_grpc_health(target):
    headers = list(target.headers.items())

    async def ask(client):
        assert await client.is_server_live(headers=headers) and await client.is_server_ready(headers=headers)
        assert await client.is_model_ready("trees", headers=headers)
        try:
            await client.is_model_ready("nobody", headers=headers)
            raise AssertionError("an unknown model is ready")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.NOT_FOUND, error

    by_grpc(target, ask)


def check_grpc_answers(target):
    x, answers = known(TREES)
    headers = list(target.headers.items())

    async def ask(client):
        # With numbers in their typed fields, and as raw bytes.
        for request in [requested(x, False, request_id="k-2"), requested(x, True, request_id="k-2")]:
            result = await client.infer(request, headers=headers)
            assert (result.id, result.model_name, result.model_version) == ("k-2", "trees", "1"), result
            same(output(result, "raw"), answers["raw"])
        results = await asyncio.gather(*(client.infer(requested(x, True), headers=headers) for _ in range(40)))
        for result in results:
            close(output(result, "probability"), answers["probability"])
        try:
            await client.infer(requested(np.zeros((1, 3)), True), headers=headers)
            raise AssertionError("a wrong shape was answered")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error

    by_grpc(target, ask)


def check_keys(target):
    if not target.key:
        return
    x, _ = known(TREES)

    async def ask(client):
        try:
            await client.infer(target.url(), requested(x, True), "trees", headers={"authorization": "Bearer wrong"})
            raise AssertionError("a wrong key was taken")
        except httpx.HTTPStatusError as error:
            assert error.response.status_code == 401, error

    rest(target, ask)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    run("kserve_clients", checks_of(globals()), Target(__doc__, ARGUMENTS))
