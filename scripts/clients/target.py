"""The server that the client scripts ask: where it is, who asks, which answers are known; and the tally of checks."""

import argparse
import http.client
import json
import os
import ssl
import sys
import time
import traceback
from pathlib import Path

import numpy as np

TESTDATA = Path(__file__).resolve().parents[2] / "crates" / "inference" / "testdata"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"

# Statuses of HTTP, and what gRPC says instead.
GRPC_CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    413: "INVALID_ARGUMENT",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class Skipped(Exception):
    """A check that this server is not set up for, with the reason."""


class Target:
    def __init__(self, description, arguments=None):
        parser = argparse.ArgumentParser(description=description.splitlines()[0])
        parser.add_argument("--http", required=True, metavar="HOST:PORT")
        parser.add_argument("--grpc", required=True, metavar="HOST:PORT")
        parser.add_argument("--ca", help="certificate (PEM) that the server's is checked with; in the clear without it")
        parser.add_argument("--key", help="a tenant's key, which may ask every model but `many`")
        parser.add_argument("--operator", help="the operator's key of this server")
        parser.add_argument("--spans", help="file to which the OTLP receiver writes")
        parser.add_argument("--protocol", default="grpc", help="how spans reach the receiver: grpc or http")
        self.options = parser.parse_args(arguments)
        self.http, self.grpc = self.options.http, self.options.grpc
        self.ca, self.key = self.options.ca, self.options.key
        self.headers = {"authorization": f"Bearer {self.key}"} if self.key else {}
        operator = {"x-homeostat-operator": self.options.operator} if self.options.operator else {}
        self.operator_headers = self.headers | operator

        until("the server is ready", lambda: self.exchange("GET", "/v2/health/ready")[0] == 200, 60)

    def url(self):
        return f"{'https' if self.ca else 'http'}://{self.http}"

    def exchange(self, method, path, body=b"", headers=None):
        """One plain request: status, headers in lower case, body."""
        if self.ca:
            context = ssl.create_default_context(cafile=self.ca)
            connection = http.client.HTTPSConnection(self.http, timeout=30, context=context)
        else:
            connection = http.client.HTTPConnection(self.http, timeout=30)
        try:
            connection.request(method, path, body, self.headers | (headers or {}))
            response = connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
        finally:
            connection.close()

    def models(self):
        status, _, body = self.exchange("POST", "/v2/repository/index", b"{}")
        assert status == 200, body
        return {line["name"] for line in json.loads(body)}

    def need(self, model):
        if model not in self.models():
            raise Skipped(f"model {model} is not registered (it needs ONNX Runtime)")


def known(file):
    """The input of a model file and what the library that made it answers, by output."""
    document = json.loads((TESTDATA / "import" / "expected.json").read_text())
    case = next(case for case in document["cases"] if case["file"] == file)
    (given,) = document["inputs"][case["inputs"]]
    return array(given), {output["name"]: array(output) for output in case["outputs"]}


def array(tensor):
    kind = {"FP64": np.float64, "FP32": np.float32, "INT64": np.int64}[tensor["datatype"]]
    numbers = [np.nan if value is None else float(value) for value in tensor["data"]]
    return np.array(numbers, dtype=kind).reshape(tensor["shape"])


def same(given, wanted):
    """Equal bit for bit, NaN included."""
    assert given.dtype == wanted.dtype and given.shape == wanted.shape, (given.dtype, given.shape, wanted.shape)
    assert given.tobytes() == wanted.tobytes(), (given, wanted)


def receipted(server_timing, answered=True):
    """The receipt tells the stages; an answer was computed or came from the cache."""
    assert "decode;dur=" in server_timing and "cpu;dur=" in server_timing, server_timing
    computed = "infer;dur=" in server_timing or "cache;desc=hit" in server_timing
    assert computed == answered, server_timing


def close(given, wanted):
    assert given.shape == wanted.shape, (given.shape, wanted.shape)
    np.testing.assert_allclose(given, wanted, rtol=1e-6, atol=1e-12)


def until(what, holds, seconds=20):
    """Waits for a condition, with a deadline."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"in {seconds} s not: {what}"
        time.sleep(0.02)


def run(name, checks, *given):
    """Runs each check and ends the program: the last line counts what passed."""
    passed, failed, skipped = 0, [], []
    for check in checks:
        called = check.__name__.removeprefix("check_")
        try:
            check(*given)
            passed += 1
        except Skipped as why:
            skipped.append(called)
            print(f"skipped: {name}: {called}: {why}")
        except Exception:
            failed.append(called)
            print(f"failed: {name}: {called}\n{traceback.format_exc()}")
    print(f"{name}: {passed} passed, {len(failed)} failed, {len(skipped)} skipped {' '.join(failed)}".rstrip())
    sys.stdout.flush()
    # A client that a failed check left open has threads that would hold the program.
    os._exit(1 if failed else 0)


def checks_of(*modules):
    return [value for module in modules for name, value in module.items() if name.startswith("check_")]
