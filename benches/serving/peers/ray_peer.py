"""Ray Serve: one application of WORKERS replicas behind its HTTP proxy, without dashboard and access log.

Environment by run.py: usage statistics off, and the settings that Ray's documentation of performance names together
as RAY_SERVE_THROUGHPUT_OPTIMIZED, except direct ingress, which listens on all interfaces. BATCH rows at most are run
together, those that wait.
"""

import os
import signal

import numpy as np
import orjson
import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

import onnx_model

BATCH = int(os.environ.get("BATCH", "1"))
WORKERS = int(os.environ.get("WORKERS", "1"))


@serve.deployment(
    num_replicas=WORKERS,
    max_ongoing_requests=256,
    ray_actor_options={"num_cpus": 0.5},
    logging_config={"enable_access_log": False, "log_level": "WARNING"},
)
class Model:
    def __init__(self):
        self.run = onnx_model.load()

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=0.0)
    async def batched(self, rows):
        return list(self.run(np.stack(rows)))

    async def __call__(self, request: Request):
        content = await request.body()
        if request.url.path.endswith("/raw"):
            answer = self.run(onnx_model.from_bytes(content)).tobytes()
            return Response(answer, media_type="application/octet-stream")
        rows = np.asarray(orjson.loads(content)["rows"], np.float32)
        answer = np.stack([await self.batched(rows[0])]) if BATCH > 1 else self.run(rows)
        text = orjson.dumps({"outputs": answer}, option=orjson.OPT_SERIALIZE_NUMPY)
        return Response(text, media_type="application/json")


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False)
    serve.start(
        http_options={"host": "127.0.0.1", "port": int(os.environ["PORT"])},
        logging_config={"enable_access_log": False, "log_level": "WARNING"},
    )
    serve.run(Model.bind(), name="model", route_prefix="/")
    print("ready", flush=True)
    signal.sigwait([signal.SIGTERM, signal.SIGINT])
    serve.shutdown()
    ray.shutdown()
