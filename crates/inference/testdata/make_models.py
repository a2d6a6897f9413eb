"""Makes the small models in import/, and import/expected.json: what their own libraries answer.

    python -m venv .venv
    .venv/bin/pip install lightgbm==4.7.0 xgboost==3.2.0 catboost==1.2.10 scikit-learn==1.9.1 skl2onnx==1.20.0 \
        onnxmltools==1.16.0 onnx==1.23.2 onnxruntime==1.32.0 pandas
    .venv/bin/python crates/inference/testdata/make_models.py

Everything is synthetic and seeded. ONNX Runtime runs on one thread, since it sums in another order on several.
"""

import json
import pathlib
import warnings

import catboost
import lightgbm
import numpy as np
import onnx
import onnxruntime
import pandas
import xgboost
from onnx import TensorProto, helper

warnings.filterwarnings("ignore")
HERE = pathlib.Path(__file__).parent / "import"
ROWS = 29
CASES = []
INPUTS = {}


def plain(array):
    """Numbers as JSON has them: null for NaN, text for infinities; texts as they are."""
    array = np.asarray(array)
    if array.dtype.kind in "OUS":
        return [str(value) for value in array.ravel()]
    if array.dtype.kind in "iub":
        return [int(value) for value in array.ravel()]
    # The shortest form that gives the same number in its own precision.
    numbers = [float(str(value)) for value in array.ravel()]
    return [None if x != x else ("inf" if x > 0 else "-inf") if x in (np.inf, -np.inf) else x for x in numbers]


def tensor(name, array):
    array = np.asarray(array)
    kinds = {"float32": "FP32", "float64": "FP64", "int64": "INT64", "bool": "BOOL"}
    return {
        "name": name,
        "datatype": kinds.get(array.dtype.name, "BYTES"),
        "shape": list(array.shape),
        "data": plain(array),
    }


def case(file, inputs, outputs, exact):
    """`exact` names the outputs whose bits must agree; the others may differ in the last places."""
    CASES.append({"file": file, "inputs": inputs, "outputs": [tensor(*pair) for pair in outputs], "exact": exact})


def training(seed, classes=None):
    random = np.random.default_rng(seed)
    x = random.normal(size=(400, 5))
    x[:, 3] = random.integers(0, 70, size=400)
    x[:, 4] = np.round(x[:, 4] * 2) / 2
    score = x[:, 0] + np.sin(x[:, 3]) + 0.5 * x[:, 1] * x[:, 2] + 0.3 * random.normal(size=400)
    x[random.random(size=400) < 0.2, 1] = np.nan
    x[random.random(size=400) < 0.1, 2] = 0.0
    if classes is None:
        return x, score
    return x, np.digitize(score, np.quantile(score, np.arange(1, classes) / classes)).astype(float)


def questions(infinite):
    """Rows with the odd values: NaN, zeros of both signs, almost zero, categories that are none."""
    random = np.random.default_rng(99)
    x = random.normal(size=(ROWS, 5))
    x[:, 3] = random.integers(0, 80, size=ROWS)
    x[:, 4] = np.round(x[:, 4] * 2) / 2
    odd = [np.nan, 0.0, -0.0, 1e-36, -1e-36, 1e-34, 1e-35]
    for row in range(26):
        x[row, row % 5] = odd[row % len(odd)]
    x[:8, 3] = [np.nan, -0.5, -1.0, 3.7, 1e9, 2.0**24, -7.0, 4e9 if infinite else 5.0]
    if infinite:
        x[8:10, 0] = [np.inf, -np.inf]
        x[10:12, 3] = [np.inf, -np.inf]
    return x


Q64 = questions(True)
Q32 = questions(False).astype(np.float32)
Q32_INFINITE = questions(True).astype(np.float32)
INPUTS["double"] = [tensor("input", Q64)]
INPUTS["single"] = [tensor("input", Q32)]
INPUTS["single_infinite"] = [tensor("input", Q32_INFINITE)]


def lightgbm_models():
    common = {
        "verbosity": -1,
        "num_leaves": 7,
        "min_data_in_leaf": 5,
        "seed": 1,
        "num_threads": 1,
        "learning_rate": 0.3,
        "min_data_per_group": 1,
        "cat_smooth": 1.0,
        "cat_l2": 1.0,
        "deterministic": True,
    }
    kinds = {
        "binary": ({"objective": "binary", "sigmoid": 1.7}, 2, [3]),
        "zero_missing": ({"objective": "regression", "zero_as_missing": True}, None, []),
        "no_missing": ({"objective": "regression", "use_missing": False}, None, []),
        "multiclass": ({"objective": "multiclass", "num_class": 3}, 3, [3]),
        "ova": ({"objective": "multiclassova", "num_class": 3}, 3, []),
        "poisson": ({"objective": "poisson"}, 4, []),
        "tweedie": ({"objective": "tweedie"}, 4, []),
        "sqrt": ({"objective": "regression", "reg_sqrt": True}, None, []),
        "entropy": ({"objective": "cross_entropy"}, 2, []),
        "entropy_lambda": ({"objective": "cross_entropy_lambda"}, 2, []),
        "dart": ({"objective": "binary", "boosting": "dart", "drop_rate": 0.5}, 2, []),
        "rf": ({"objective": "binary", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6}, 2, [3]),
        "rf_regression": (
            {"objective": "regression", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6},
            None,
            [],
        ),
        "l1": ({"objective": "regression_l1"}, None, [4]),
        "constant": ({"objective": "regression", "min_data_in_leaf": 1000}, None, []),
        "rank": ({"objective": "lambdarank"}, 4, []),
    }
    for name, (parameters, classes, categories) in kinds.items():
        x, y = training(7, classes)
        data = lightgbm.Dataset(
            x, y, categorical_feature=categories, group=[50] * 8 if name == "rank" else None, free_raw_data=False
        )
        booster = lightgbm.train({**common, **parameters}, data, 4)
        file = f"lightgbm_{name}.txt"
        # The parameters at the end and the trees' statistics are not read.
        text = booster.model_to_string()
        head, tail = text.split("\nparameters:", 1)
        statistics = ("split_gain=", "leaf_weight=", "leaf_count=", "internal_", "tree_sizes=")
        lines = [line for line in head.splitlines() if not line.startswith(statistics)]
        (HERE / file).write_text("\n".join(lines) + "\n\npandas_categorical:null\n")
        raw, score = booster.predict(Q64, raw_score=True), booster.predict(Q64)
        if name in ("multiclass", "ova"):
            case(file, "double", [("raw", raw), ("probabilities", score)], ["raw"])
        elif parameters["objective"] in ("binary", "cross_entropy"):
            case(file, "double", [("raw", raw), ("probability", score)], ["raw"])
        elif name in ("poisson", "tweedie", "entropy_lambda"):
            case(file, "double", [("raw", raw), ("value", score)], ["raw"])
        elif name in ("sqrt", "rf_regression"):
            case(file, "double", [("raw", raw), ("value", score)], ["raw", "value"])
        else:
            case(file, "double", [("value", score)], ["value"])
    x, y = training(7)
    booster = lightgbm.train(
        {**common, "objective": "regression", "linear_tree": True}, lightgbm.Dataset(np.nan_to_num(x), y), 2
    )
    booster.save_model(HERE / "lightgbm_linear.txt")


def slim(file, keep):
    """Leaves out what training wrote and no reader needs."""
    path = HERE / file
    document = json.loads(path.read_text())
    keep(document)
    path.write_text(json.dumps(document, separators=(",", ":")))


def xgboost_models():
    common = {"max_depth": 3, "eta": 0.4, "seed": 1, "nthread": 1}
    kinds = {
        "binary": ({"objective": "binary:logistic"}, 2, False),
        "base": ({"objective": "binary:logistic", "base_score": 0.137}, 2, False),
        "logitraw": ({"objective": "binary:logitraw"}, 2, False),
        "hinge": ({"objective": "binary:hinge"}, 2, False),
        "categories": ({"objective": "reg:squarederror", "max_cat_to_onehot": 2}, None, True),
        "one_category": ({"objective": "binary:logistic", "max_cat_to_onehot": 1000}, 2, True),
        "softprob": ({"objective": "multi:softprob", "num_class": 3}, 3, False),
        "softmax": ({"objective": "multi:softmax", "num_class": 3}, 3, False),
        "poisson": ({"objective": "count:poisson"}, 4, False),
        "gamma": ({"objective": "reg:gamma"}, 4, False),
        "tweedie": ({"objective": "reg:tweedie"}, 4, False),
        "logistic": ({"objective": "reg:logistic"}, 2, False),
        "absolute": ({"objective": "reg:absoluteerror"}, None, False),
        "quantiles": ({"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.9]}, None, False),
        "dart": ({"objective": "binary:logistic", "booster": "dart", "rate_drop": 0.5, "one_drop": 1}, 2, False),
        "parallel": ({"objective": "reg:squarederror", "num_parallel_tree": 2, "subsample": 0.5}, None, False),
        "gblinear": ({"objective": "multi:softprob", "num_class": 3, "booster": "gblinear"}, 3, False),
        "rank": ({"objective": "rank:ndcg"}, 4, False),
        "targets": ({"objective": "reg:squarederror"}, None, False),
        "cox": ({"objective": "survival:cox"}, 4, False),
    }
    for name, (parameters, classes, categorical) in kinds.items():
        x, y = training(11, classes)
        if name in ("gamma", "cox"):
            y = y + 1
        if name == "targets":
            y = np.stack([y, -2 * y], axis=1)
        types = ["q", "q", "q", "c", "q"] if categorical else None
        # A category that is not in the file's range counts as unknown only in prediction.
        data = xgboost.DMatrix(x.astype(np.float32), y, feature_types=types, enable_categorical=categorical)
        if name == "rank":
            data.set_group([50] * 8)
        booster = xgboost.train(
            {k: v for k, v in {**common, **parameters}.items() if name != "gblinear" or k != "max_depth"}, data, 3
        )
        file = f"xgboost_{name}.json"
        booster.save_model(HERE / file)
        slim(file, slim_xgboost)
        if name in ("binary", "categories"):
            booster.save_model(HERE / f"xgboost_{name}.ubj")
        rows = Q32.copy()
        question = "single"
        if categorical:
            # The library refuses some of these as data, though its trees would take them.
            rows[np.isin(rows[:, 3], [2.0**24, 1e9]), 3] = 71
            rows[rows[:, 3] < 0, 3] = 72
            question = "single_categories"
            INPUTS[question] = [tensor("input", rows)]
        asked = xgboost.DMatrix(rows, feature_types=types, enable_categorical=categorical)
        raw = booster.predict(asked, output_margin=True)
        score = booster.predict(asked)
        if name == "softmax":
            shifted = np.exp(raw - raw.max(axis=1, keepdims=True))
            score = (shifted / shifted.sum(axis=1, keepdims=True)).astype(np.float32)
        objective = parameters["objective"]
        if objective in ("multi:softprob", "multi:softmax"):
            outputs = [("raw", raw), ("probabilities", score)]
        elif objective == "binary:logistic":
            outputs = [("raw", raw), ("probability", score)]
        elif objective == "binary:logitraw":
            outputs = [("raw", raw)]
        elif objective in ("count:poisson", "reg:gamma", "reg:tweedie", "reg:logistic", "binary:hinge", "survival:cox"):
            outputs = [("raw", raw), ("value", score)]
        else:
            outputs = [("value", score)]
        exact = ["raw"] + (["value"] if objective in ("binary:hinge",) or len(outputs) == 1 else [])
        case(file, question, outputs, exact)
        if name in ("binary", "categories"):
            case(f"xgboost_{name}.ubj", question, outputs, exact)
    x, y = training(11)
    data = xgboost.DMatrix(x.astype(np.float32), y)
    held = xgboost.DMatrix(-x.astype(np.float32), y)
    booster = xgboost.train(
        {**common, "objective": "reg:squarederror"},
        data,
        8,
        evals=[(held, "held")],
        early_stopping_rounds=3,
        verbose_eval=False,
    )
    booster.save_model(HERE / "xgboost_stopped.json")
    slim("xgboost_stopped.json", slim_xgboost)
    assert booster.best_iteration + 1 < booster.num_boosted_rounds()
    score = booster.predict(xgboost.DMatrix(Q32), iteration_range=(0, booster.best_iteration + 1))
    case("xgboost_stopped.json", "single", [("value", score)], ["value"])
    x, y = training(11, 3)
    booster = xgboost.train(
        {**common, "objective": "multi:softprob", "num_class": 3, "multi_strategy": "multi_output_tree"},
        xgboost.DMatrix(x, y),
        1,
    )
    booster.save_model(HERE / "xgboost_vectors.json")


def slim_xgboost(document):
    booster = document["learner"]["gradient_booster"]
    for tree in booster.get("gbtree", booster).get("model", {}).get("trees", []):
        for key in ("base_weights", "loss_changes", "sum_hessian", "parents"):
            tree.pop(key)


def slim_catboost(document):
    information = document["model_info"]
    loss = information["params"]["loss_function"]
    document["model_info"] = {"params": {"loss_function": loss}, "class_params": information.get("class_params")}
    for feature in document["features_info"]["float_features"]:
        feature.pop("has_nans")
    for tree in document.get("oblivious_trees", []):
        tree.pop("leaf_weights", None)


def catboost_models():
    common = {
        "iterations": 4,
        "depth": 3,
        "verbose": 0,
        "allow_writing_files": False,
        "random_seed": 1,
        "thread_count": 1,
        "learning_rate": 0.4,
    }
    kinds = {
        "binary": ({"loss_function": "Logloss"}, 2),
        "nan_max": ({"loss_function": "Logloss", "nan_mode": "Max"}, 2),
        "regression": ({"loss_function": "RMSE"}, None),
        "multiclass": ({"loss_function": "MultiClass"}, 3),
        "ova": ({"loss_function": "MultiClassOneVsAll"}, 3),
        "poisson": ({"loss_function": "Poisson"}, 4),
        "depthwise": ({"loss_function": "RMSE", "grow_policy": "Depthwise"}, None),
        "lossguide": ({"loss_function": "MultiClass", "grow_policy": "Lossguide", "max_leaves": 5}, 3),
    }
    for name, (parameters, classes) in kinds.items():
        x, y = training(13, classes)
        labels = y if classes != 3 else np.array(["low", "mid", "top"])[y.astype(int)]
        frame = pandas.DataFrame(x, columns=["a", "b", "c", "d", "e"])
        kind = catboost.CatBoostClassifier if classes in (2, 3) else catboost.CatBoostRegressor
        model = kind(**common, **parameters).fit(frame, labels)
        model.save_model(str(HERE / f"catboost_{name}.json"), format="json")
        slim(f"catboost_{name}.json", slim_catboost)
        files = [f"catboost_{name}.json"]
        if name in ("binary", "depthwise", "lossguide"):
            model.save_model(str(HERE / f"catboost_{name}.cbm"))
            files.append(f"catboost_{name}.cbm")
        asked = pandas.DataFrame(Q32_INFINITE, columns=frame.columns)
        raw = model.predict(asked, prediction_type="RawFormulaVal")
        if classes == 2:
            outputs = [("raw", raw), ("probability", model.predict_proba(asked)[:, 1])]
        elif classes == 3:
            outputs = [("raw", raw), ("probabilities", model.predict_proba(asked))]
        elif name == "poisson":
            outputs = [("raw", raw), ("value", model.predict(asked))]
        else:
            outputs = [("value", raw)]
        for file in files:
            case(file, "single_infinite", outputs, [outputs[0][0]])
    x, y = training(13, 2)
    frame = pandas.DataFrame(x, columns=["a", "b", "c", "d", "e"])
    frame["d"] = frame["d"].astype(int).astype(str)
    model = catboost.CatBoostClassifier(**{**common, "iterations": 1}).fit(frame, y, cat_features=["d"])
    model.save_model(str(HERE / "catboost_categories.cbm"))


def session(bytes_):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(bytes_, options, providers=["CPUExecutionProvider"])


def onnx_case(file, model, inputs, exact):
    """`inputs` is a key of INPUTS or a list of pairs, which then becomes one."""
    bytes_ = model.SerializeToString()
    (HERE / file).write_bytes(bytes_)
    if not isinstance(inputs, str):
        INPUTS[file] = [tensor(name, array) for name, array in inputs]
        feeds, inputs = dict(inputs), file
    else:
        feeds = {"input": {"single": Q32, "single_infinite": Q32_INFINITE}[inputs]}
    running = session(bytes_)
    feeds = {name: array.astype(object) if array.dtype.kind in "OU" else array for name, array in feeds.items()}
    outputs = []
    for output, value in zip(running.get_outputs(), running.run(None, feeds)):
        if isinstance(value, list):
            value = np.array([list(row.values()) for row in value], dtype=np.float32)
        outputs.append((output.name, value))
    case(file, inputs, outputs, [name for name, _ in outputs] if exact is None else exact)


def random_trees(random, targets, modes, missing, leaf_ids, positive, kind):
    """The attributes of an ensemble of random trees."""
    lists = {
        key: []
        for key in (
            "treeids",
            "nodeids",
            "featureids",
            "modes",
            "values",
            "truenodeids",
            "falsenodeids",
            "missing_value_tracks_true",
        )
    }
    leaves = {key: [] for key in ("treeids", "nodeids", "ids", "weights")}
    for tree in range(4):
        depth, waiting = 3, [(0, 0)]
        count = 1
        while waiting:
            node, level = waiting.pop(0)
            leaf = level == depth or (level > 0 and random.random() < 0.2)
            lists["treeids"].append(tree)
            lists["nodeids"].append(node)
            lists["featureids"].append(0 if leaf else int(random.integers(0, 5)))
            lists["modes"].append("LEAF" if leaf else str(random.choice(modes)))
            whole = lists["featureids"][-1] in (3, 4)
            lists["values"].append(
                0.0 if leaf else float(np.float32(random.integers(-1, 3) if whole else random.normal()))
            )
            lists["missing_value_tracks_true"].append(int(missing and not leaf and random.random() < 0.5))
            if leaf:
                lists["truenodeids"].append(0)
                lists["falsenodeids"].append(0)
                for identity in leaf_ids(random):
                    leaves["treeids"].append(tree)
                    leaves["nodeids"].append(node)
                    leaves["ids"].append(int(identity))
                    weight = random.normal()
                    leaves["weights"].append(float(np.float32(abs(weight) / 5 if positive else weight)))
            else:
                lists["truenodeids"].append(count)
                lists["falsenodeids"].append(count + 1)
                waiting += [(count, level + 1), (count + 1, level + 1)]
                count += 2
    attributes = {f"nodes_{key}": value for key, value in lists.items()}
    attributes.update({f"{kind}_{key}": value for key, value in leaves.items()})
    return attributes


def graph(nodes, outputs, initializers=(), opsets=((("", 15), ("ai.onnx.ml", 3)))):
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, [None, 5])
    made = [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in outputs]
    model = helper.make_model(
        helper.make_graph(nodes, "g", [given], made, list(initializers)),
        opset_imports=[helper.make_opsetid(*pair) for pair in opsets],
    )
    model.ir_version = 8
    return model


def onnx_ensembles():
    numeric = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT"]
    every = numeric + ["BRANCH_EQ", "BRANCH_NEQ"]
    random = np.random.default_rng(5)
    for name, modes, missing, aggregate, transform, targets, base in [
        ("leq", ["BRANCH_LEQ"], True, "SUM", "NONE", 1, True),
        ("lt", ["BRANCH_LT"], True, "SUM", "NONE", 1, False),
        ("gte", ["BRANCH_GTE"], True, "AVERAGE", "NONE", 1, True),
        ("gt", ["BRANCH_GT"], False, "MIN", "NONE", 1, False),
        ("eq", ["BRANCH_EQ"], True, "MAX", "NONE", 1, False),
        ("neq", ["BRANCH_NEQ"], True, "MAX", "NONE", 1, True),
        ("mixed", every, True, "SUM", "LOGISTIC", 1, False),
        ("two", every, True, "SUM", "NONE", 2, True),
        ("three_average", every, False, "AVERAGE", "SOFTMAX", 3, False),
        ("three_min", numeric, True, "MIN", "NONE", 3, True),
        ("three_max", numeric, True, "MAX", "LOGISTIC", 3, False),
        ("zero", numeric, True, "SUM", "SOFTMAX_ZERO", 3, False),
        ("rare", numeric, True, "SUM", "NONE", 9, True),
    ]:
        ids = (
            (lambda r: [0])
            if targets == 1
            else (lambda r, n=targets: sorted(r.choice(n, size=r.integers(1, n + 1), replace=False)))
        )
        attributes = random_trees(random, targets, modes, missing, ids, False, "target")
        if base:
            attributes["base_values"] = [float(np.float32(random.normal())) for _ in range(targets)]
        node = helper.make_node(
            "TreeEnsembleRegressor",
            ["input"],
            ["value"],
            domain="ai.onnx.ml",
            n_targets=targets,
            aggregate_function=aggregate,
            post_transform=transform,
            **attributes,
        )
        exact = None if transform == "NONE" or targets == 1 else []
        onnx_case(
            f"onnx_regressor_{name}.onnx",
            graph([node], [("value", TensorProto.FLOAT, [None, targets])]),
            "single_infinite",
            exact,
        )
    one, other = (lambda r: [0]), (lambda r: [1])
    both = lambda r: [0, 1]
    some = lambda r: sorted(r.choice(4, size=r.integers(1, 5), replace=False))
    for name, classes, ids, positive, transform, base in [
        ("positive", 2, one, True, "NONE", 0),
        ("positive_second", 2, other, True, "NONE", 0),
        ("positive_logistic", 2, one, True, "LOGISTIC", 0),
        ("positive_softmax", 2, one, True, "SOFTMAX", 0),
        ("mixed", 2, one, False, "NONE", 0),
        ("mixed_logistic", 2, one, False, "LOGISTIC", 0),
        ("mixed_second", 2, other, False, "LOGISTIC", 0),
        ("mixed_softmax", 2, one, False, "SOFTMAX", 0),
        ("base_one", 2, one, False, "LOGISTIC", 1),
        ("base_one_second", 2, other, False, "LOGISTIC", 1),
        ("base_two", 2, one, False, "LOGISTIC", 2),
        ("base_two_second", 2, other, False, "NONE", 2),
        ("both", 2, both, True, "NONE", 0),
        ("both_softmax", 2, both, False, "SOFTMAX", 0),
        ("both_base", 2, both, False, "NONE", 2),
        ("many", 4, some, False, "NONE", 0),
        ("many_softmax", 4, some, False, "SOFTMAX", 4),
        ("many_logistic", 4, some, False, "LOGISTIC", 0),
    ]:
        attributes = random_trees(random, classes, every, True, ids, positive, "class")
        if base:
            attributes["base_values"] = [float(np.float32(random.normal())) for _ in range(base)]
        texts = classes == 4
        # ONNX Runtime calls two classes with weights of their own 0 and 1, whatever they are called.
        numbers = [0, 1] if ids is both else [4, 7]
        labels = {"classlabels_strings": ["a", "b", "c", "d"]} if texts else {"classlabels_int64s": numbers}
        node = helper.make_node(
            "TreeEnsembleClassifier",
            ["input"],
            ["label", "scores"],
            domain="ai.onnx.ml",
            post_transform=transform,
            **labels,
            **attributes,
        )
        outputs = [
            ("label", TensorProto.STRING if texts else TensorProto.INT64, [None]),
            ("scores", TensorProto.FLOAT, [None, classes]),
        ]
        exact = None if transform == "NONE" else ["label"]
        onnx_case(f"onnx_classifier_{name}.onnx", graph([node], outputs), "single_infinite", exact)


def onnx_pipelines():
    from onnxmltools import convert_lightgbm, convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType as ToolsFloat
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import (
        ExtraTreesClassifier,
        GradientBoostingClassifier,
        RandomForestClassifier,
        RandomForestRegressor,
    )
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LinearRegression, LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Binarizer, MinMaxScaler, Normalizer, OneHotEncoder, OrdinalEncoder, StandardScaler

    # Labels of rows that lie on the fence may turn with the last bit of a linear sum.
    opset = {"": 15, "ai.onnx.ml": 3}
    x, y = training(17, 3)
    whole = np.nan_to_num(x).astype(np.float32)
    names = np.array(["low", "mid", "top"])[y.astype(int)]
    asked = Q32_INFINITE.copy()
    asked[np.isinf(asked)] = 3
    asked_whole = np.nan_to_num(Q32, nan=0.5)
    for name, model, target, rows, exact in [
        (
            "forest",
            make_pipeline(SimpleImputer(), RandomForestClassifier(4, max_depth=4, random_state=1)),
            names,
            asked,
            None,
        ),
        ("extra", ExtraTreesClassifier(4, max_depth=4, random_state=1), y == 1, asked_whole, None),
        ("regressor", RandomForestRegressor(4, max_depth=4, random_state=1), np.stack([y, -y], 1), asked_whole, None),
        ("boosting", GradientBoostingClassifier(n_estimators=4, random_state=1), names, asked_whole, ["output_label"]),
        (
            "logistic",
            make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()),
            names,
            asked,
            ["output_label"],
        ),
        ("linear", make_pipeline(MinMaxScaler(), LinearRegression()), y, asked_whole, []),
        (
            "norms",
            make_pipeline(
                Normalizer("l1"), Binarizer(threshold=0.1), RandomForestRegressor(2, max_depth=3, random_state=1)
            ),
            y,
            asked_whole,
            None,
        ),
    ]:
        model.fit(whole if name != "forest" else x.astype(np.float32), target)
        zipmap = name in ("forest", "logistic")
        options = (
            {id(model.steps[-1][1] if hasattr(model, "steps") else model): {"zipmap": zipmap}}
            if hasattr(model, "predict_proba")
            else None
        )
        converted = to_onnx(
            model, initial_types=[("input", FloatTensorType([None, 5]))], target_opset=opset, options=options
        )
        if zipmap is False and exact:
            exact = [converted.graph.output[0].name]
        onnx_case(f"onnx_sklearn_{name}.onnx", converted, [("input", rows)], exact)
    # Texts and numbers, each a column of its own.
    random = np.random.default_rng(23)
    frame = pandas.DataFrame(
        {
            "town": random.choice(["York", "Bath", "Ely"], 400),
            "size": random.normal(size=400).astype(np.float32),
            "kind": random.choice(["x", "y"], 400),
        }
    )
    target = (frame["size"] + (frame["town"] == "Ely") + (frame["kind"] == "x") > 0.7).astype(int)
    prepare = ColumnTransformer(
        [
            ("a", OneHotEncoder(handle_unknown="ignore"), ["town"]),
            ("b", StandardScaler(), ["size"]),
            ("c", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), ["kind"]),
        ]
    )
    model = make_pipeline(prepare, RandomForestClassifier(4, max_depth=4, random_state=1)).fit(frame, target)
    types = [
        ("town", StringTensorType([None, 1])),
        ("size", FloatTensorType([None, 1])),
        ("kind", StringTensorType([None, 1])),
    ]
    converted = to_onnx(model, initial_types=types, target_opset=opset)
    towns, kinds = np.resize(["York", "Bath", "Ely", "Oslo", ""], (ROWS, 1)), np.resize(["x", "y", "z"], (ROWS, 1))
    onnx_case("onnx_sklearn_columns.onnx", converted, [("town", towns), ("size", Q32[:, 1:2]), ("kind", kinds)], None)
    # The boosters' own converters; LightGBM's categories become equalities.
    x, y = training(7, 2)
    booster = lightgbm.train(
        {"objective": "binary", "verbosity": -1, "num_leaves": 6, "seed": 1, "num_threads": 1},
        lightgbm.Dataset(x, y, categorical_feature=[3]),
        4,
    )
    converted = convert_lightgbm(
        booster, initial_types=[("input", ToolsFloat([None, 5]))], target_opset=15, zipmap=True
    )
    onnx_case("onnx_lightgbm.onnx", converted, [("input", asked)], [converted.graph.output[0].name])
    model = xgboost.XGBClassifier(n_estimators=4, max_depth=3, n_jobs=1).fit(x, y)
    converted = convert_xgboost(model, initial_types=[("input", ToolsFloat([None, 5]))], target_opset=15)
    onnx_case("onnx_xgboost.onnx", converted, [("input", asked)], [converted.graph.output[0].name])


lightgbm_models()
xgboost_models()
catboost_models()
onnx_ensembles()
onnx_pipelines()
lines = [json.dumps(entry, separators=(",", ":")) for entry in CASES]
inputs = [f"{json.dumps(key)}:{json.dumps(value, separators=(',', ':'))}" for key, value in INPUTS.items()]
text = '{"inputs":{\n' + ",\n".join(inputs) + '\n},"cases":[\n' + ",\n".join(lines) + "\n]}\n"
(HERE / "expected.json").write_text(text)
print(len(CASES), "cases,", sum(path.stat().st_size for path in HERE.iterdir()) // 1024, "KiB")
