"""MLServer: a custom runtime over ONNX Runtime; run.py writes settings.json and model-settings.json beside it.

With debug, metrics, compression and gzip off. Adaptive batching (max_batch_size, max_batch_time) and parallel workers
are chosen there. The other MLServer entries are its own runtimes for scikit-learn and LightGBM.
"""

import base64

import numpy as np
from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput

import onnx_model


class OnnxModel(MLModel):
    async def load(self) -> bool:
        self.run = onnx_model.load()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        asked = payload.inputs[0]
        if asked.datatype == "BYTES":
            rows = np.concatenate([onnx_model.from_bytes(base64.b64decode(text)) for text in asked.data])
        else:
            # The data of a request come as a list, those of a batch as an array.
            rows = np.asarray(asked.data, np.float32).reshape(asked.shape)
        answer = self.run(rows)
        output = ResponseOutput(
            name=onnx_model.SPEC["output"], shape=list(answer.shape), datatype="FP32", data=answer.ravel().tolist()
        )
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=[output])
