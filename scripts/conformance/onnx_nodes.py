"""The node tests of the ONNX standard, which come in the package onnx, through a running server.

    onnx_nodes.py models FOLDER
        Writes each test that ONNX Runtime itself passes, and that the Open Inference Protocol can carry, as NAME.onnx,
        with its inputs and expected outputs in NAME.json and NAME.bin.
    onnx_nodes.py serve FOLDER --url HOST:PORT [--import 'COMMAND'] [--each]
        Runs COMMAND once with all files at its end (with --each: once for each file), and then sends the inputs with
        the unmodified client tritonclient.http and compares what comes back.

Needs onnx, onnxruntime, numpy, ml_dtypes and, for `serve`, a tritonclient[http] that takes bfloat16 as ml_dtypes has it
(2.73 does). Take the version of onnxruntime that the server runs: another one knows other operators. The tolerances are
those of the standard's own tests. Ends with 1 where a test fails.
"""

import argparse
import collections
import json
import shlex
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OIP = {
    TensorProto.BOOL: "BOOL",
    TensorProto.UINT8: "UINT8",
    TensorProto.UINT16: "UINT16",
    TensorProto.UINT32: "UINT32",
    TensorProto.UINT64: "UINT64",
    TensorProto.INT8: "INT8",
    TensorProto.INT16: "INT16",
    TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64",
    TensorProto.FLOAT16: "FP16",
    TensorProto.BFLOAT16: "BF16",
    TensorProto.FLOAT: "FP32",
    TensorProto.DOUBLE: "FP64",
    TensorProto.STRING: "BYTES",
}
# Two steps of bfloat16, as the standard's own tests allow.
BFLOAT16_TOLERANCE = 2.0**-6
# Files in one call of the import command: below what any system takes as arguments.
FILES_A_CALL = 200


class NotApplicable(Exception):
    """Why a test says nothing about a server."""


class Tensor:
    """A named array. bfloat16 is kept as its bits, text as bytes."""

    def __init__(self, name, datatype, array):
        self.name, self.datatype, self.array = name, datatype, array

    @classmethod
    def of(cls, name, datatype, given):
        array = np.asarray(given)
        if datatype == "BF16":
            array = np.ascontiguousarray(array).view(np.uint16).reshape(array.shape)
        elif datatype == "BYTES":
            texts = [text.encode() if isinstance(text, str) else bytes(text) for text in array.reshape(-1)]
            flat = np.empty(len(texts), dtype=object)
            flat[:] = texts
            array = flat.reshape(array.shape)
        return cls(name, datatype, array)

    def numbers(self):
        if self.datatype == "BF16":
            return (self.array.astype(np.uint32) << 16).view(np.float32)
        return self.array

    def for_numpy(self):
        if self.datatype != "BYTES":
            return self.array
        texts = np.empty(self.array.size, dtype=object)
        texts[:] = [text.decode() for text in self.array.reshape(-1)]
        return texts.reshape(self.array.shape)

    def raw(self):
        if self.datatype == "BYTES":
            texts = self.array.reshape(-1)
            return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
        return np.ascontiguousarray(self.array).tobytes()

    @classmethod
    def from_raw(cls, described, raw):
        shape, datatype = described["shape"], described["datatype"]
        if datatype == "BYTES":
            texts, place = [], 0
            while place < len(raw):
                end = place + 4 + int.from_bytes(raw[place : place + 4], "little")
                texts.append(raw[place + 4 : end])
                place = end
            return cls.of(described["name"], datatype, np.array(texts, dtype=object).reshape(shape))
        kind = {"BOOL": "bool", "FP16": "float16", "BF16": "uint16", "FP32": "float32", "FP64": "float64"}
        array = np.frombuffer(raw, dtype=kind.get(datatype, datatype.lower())).reshape(shape)
        return cls(described["name"], datatype, array)


def difference(got, wanted, relative, absolute):
    """What is wrong with an output, or None."""
    if got.datatype != wanted.datatype or list(got.array.shape) != list(wanted.array.shape):
        found, wish = [(tensor.datatype, list(tensor.array.shape)) for tensor in (got, wanted)]
        return f"{wanted.name} is {found}, not {wish}"
    if wanted.datatype in ("BYTES", "BOOL"):
        return None if np.array_equal(got.array, wanted.array) else f"{wanted.name} differs"
    if wanted.datatype == "BF16":
        relative = max(relative, BFLOAT16_TOLERANCE)
    try:
        np.testing.assert_allclose(got.numbers(), wanted.numbers(), rtol=relative, atol=absolute)
    except AssertionError as error:
        return f"{wanted.name}: " + " ".join(str(error).split())[:200]
    return None


def datatypes(values):
    found = {}
    for value in values:
        kind = value.type.WhichOneof("value")
        if kind != "tensor_type":
            raise NotApplicable(f"{kind.removesuffix('_type') if kind else 'undeclared'} values")
        element = value.type.tensor_type.elem_type
        if element not in OIP:
            raise NotApplicable(f"{TensorProto.DataType.Name(element)} elements")
        found[value.name] = OIP[element]
    return found


def reference(model, inputs, outputs):
    """The outputs of ONNX Runtime from its Python package."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model, names = with_numpy_outputs(model, outputs)
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:
        raise NotApplicable("ONNX Runtime does not load it") from None
    try:
        if "BF16" in [tensor.datatype for tensor in inputs]:
            values = {tensor.name: as_value(onnxruntime.OrtValue, tensor) for tensor in inputs}
            given = [value.numpy() for value in session.run_with_ort_values(names, values)]
        else:
            given = session.run(names, {tensor.name: tensor.for_numpy() for tensor in inputs})
    except Exception:
        raise NotApplicable("ONNX Runtime does not run it") from None
    return [
        Tensor(name, "BF16", (array.view(np.uint32) >> 16).astype(np.uint16))
        if outputs[name] == "BF16"
        else Tensor.of(name, outputs[name], array)
        for name, array in zip(outputs, given)
    ]


def with_numpy_outputs(model, outputs):
    """The model with bfloat16 outputs, which numpy has not, also as single precision; and the names to ask for."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    names = []
    for name, datatype in outputs.items():
        wide = f"{name}__as_float" if datatype == "BF16" else name
        if wide != name:
            model.graph.node.append(helper.make_node("Cast", [name], [wide], to=TensorProto.FLOAT))
            model.graph.output.append(helper.make_tensor_value_info(wide, TensorProto.FLOAT, None))
        names.append(wide)
    return model, names


def as_value(kind, tensor):
    if tensor.datatype == "BF16":
        return kind.ortvalue_from_numpy_with_onnx_type(tensor.array, TensorProto.BFLOAT16)
    return kind.ortvalue_from_numpy(tensor.array)


def loaded(case):
    """A test's model and data sets; older versions of the package keep them in files."""
    if case.model is not None:
        return case.model, case.data_sets
    folder = Path(case.model_dir)
    sets = []
    for data in sorted(folder.glob("test_data_set_*")):
        files = (
            sorted(data.glob(f"{role}_*.pb"), key=lambda file: int(file.stem.split("_")[-1]))
            for role in ("input", "output")
        )
        sets.append([[TensorProto.FromString(file.read_bytes()) for file in role] for role in files])
    return onnx.load(folder / "model.onnx"), sets


def arrays(values):
    return [numpy_helper.to_array(value) if isinstance(value, TensorProto) else value for value in values]


def examine(case, model, data_sets):
    """The inputs and expected outputs of each of a test's data sets."""
    graph = model.graph
    weights = {weight.name for weight in graph.initializer}
    wanted = datatypes([value for value in graph.input if value.name not in weights])
    outputs = datatypes(graph.output)
    if not wanted:
        raise NotApplicable("no inputs")
    sets = []
    for given, expected in data_sets:
        given, expected = arrays(given), arrays(expected)
        if len(given) != len(wanted) or len(expected) != len(outputs):
            raise NotApplicable("values left out")
        inputs = [Tensor.of(name, wanted[name], array) for name, array in zip(wanted, given)]
        expected = [Tensor.of(name, outputs[name], array) for name, array in zip(outputs, expected)]
        for got, wish in zip(reference(model, inputs, outputs), expected):
            if difference(got, wish, case.rtol, case.atol):
                raise NotApplicable("ONNX Runtime answers otherwise")
        sets.append((inputs, expected))
    return sets


def write(folder, case, model, sets):
    raw, described = bytearray(), []
    for inputs, outputs in sets:
        entry = {}
        for role, tensors in (("inputs", inputs), ("outputs", outputs)):
            entry[role] = []
            for tensor in tensors:
                part = tensor.raw()
                entry[role].append(
                    {
                        "name": tensor.name,
                        "datatype": tensor.datatype,
                        "shape": list(tensor.array.shape),
                        "from": len(raw),
                        "to": len(raw) + len(part),
                    }
                )
                raw += part
        described.append(entry)
    name = case.name
    (folder / f"{name}.onnx").write_bytes(model.SerializeToString(deterministic=True))
    (folder / f"{name}.bin").write_bytes(raw)
    text = json.dumps({"rtol": case.rtol, "atol": case.atol, "sets": described})
    (folder / f"{name}.json").write_text(text)


def models(folder):
    import onnxruntime
    from onnx.backend.test.loader import load_model_tests

    folder.mkdir(parents=True, exist_ok=True)
    reasons = collections.Counter()
    written = 0
    for case in sorted(load_model_tests(kind="node"), key=lambda case: case.name):
        model, data_sets = loaded(case)
        try:
            write(folder, case, model, examine(case, model, data_sets))
            written += 1
        except NotApplicable as reason:
            reasons[str(reason)] += 1
    (folder / "not_applicable.txt").write_text("".join(f"{count}\t{why}\n" for why, count in reasons.most_common()))
    versions = f"onnx {onnx.__version__}, ONNX Runtime {onnxruntime.__version__}"
    print(f"{versions}: {written} tests written, {reasons.total()} not applicable ({listed(reasons)})")


def listed(reasons):
    return "; ".join(f"{why}: {count}" for why, count in reasons.most_common()) or "none"


def imports(command, files, each):
    """Imports the models; says which files a command failed for."""
    size = 1 if each else FILES_A_CALL
    for start in range(0, len(files), size):
        part = files[start : start + size]
        done = subprocess.run(
            [*shlex.split(command), *map(str, part)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if done.returncode:
            names = f"{part[0].name} and {len(part) - 1} others"
            print(f"{command}: {done.returncode} for {names}: {done.stdout.strip()[-400:]}")


def as_sent(http, tensor):
    sent = http.InferInput(tensor.name, list(tensor.array.shape), tensor.datatype)
    array = tensor.array.view(ml_dtypes.bfloat16) if tensor.datatype == "BF16" else tensor.array
    sent.set_data_from_numpy(array, binary_data=True)
    return sent


def ask(client, http, name, inputs, outputs):
    wanted = [http.InferRequestedOutput(output.name, binary_data=True) for output in outputs]
    answer = client.infer(name, [as_sent(http, tensor) for tensor in inputs], outputs=wanted)
    got = []
    for output in outputs:
        datatype, array = answer.get_output(output.name)["datatype"], answer.as_numpy(output.name)
        # Older clients give bfloat16 as single precision.
        array = array.astype(ml_dtypes.bfloat16) if datatype == "BF16" else array
        got.append(Tensor.of(output.name, datatype, array))
    return got


def serve(folder, url, command, each):
    import tritonclient.http as http

    files = sorted(folder.glob("*.onnx"))
    if command:
        imports(command, files, each)
    client = http.InferenceServerClient(url)
    passed, failures = 0, []
    for file in files:
        case = json.loads(file.with_suffix(".json").read_text())
        raw = file.with_suffix(".bin").read_bytes()
        try:
            for entry in case["sets"]:
                inputs, outputs = (
                    [Tensor.from_raw(described, raw[described["from"] : described["to"]]) for described in entry[role]]
                    for role in ("inputs", "outputs")
                )
                for got, wanted in zip(ask(client, http, file.stem, inputs, outputs), outputs):
                    wrong = difference(got, wanted, case["rtol"], case["atol"])
                    if wrong:
                        raise AssertionError(wrong)
            passed += 1
        except Exception as error:
            failures.append(f"{file.stem}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
    for failure in failures:
        print(failure)
    reasons = collections.Counter()
    for line in (folder / "not_applicable.txt").read_text().splitlines():
        count, why = line.split("\t")
        reasons[why] = int(count)
    print(f"{passed} passed, {len(failures)} failed, {reasons.total()} not applicable ({listed(reasons)})")
    return 1 if failures or not passed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(dest="step", required=True)
    step = steps.add_parser("models")
    step.add_argument("folder", type=Path)
    step = steps.add_parser("serve")
    step.add_argument("folder", type=Path)
    step.add_argument("--url", required=True, help="HOST:PORT of the server")
    step.add_argument("--import", dest="command", help="command that imports the files named after it")
    step.add_argument("--each", action="store_true", help="run the import command once for each file")
    given = parser.parse_args()
    if given.step == "models":
        return models(given.folder)
    return serve(given.folder, given.url, given.command, given.each)


if __name__ == "__main__":
    sys.exit(main())
