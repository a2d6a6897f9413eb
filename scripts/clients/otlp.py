"""Requests of traced callers, and the spans that the server then sends to the receiver (otlp_receiver.py): one trace,
the caller's span above the server's, the stages below it."""

import json
import secrets

import numpy as np
import tritonclient.grpc as by_grpc
import tritonclient.http as by_http
from target import Target, checks_of, run, until

PARENT = "00f067aa0ba902b7"


def traced(sampled=True):
    """A trace of its own, and the header that says so."""
    trace = secrets.token_hex(16)
    return trace, {"traceparent": f"00-{trace}-{PARENT}-0{int(sampled)}"}


def spans(target, trace):
    with open(target.options.spans) as file:
        lines = file.read().split("\n")
    # The first line tells the ports; the last may still be written.
    all_spans = [json.loads(line) for line in lines[1:-1]]
    found = [span for span in all_spans if span["trace"] == trace]
    assert all(span["protocol"] == target.options.protocol for span in found), found
    return found


def tree(target, trace):
    """The spans of a trace, once its request's has come, checked for what holds for all of them."""
    until(f"a span of trace {trace}", lambda: any(span["parent"] == PARENT for span in spans(target, trace)))
    found = spans(target, trace)
    (root,) = [span for span in found if span["parent"] == PARENT]
    assert root["resource"]["service.name"], root
    assert root["kind"] == "SPAN_KIND_SERVER", root
    for span in found:
        assert span is root or span["parent"] == root["span"], span
        assert root["start"] <= span["start"] <= span["end"] <= root["end"] + 1_000_000, (root, span)
    assert root["status"] != "STATUS_CODE_ERROR", root
    return root, {span["name"] for span in found if span is not root}


def ask(module, address, headers, model="trees"):
    # Rows that the cache has no answers for.
    x = np.random.default_rng().normal(size=(20, 5))
    tensor = module.InferInput("input", list(x.shape), "FP64")
    tensor.set_data_from_numpy(x)
    with module.InferenceServerClient(address) as client:
        return client.infer(model, [tensor], headers=headers)


def check_http(target):
    trace, headers = traced()
    ask(by_http, target.http, headers)
    root, stages = tree(target, trace)
    assert any("infer" in stage for stage in stages) and any("decode" in stage for stage in stages), (root, stages)
    assert "trees" in json.dumps(root["attributes"]), root


def check_grpc(target):
    trace, headers = traced()
    ask(by_grpc, target.grpc, headers)
    _, stages = tree(target, trace)
    assert any("infer" in stage for stage in stages), stages


def check_rows(target):
    trace, headers = traced()
    row = {"at": "2024-03-01T10:00:00Z", "price": 20, "shop": "web", "express": True, "order_id": "o-1"}
    body = json.dumps({"rows": [row]}).encode()
    status, _, told = target.exchange("POST", "/v1/models/returned/predict", body, headers)
    assert status == 200, told
    root, _ = tree(target, trace)
    assert "returned" in json.dumps(root["attributes"]), root


def check_a_refusal(target):
    trace, headers = traced()
    status, _, _ = target.exchange("POST", "/v2/models/nobody/infer", b"{}", headers)
    assert status == 404
    until("the refusal's span", lambda: spans(target, trace))
    (span,) = [span for span in spans(target, trace) if span["parent"] == PARENT]
    assert span["attributes"]["http.response.status_code"] == 404, span
    assert span["attributes"]["homeostat.refused"] == "not_found" and span["status"] == "STATUS_CODE_UNSET", span


def check_what_the_caller_does_not_sample(target):
    unsampled, headers = traced(sampled=False)
    ask(by_http, target.http, headers)
    sampled, headers = traced()
    ask(by_http, target.http, headers)
    tree(target, sampled)
    assert not spans(target, unsampled), "a trace that its caller leaves out was sent"


if __name__ == "__main__":
    run("otlp", checks_of(globals()), Target(__doc__))
