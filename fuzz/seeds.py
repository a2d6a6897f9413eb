"""Writes what the fuzz targets begin with: `seeds.py CORPUS DICTIONARIES` fills a folder for each target, and a list of
words for those that read text.

The models are those of crates/inference/testdata; the rest is made here. A seed's first bytes steer its target as the
comment in fuzz_targets says.
"""

import gzip
import json
import re
import shutil
import struct
import sys
import zlib
from pathlib import Path

TESTDATA = Path(__file__).resolve().parent.parent / "crates" / "inference" / "testdata"

MODELS = {
    "import_lightgbm": ["import/lightgbm_*.txt"],
    "import_xgboost_json": ["import/xgboost_*.json"],
    "import_xgboost_ubjson": ["import/xgboost_*.ubj"],
    "import_catboost_json": ["import/catboost_*.json"],
    "import_catboost_cbm": ["import/catboost_*.cbm"],
    "import_onnx": ["import/onnx_*.onnx", "onnx/*.onnx"],
    "onnx_file": ["onnx/*.onnx", "import/onnx_sklearn_logistic.onnx"],
}

# In the order of fuzz/src/plane.rs.
DATATYPES = "BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP16 BF16 FP32 FP64 BYTES".split()
SIZES = [1, 1, 2, 4, 8, 1, 2, 4, 8, 2, 2, 4, 8, None]
TREES, COLUMNS = 14, 15
HEAD_TOLD, GZIPPED = 0x10, 0x20


def tensor(name, datatype, shape, data):
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def body(*inputs, **more):
    return json.dumps({"inputs": list(inputs), **more}).encode()


def elements(place):
    """Two elements of a datatype as bytes."""
    size = SIZES[place]
    return b"\x01\0\0\0a\0\0\0\0" if size is None else bytes([1] + [0] * (size - 1)) * 2


def with_blob(place):
    head = {"name": "x", "datatype": DATATYPES[place], "shape": [1, 2]}
    blob = elements(place)
    head["parameters"] = {"binary_data_size": len(blob)}
    return body(head, outputs=[{"name": "y", "parameters": {"binary_data": True}}]), blob


def datum(place):
    return {"BOOL": True, "BYTES": "text"}.get(DATATYPES[place], 1)


COLUMNS_BODY = body(
    tensor("number", "FP32", [1, 1], [0.5]), tensor("word", "BYTES", [1, 1], ["red"]), tensor("x", "FP32", [1, 3], [1, 2, 3])
)


def json_bodies():
    for place, datatype in enumerate(DATATYPES):
        yield struct.pack("<H", 0) + body(tensor("x", datatype, [1, 2], [datum(place), datum(place)]))
        head, blob = with_blob(place)
        yield struct.pack("<H", len(blob)) + head + blob
    yield b"\0\0" + b'{"id":7,"inputs":[{"name":"x","data":[[1,NaN],[-Infinity,null]],"shape":[2,2],"datatype":"FP64"}]}'
    yield b"\0\0" + body(
        tensor("x", "FP32", [1], [1e30]),
        id="a",
        parameters={"priority": 1, "timeout": 1000000, "binary_data_output": True, "x": 1.5},
        outputs=[{"name": "y", "parameters": {"classification": 3}}],
    )


def encoded_bodies():
    text = b"abcdefgh" * 40
    bomb = bytes(1 << 17)
    pack = {0: gzip.compress, 1: zlib.compress, 2: bytes}
    for encoding, packed in pack.items():
        yield bytes([encoding, 0]) + packed(text)
        yield bytes([encoding, 7]) + packed(text)
    yield bytes([0, 0]) + gzip.compress(bomb)
    yield bytes([1, 0]) + zlib.compress(bomb)
    yield bytes([4, 0]) + text


def binary_tensors():
    for place in range(len(DATATYPES)):
        yield bytes([place, 2, 0]) + elements(place)
        yield bytes([0x80 | place, 0, 0]) + elements(place) * 4


def http_requests():
    for place, datatype in enumerate(DATATYPES):
        data = body(tensor("x", datatype, [1, 2], [datum(place), datum(place)]))
        yield bytes([place, 0, 0]) + data
        yield bytes([place | GZIPPED, 0, 0]) + gzip.compress(data)
        head, blob = with_blob(place)
        yield bytes([place | HEAD_TOLD]) + struct.pack("<H", len(head)) + head + blob
        yield bytes([place | HEAD_TOLD, 0, 0]) + elements(place)
    trees = {"outputs": [{"name": "probabilities", "parameters": {"classification": 2}}, {"name": "raw"}]}
    yield bytes([TREES, 0, 0]) + body(tensor("input", "FP64", [1, 4], [1, 2, 3, None]), **trees)
    yield bytes([TREES | HEAD_TOLD, 0, 0]) + bytes(64)
    yield bytes([COLUMNS, 0, 0]) + COLUMNS_BODY


def number(field, value):
    return varint(field << 3) + varint(value)


def varint(value):
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def part(field, content):
    content = content.encode() if isinstance(content, str) else content
    return varint(field << 3 | 2) + varint(len(content)) + content


def grpc_input(name, datatype, shape, contents=None):
    lengths = part(3, b"".join(varint(length) for length in shape))
    return part(5, part(1, name) + part(2, datatype) + lengths + (part(5, contents) if contents is not None else b""))


def grpc_messages():
    fields = {"BOOL": 1, "INT8": 2, "INT16": 2, "INT32": 2, "INT64": 3, "UINT8": 4, "UINT16": 4, "UINT32": 4, "UINT64": 5}
    for place, datatype in enumerate(DATATYPES):
        raw = part(1, datatype) + grpc_input("x", datatype, [1, 2]) + part(7, elements(place))
        yield bytes([0]) + raw
        yield bytes([0x10]) + gzip.compress(raw)
        yield bytes([0x09, 0]) + struct.pack(">I", len(raw)) + raw + bytes([0]) + struct.pack(">I", len(raw)) + raw
        if datatype in fields:
            contents = part(fields[datatype], b"\x01\x01")
            yield bytes([0]) + part(1, datatype) + part(3, "id") + grpc_input("x", datatype, [2, 1], contents)
        yield bytes([2]) + part(1, datatype) + part(2, "1")
    floats = part(6, struct.pack("<2f", 1, 2))
    doubles = part(7, struct.pack("<4d", 1, 2, 3, 4))
    strings = part(8, "a") + part(8, "")
    yield bytes([0]) + part(1, "FP32") + grpc_input("x", "FP32", [1, 2], floats) + part(6, part(1, "y"))
    yield bytes([0]) + part(1, "BYTES") + grpc_input("x", "BYTES", [1, 2], strings)
    parameter = part(4, part(1, "timeout") + part(2, number(2, 1000)))
    wanted = part(6, part(1, "probabilities") + part(2, part(1, "classification") + part(2, number(2, 2))))
    yield bytes([0]) + part(1, "TREES") + parameter + grpc_input("input", "FP64", [1, 4], doubles) + wanted
    for method in range(3, 8):
        yield bytes([method]) + part(1, "TREES")
        yield bytes([method]) + part(2, "TREES")


def traceparents():
    yield b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    yield b"01-ffffffffffffffffffffffffffffffff-ffffffffffffffff-00-more"
    yield b"00-00000000000000000000000000000000-00f067aa0ba902b7-01"


def bundles():
    digest = "0" * 64
    manifest = {
        "format": 2, "model": "m", "learner": "linear", "task": "binary", "target": "t", "seed": 1, "data": digest,
        "pipeline": digest, "rows": 1, "rows_without_outcome": 0, "rows_learned": 1, "rows_tested": 1,
        "refitted_on_all": False, "rounds": 1, "program": "1", "metrics": {},
        "layout": {"dense": [{"name": "a"}], "slots": [], "table_bits": 0},
    }
    linear = b"HSLINEA1\x01" + struct.pack("<d", 0.5) + struct.pack("<Id", 1, 1.0) + struct.pack("<I", 0)
    sections = [json.dumps(manifest).encode(), b'{"kind":"identity"}', linear]
    yield b"".join(struct.pack("<H", len(section)) + section for section in sections)
    yield b"HOMEOSTB\x01\0\0\0\x01\0\0\0\x01\0a" + bytes(72)


def models():
    yield bytes([0x00]) + b"\x20\0\x01\x40\0\xff"
    yield bytes([0x01]) + b"\x09\0\x01\x11\0\xff"
    yield bytes([0x03]) + b"HSLINEA1\x01" + struct.pack("<d", 0.5) + struct.pack("<I3d", 3, 1, 2, 3) + struct.pack("<I", 0)
    two = b"HSLINEA2\x02" + struct.pack("<I2d", 2, 0.5, -0.5) + struct.pack("<I6d", 3, 1, 2, 3, 4, 5, 6)
    yield bytes([0x03]) + two + struct.pack("<IIff", 1, 3, 0.5, 1.5) + struct.pack("<Q", 2) + b"st"
    yield bytes([0x02]) + b"HSTREES1\x01"
    yield b"\x04" + b'{"kind":"platt","a":1.5,"b":-0.5}'
    yield b"\x04" + b'{"kind":"isotonic","scores":[0.1,0.5,0.9],"values":[0,0.5,1]}'


MADE = {
    "binary_tensors": binary_tensors,
    "bundle": bundles,
    "encoded_body": encoded_bodies,
    "infer_grpc": grpc_messages,
    "infer_http": http_requests,
    "json_body": json_bodies,
    "model_bytes": models,
    "traceparent": traceparents,
}

BODY_WORDS = DATATYPES + [
    "inputs", "outputs", "name", "datatype", "shape", "data", "parameters", "binary_data_size", "binary_data",
    "binary_data_output", "classification", "timeout", "priority", "id", "NaN", "-Infinity",
]


def words(files):
    """What stands in quotes or before an equals sign in these files."""
    found = set()
    for file in files:
        text = file.read_bytes().decode("latin-1")
        found.update(re.findall(r'"([A-Za-z_]{2,40})"|^([a-z_]{2,40})=', text, re.MULTILINE))
    return sorted({word for pair in found for word in pair if word})


def main():
    corpus, dictionaries = map(Path, sys.argv[1:])
    dictionaries.mkdir(parents=True, exist_ok=True)
    lists = {target: BODY_WORDS for target in ("json_body", "infer_http")}
    for target, patterns in MODELS.items():
        folder = corpus / target
        folder.mkdir(parents=True, exist_ok=True)
        files = [file for pattern in patterns for file in sorted(TESTDATA.glob(pattern))]
        assert files, f"no seeds for {target}"
        for file in files:
            shutil.copyfile(file, folder / file.name)
        if any(file.suffix in (".json", ".txt") for file in files):
            lists[target] = words(files)
    for target, make in MADE.items():
        folder = corpus / target
        folder.mkdir(parents=True, exist_ok=True)
        for place, seed in enumerate(make()):
            (folder / f"made-{place:03}").write_bytes(seed)
    for target, listed in lists.items():
        (dictionaries / f"{target}.dict").write_text("".join(f'"{word}"\n' for word in listed))


main()
