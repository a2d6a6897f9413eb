"""FastAPI under uvicorn: bodies parsed by orjson, no validation layer, the model called in the event loop.

Settings by the documentation of uvicorn: uvloop, httptools, no access log; run.py gives one worker or one for each
core. Calling the model in the loop beats a thread pool for models of this size; the pool's hop costs more than the
small models take, and with the large one there is no core left for a second thread.
"""

import numpy as np
import orjson
from fastapi import FastAPI, Request, Response

import onnx_model

app = FastAPI(openapi_url=None)
predict = onnx_model.load()


@app.get("/ready")
async def ready():
    return Response()


@app.post("/rows")
async def rows(request: Request):
    asked = np.asarray(orjson.loads(await request.body())["rows"], np.float32)
    content = orjson.dumps({"outputs": predict(asked)}, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(content, media_type="application/json")


@app.post("/raw")
async def raw(request: Request):
    content = predict(onnx_model.from_bytes(await request.body())).tobytes()
    return Response(content, media_type="application/octet-stream")
