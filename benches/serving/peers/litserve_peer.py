"""LitServe: WORKERS model processes and SERVERS HTTP processes, with the fast queue and no tracking of requests.

BATCH rows at most are run together; LitServe's advice is to batch where a batch costs less than its rows, which on two
cores it hardly does. Images come as a file of a form, as its documentation shows.
"""

import os

import litserve
import numpy as np

import onnx_model

BATCH = int(os.environ.get("BATCH", "1"))


class Rows(litserve.LitAPI):
    def setup(self, device):
        self.run = onnx_model.load()

    def decode_request(self, request):
        if "image" in request:
            return onnx_model.from_bytes(request["image"].file.read())[0]
        return np.asarray(request["rows"][0], np.float32)

    def batch(self, inputs):
        return np.stack(inputs)

    def predict(self, rows):
        return self.run(rows if BATCH > 1 else rows[None])

    def unbatch(self, outputs):
        return list(outputs[:, None])

    def encode_response(self, outputs):
        return {"outputs": outputs.tolist()}


if __name__ == "__main__":
    # A batch is what has come while the model was busy: nobody waits for others.
    api = Rows(max_batch_size=BATCH, batch_timeout=0.0)
    workers = int(os.environ.get("WORKERS", "1"))
    server = litserve.LitServer(api, accelerator="cpu", devices=1, workers_per_device=workers, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        num_api_servers=int(os.environ.get("SERVERS", "1")),
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )
