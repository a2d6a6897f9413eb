"""Makes the small ONNX models beside it, which the tests of the ONNX Runtime engine open.

python3 make_onnx.py        needs the packages onnx and numpy; the files come out the same each time
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
FLOAT, INT64, STRING, UINT8 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING, TensorProto.UINT8
DATATYPES = {
    "bool": TensorProto.BOOL,
    "uint8": TensorProto.UINT8,
    "uint16": TensorProto.UINT16,
    "uint32": TensorProto.UINT32,
    "uint64": TensorProto.UINT64,
    "int8": TensorProto.INT8,
    "int16": TensorProto.INT16,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "fp16": TensorProto.FLOAT16,
    "bf16": TensorProto.BFLOAT16,
    "fp32": TensorProto.FLOAT,
    "fp64": TensorProto.DOUBLE,
    "bytes": TensorProto.STRING,
}


def value(name, datatype, shape):
    return helper.make_tensor_value_info(name, datatype, shape)


def save(name, nodes, inputs, outputs, weights=(), operators=(("", 17),), functions=()):
    graph = helper.make_graph(nodes, name, inputs, outputs, list(weights))
    imports = [helper.make_opsetid(domain, version) for domain, version in operators]
    model = helper.make_model(graph, opset_imports=imports, functions=list(functions), producer_name="homeostat")
    model.ir_version = 8
    (HERE / f"{name}.onnx").write_bytes(model.SerializeToString(deterministic=True))


def weight(name, array):
    return numpy_helper.from_array(array, name)


def normal(random, *shape):
    return random.standard_normal(shape).astype(np.float32)


def identity():
    """Each datatype goes in and comes out as it is, with a free first length; a scalar beside them."""
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in [*DATATYPES, "scalar"]]
    shapes = {name: (datatype, ["rows", 2]) for name, datatype in DATATYPES.items()} | {"scalar": (FLOAT, [])}
    save(
        "identity",
        nodes,
        [value(name, datatype, shape) for name, (datatype, shape) in shapes.items()],
        [value(f"{name}_out", datatype, shape) for name, (datatype, shape) in shapes.items()],
    )


def perceptron(random):
    """Two layers with a free number of rows; the first layer's weights are also an input that may be left out."""
    weights = [
        weight("w1", normal(random, 8, 16)),
        weight("b1", normal(random, 16)),
        weight("w2", normal(random, 16, 3)),
        weight("b2", normal(random, 3)),
    ]
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["z"]),
        helper.make_node("Softmax", ["z"], ["y"], axis=1),
    ]
    inputs = [value("x", FLOAT, ["batch", 8]), value("w1", FLOAT, [8, 16])]
    save("perceptron", nodes, inputs, [value("y", FLOAT, ["batch", 3])], weights)


def fixed(random):
    nodes = [helper.make_node("Conv", ["image", "w"], ["y"], pads=[1, 1, 1, 1])]
    save(
        "fixed",
        nodes,
        [value("image", FLOAT, [1, 3, 6, 6])],
        [value("y", FLOAT, [1, 2, 6, 6])],
        [weight("w", normal(random, 2, 3, 3, 3))],
    )


def two_by_two():
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Sub", ["a", "b"], ["difference"])]
    a, b = value("a", FLOAT, ["n", 2]), value("b", FLOAT, ["n", 2])
    save("two_by_two", nodes, [a, b], [value("sum", FLOAT, ["n", 2]), value("difference", FLOAT, ["n", 2])])


def text():
    """Words to numbers, and the words themselves."""
    nodes = [
        helper.make_node(
            "LabelEncoder",
            ["word"],
            ["place"],
            domain="ai.onnx.ml",
            keys_strings=["red", "grün", ""],
            values_int64s=[1, 2, 3],
            default_int64=-1,
        ),
        helper.make_node("Identity", ["word"], ["same"]),
    ]
    save(
        "text",
        nodes,
        [value("word", STRING, [None])],
        [value("place", INT64, [None]), value("same", STRING, [None])],
        operators=(("", 17), ("ai.onnx.ml", 2)),
    )


def quantized(random, in_function):
    """A layer whose inputs are quantized with a scale of the whole call."""
    weights = [
        weight("w", random.integers(-127, 127, (8, 4)).astype(np.int8)),
        weight("w_scale", np.float32(0.02)),
        weight("w_zero", np.int8(0)),
    ]
    quantize = helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "q_scale", "q_zero"])
    functions, operators = (), (("", 17),)
    if in_function:
        operators = (("", 17), ("own", 1))
        functions = [
            helper.make_function(
                "own", "Quantize", ["x"], ["q", "q_scale", "q_zero"], [quantize], [helper.make_opsetid("", 17)]
            )
        ]
        quantize = helper.make_node("Quantize", ["x"], ["q", "q_scale", "q_zero"], domain="own")
    nodes = [
        quantize,
        helper.make_node("MatMulInteger", ["q", "w", "q_zero", "w_zero"], ["i"]),
        helper.make_node("Cast", ["i"], ["f"], to=FLOAT),
        helper.make_node("Mul", ["q_scale", "w_scale"], ["scale"]),
        helper.make_node("Mul", ["f", "scale"], ["y"]),
    ]
    name = "quantized_in_function" if in_function else "quantized"
    save(name, nodes, [value("x", FLOAT, ["n", 8])], [value("y", FLOAT, ["n", 4])], weights, operators, functions)


def failing():
    """Gathers by an index that may be out of bounds, and reshapes in a way that only even numbers of rows allow."""
    nodes = [
        helper.make_node("Gather", ["table", "index"], ["row"]),
        helper.make_node("Reshape", ["index", "pairs"], ["pair"]),
    ]
    weights = [weight("table", np.float32([[1, 2], [3, 4]])), weight("pairs", np.int64([2, -1]))]
    inputs = [value("index", INT64, ["n"])]
    save("failing", nodes, inputs, [value("row", FLOAT, ["n", 2]), value("pair", INT64, [2, None])], weights)


def summed():
    """Its shapes look like those of a model with independent rows, but it divides by the sum of all of them."""
    nodes = [
        helper.make_node("ReduceSum", ["x", "axis"], ["total"], keepdims=1),
        helper.make_node("Div", ["x", "total"], ["y"]),
    ]
    save("summed", nodes, [value("x", FLOAT, ["n", 2])], [value("y", FLOAT, ["n", 2])], [weight("axis", np.int64([0]))])


def maps(random):
    """A linear classifier as scikit-learn's converter writes it: labels, and a list of maps of probabilities."""
    nodes = [
        helper.make_node(
            "LinearClassifier",
            ["x"],
            ["label", "scores"],
            domain="ai.onnx.ml",
            classlabels_ints=[3, 5, 9],
            coefficients=normal(random, 12).tolist(),
            intercepts=[0.1, 0.2, 0.3],
            multi_class=0,
            post_transform="SOFTMAX",
        ),
        helper.make_node("ZipMap", ["scores"], ["probabilities"], domain="ai.onnx.ml", classlabels_int64s=[3, 5, 9]),
    ]
    floats = helper.make_tensor_type_proto(FLOAT, None)
    listed = helper.make_sequence_type_proto(helper.make_map_type_proto(INT64, floats))
    outputs = [value("label", INT64, [None]), helper.make_value_info("probabilities", listed)]
    save("maps", nodes, [value("x", FLOAT, [None, 4])], outputs, operators=(("ai.onnx.ml", 1),))


def refused():
    """A sequence, weights in another file, a type that the protocol lacks, and an input without a shape."""
    tensor = helper.make_tensor_type_proto(FLOAT, [None])
    sequence = helper.make_value_info("parts", helper.make_sequence_type_proto(tensor))
    nodes = [helper.make_node("SequenceConstruct", ["x"], ["parts"])]
    save("refused_sequence", nodes, [value("x", FLOAT, [None])], [sequence])

    elsewhere = TensorProto(name="w", data_type=FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    elsewhere.external_data.add(key="location", value="../../secret.bin")
    inputs, outputs = [value("x", FLOAT, [2])], [value("y", FLOAT, [2])]
    save("refused_external", [helper.make_node("Add", ["x", "w"], ["y"])], inputs, outputs, [elsewhere])

    then = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=elsewhere)], "then", [], [value("c", FLOAT, [2])]
    )
    other = helper.make_graph([helper.make_node("Identity", ["x"], ["c2"])], "else", [], [value("c2", FLOAT, [2])])
    node = helper.make_node("If", ["yes"], ["y"], then_branch=then, else_branch=other)
    save("refused_external_inside", [node], [*inputs, value("yes", TensorProto.BOOL, [])], outputs)

    node = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT8E4M3FN)
    save("refused_element", [node], inputs, [value("y", TensorProto.FLOAT8E4M3FN, [2])], operators=(("", 19),))

    node = helper.make_node("Identity", ["x"], ["y"])
    save("refused_shape", [node], [value("x", FLOAT, None)], [value("y", FLOAT, None)])
    save("refused_operator", [helper.make_node("NoSuchOperator", ["x"], ["y"])], inputs, outputs)


def main():
    random = np.random.default_rng(7)
    identity()
    perceptron(random)
    fixed(random)
    two_by_two()
    text()
    quantized(random, in_function=False)
    quantized(random, in_function=True)
    failing()
    summed()
    maps(random)
    refused()
    for file in sorted(HERE.glob("*.onnx")):
        if not file.name.startswith("refused"):
            onnx.checker.check_model(str(file))
        print(f"{file.name:32}{file.stat().st_size:8} bytes")


if __name__ == "__main__":
    main()
