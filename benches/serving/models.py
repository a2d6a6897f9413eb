"""Makes the four models of the benchmark under work/models/, each with rows to ask about and the right answers.

Everything is seeded. Run with .venvs/models/bin/python; models that are there already are kept.
"""

import json
import pathlib

import joblib
import lightgbm
import numpy as np
import onnx
import onnxmltools
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxmltools.convert.common.data_types import FloatTensorType as LightGBMFloats
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.linear_model import LogisticRegression

HERE = pathlib.Path(__file__).resolve().parent
MODELS = HERE / "work" / "models"
FEATURES = 20
# So many that no answer is found in a cache of a usual size before it is asked again.
ROWS = 1024
IMAGES = 16
OPSET = 17


def table(rows, seed):
    """Features on a grid that float32 holds exactly: no engine rounds a threshold to the other side of a value."""
    rng = np.random.default_rng(seed)
    x = (np.round(rng.normal(size=(rows, FEATURES)) * 64) / 64).astype(np.float32)
    score = x[:, 0] - x[:, 1] * x[:, 2] + np.sin(3 * x[:, 3]) + 0.5 * rng.normal(size=rows)
    return x, (score > 0).astype(int)


def logistic(folder):
    x, y = table(20_000, seed=1)
    fitted = LogisticRegression(max_iter=1000).fit(x, y)
    joblib.dump(fitted, folder / "model.joblib")
    made = to_onnx(
        fitted,
        initial_types=[("input", FloatTensorType([None, FEATURES]))],
        options={"zipmap": False},
        target_opset=OPSET,
    )
    write(folder, one_output(made, "probabilities"), table(ROWS, seed=2)[0])


def trees(folder):
    x, y = table(50_000, seed=3)
    settings = {"objective": "binary", "num_leaves": 63, "learning_rate": 0.05, "verbose": -1, "seed": 3, "num_threads": 2}
    booster = lightgbm.train(settings, lightgbm.Dataset(x, y), num_boost_round=500)
    booster.save_model(folder / "model.txt")
    made = onnxmltools.convert_lightgbm(
        booster, initial_types=[("input", LightGBMFloats([None, FEATURES]))], zipmap=False, target_opset=15
    )
    rows = table(ROWS, seed=4)[0]
    write(folder, one_output(made, "probabilities"), rows)
    theirs = booster.predict(rows)
    apart = np.abs(np.load(folder / "expected.npy")[:, 1] - theirs).max()
    assert apart < 1e-5, f"the ONNX trees differ from LightGBM by {apart}"


class Net:
    """A graph written layer by layer, with He-initialised weights of one seeded stream."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.weights = [], []

    def weight(self, shape, fan_in):
        name = f"w{len(self.weights)}"
        values = self.rng.normal(size=shape) * np.sqrt(2 / fan_in)
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def constant(self, values):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    def node(self, kind, *inputs, **attributes):
        name = f"x{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def dense(self, x, inputs, outputs):
        return self.node("Gemm", x, self.weight((inputs, outputs), inputs), self.constant(np.zeros(outputs)))

    def conv(self, x, inputs, outputs, kernel=1, stride=1, group=1, relu=True):
        weight = self.weight((outputs, inputs // group, kernel, kernel), inputs // group * kernel * kernel)
        pad = kernel // 2
        bias = self.constant(self.rng.normal(size=outputs) * 0.1)
        x = self.node(
            "Conv", x, weight, bias, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4, group=group
        )
        return self.node("Clip", x, self.low, self.high) if relu else x

    def save(self, last, shape, outputs):
        self.nodes[-1].output[0] = "output"
        ends = [("input", shape), ("output", outputs)]
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *sizes]) for name, sizes in ends]
        graph = helper.make_graph(self.nodes, "net", ends[:1], ends[1:], self.weights)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        onnx.checker.check_model(made, full_check=True)
        return made


def mlp(folder):
    net, sizes = Net(5), [64, 256, 128]
    x = "input"
    for inputs, outputs in zip(sizes, sizes[1:]):
        x = net.node("Relu", net.dense(x, inputs, outputs))
    x = net.node("Sigmoid", net.dense(x, sizes[-1], 1))
    rows = (np.round(np.random.default_rng(6).normal(size=(ROWS, 64)) * 64) / 64).astype(np.float32)
    write(folder, net.save(x, [64], [1]), rows)


def mobilenet(folder):
    """The shape of MobileNetV2 (Sandler et al. 2018, table 2), batch norms folded; the weights are random."""
    net = Net(7)
    net.low, net.high = net.constant(0.0), net.constant(6.0)
    x, channels = net.conv("input", 3, 32, kernel=3, stride=2), 32
    table2 = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for expansion, outputs, repeats, first_stride in table2:
        for repeat in range(repeats):
            stride, wide, before = (first_stride if repeat == 0 else 1), channels * expansion, x
            if expansion > 1:
                x = net.conv(x, channels, wide)
            x = net.conv(x, wide, wide, kernel=3, stride=stride, group=wide)
            x = net.conv(x, wide, outputs, relu=False)
            if stride == 1 and channels == outputs:
                x = net.node("Add", before, x)
            channels = outputs
    x = net.conv(x, channels, 1280)
    x = net.node("Flatten", net.node("GlobalAveragePool", x), axis=1)
    x = net.dense(x, 1280, 1000)
    images = np.random.default_rng(8).random(size=(IMAGES, 3, 224, 224), dtype=np.float32)
    write(folder, net.save(x, [3, 224, 224], [1000]), images)


def one_output(made, name):
    """Converters add the label; serving is compared on the probabilities alone."""
    kept = [output for output in made.graph.output if output.name == name]
    assert kept, f"no output {name}: {[output.name for output in made.graph.output]}"
    del made.graph.output[:]
    made.graph.output.extend(kept)
    return made


def write(folder, made, rows):
    path = folder / "model.onnx"
    onnx.save(made, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    output = session.get_outputs()[0].name
    # Row by row, as the servers are asked.
    expected = np.concatenate([session.run([output], {"input": row[None]})[0] for row in rows])
    np.save(folder / "rows.npy", rows)
    np.save(folder / "expected.npy", expected)
    weights = sum(int(np.prod(weight.dims)) for weight in made.graph.initializer)
    told = {"input": "input", "shape": list(rows.shape[1:]), "output": output, "weights": weights}
    (folder / "spec.json").write_text(json.dumps(told) + "\n")
    print(f"{folder.name}: {path.stat().st_size} bytes, {len(rows)} rows, answers {expected.min():.4g}…{expected.max():.4g}")


def make():
    for model in (logistic, mlp, trees, mobilenet):
        folder = MODELS / model.__name__
        if not (folder / "spec.json").is_file():
            folder.mkdir(parents=True, exist_ok=True)
            model(folder)


if __name__ == "__main__":
    make()
