"""The model that every peer serves through ONNX Runtime: named by MODEL_DIR, with THREADS threads a session."""

import json
import os
import pathlib

import numpy as np
import onnxruntime

FOLDER = pathlib.Path(os.environ["MODEL_DIR"])
SPEC = json.loads((FOLDER / "spec.json").read_text())
SHAPE = tuple(SPEC["shape"])


def load():
    """A function from a float32 array of rows to the array of answers."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("THREADS", "1"))
    options.inter_op_num_threads = 1
    # Threads that spin while they wait would take the cores of the server itself and of the client.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(FOLDER / "model.onnx", options, providers=["CPUExecutionProvider"])
    name, outputs = SPEC["input"], [SPEC["output"]]
    return lambda rows: session.run(outputs, {name: rows})[0]


def from_bytes(content):
    return np.frombuffer(content, "<f4").reshape(-1, *SHAPE)
