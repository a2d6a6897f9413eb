"""The wire formats: a request's bytes for some rows of a model, and the numbers in an answer's bytes.

oip           JSON of the Open Inference Protocol v2
oip-binary    its binary tensor extension
oip-base64    its JSON with the tensor as one base64 string, which MLServer takes
rows          {"rows": [[…]]} answered with {"outputs": [[…]]}, or with [[…]] alone where the server wraps nothing
raw           little-endian float32, both ways
multipart     a form with one file of little-endian float32, answered as rows
"""

import base64
import json
import re

import numpy as np

BOUNDARY = "homeostat-benchmark"
DIGITS = 6
FIRST_NUMBER = re.compile(rb'"(?:data|rows)":\[+(-?\d+)([^,\]]*)')


def body(wire, rows, tensor, output=None):
    """Bytes of one request for a batch, and its headers. `tensor` is the input's name, `output` the one wanted."""
    numbers = np.ascontiguousarray(rows, "<f4")
    binary = numbers.tobytes()
    asked = {"name": tensor, "shape": list(rows.shape), "datatype": "FP32"}
    wanted = {"outputs": [{"name": output}]} if output else {}
    if wire == "oip":
        return packed({"inputs": [asked | {"data": numbers.ravel().tolist()}]} | wanted), json_headers()
    if wire == "oip-base64":
        text = base64.b64encode(binary).decode()
        asked |= {"datatype": "BYTES", "shape": [len(rows), 1], "parameters": {"content_type": "base64"}}
        return packed({"inputs": [asked | {"data": [text]}]} | wanted), json_headers()
    if wire == "oip-binary":
        asked["parameters"] = {"binary_data_size": len(binary)}
        head = packed({"inputs": [asked], "parameters": {"binary_data_output": True}} | wanted)
        headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))}
        return head + binary, headers
    if wire == "rows":
        return packed({"rows": numbers.tolist()}), json_headers()
    if wire == "raw":
        return binary, {"content-type": "application/octet-stream"}
    if wire == "multipart":
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="image"\r\n'
        head += "Content-Type: application/octet-stream\r\n\r\n"
        headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
        return head.encode() + binary + f"\r\n--{BOUNDARY}--\r\n".encode(), headers
    raise ValueError(f"no wire format {wire}")


def answer(wire, headers, content):
    """The numbers of an answer, flat. `headers` has lower-case names."""
    if wire in ("rows", "multipart"):
        told = json.loads(content)
        return np.asarray(told["outputs"] if isinstance(told, dict) else told, np.float64).ravel()
    if wire == "raw":
        return np.frombuffer(content, "<f4").astype(np.float64)
    length = headers.get("inference-header-content-length")
    if length is None:
        return np.asarray(json.loads(content)["outputs"][0]["data"], np.float64).ravel()
    output = json.loads(content[: int(length)])["outputs"][0]
    kind = {"FP32": "<f4", "FP64": "<f8"}[output["datatype"]]
    sized = content[int(length) :][: output["parameters"]["binary_data_size"]]
    return np.frombuffer(sized, kind).astype(np.float64)


def write(folder, wire, path, rows, tensor, output=None, rows_each=1, requests=None, paths=None):
    """A folder for `load --bodies`: one request for each row, or `requests` of `rows_each` rows; `paths` take turns."""
    folder.mkdir(parents=True, exist_ok=True)
    bodies = []
    for number in range(requests or len(rows)):
        content, headers = body(wire, np.take(rows, range(number, number + rows_each), axis=0, mode="wrap"), tensor, output)
        content, offsets = with_digits(wire, content, rows[0].nbytes * rows_each)
        name = f"{number:04}.bin"
        (folder / name).write_bytes(content)
        bodies.append({"file": name, "headers": headers, "digits": offsets})
        if paths:
            bodies[-1]["path"] = paths[number % len(paths)]
    (folder / "request.json").write_text(json.dumps({"method": "POST", "path": path, "bodies": bodies}) + "\n")


def with_digits(wire, content, tensor_bytes):
    """The body with room for six digits that make each request another one, and their offsets.

    In text they become the decimals of the first number. Of float32 they replace low bytes of the first numbers, which
    moves a number by less than 1 %; in base64, the letters of such bytes. The answers that are checked are asked without.
    """
    if wire in ("oip", "rows"):
        number = FIRST_NUMBER.search(content)
        content = content[: number.end(1)] + b"." + b"0" * DIGITS + content[number.end(2) :]
        return content, [number.end(1) + DIGITS - digit for digit in range(DIGITS)]
    if wire == "oip-base64":
        start = content.index(b'"data":["') + len(b'"data":["')
        # Sixteen letters are three numbers; the first two letters hold the low bits of the first.
        return content, [start + 16 * (digit // 2) + digit % 2 for digit in range(DIGITS)]
    start = content.index(b"\r\n\r\n") + 4 if wire == "multipart" else len(content) - tensor_bytes
    return content, [start + 4 * digit for digit in range(DIGITS)]


def packed(value):
    return json.dumps(value, separators=(",", ":")).encode()


def json_headers():
    return {"content-type": "application/json"}
