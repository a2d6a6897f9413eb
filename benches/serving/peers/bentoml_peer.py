"""BentoML: WORKERS processes; rows as an array through its adaptive batching or, with BATCH=1, without it.

Images come as a file that is the whole body, as its documentation of file inputs has it. Metrics, tracing and the
access log are off.
"""

import os
from pathlib import Path
from typing import Annotated

import bentoml
import numpy as np
from bentoml.validators import DType

import onnx_model

BATCH = int(os.environ.get("BATCH", "1"))
Floats = Annotated[np.ndarray, DType("float32")]


@bentoml.service(
    workers=int(os.environ.get("WORKERS", "1")),
    traffic={"timeout": 30, "max_concurrency": 256},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class Model:
    def __init__(self):
        self.run = onnx_model.load()

    if BATCH > 1:

        @bentoml.api(batchable=True, batch_dim=0, max_batch_size=BATCH, max_latency_ms=10)
        def rows(self, rows: Floats) -> Floats:
            return self.run(rows)

    else:

        @bentoml.api
        async def rows(self, rows: Floats) -> Floats:
            return self.run(rows)

    @bentoml.api
    async def raw(self, image: Path, /) -> bytes:
        return self.run(onnx_model.from_bytes(image.read_bytes())).tobytes()
