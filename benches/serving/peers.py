"""The servers that are compared, each with the settings it is given; why, is said here and in peers/.

Small models (microseconds a row) and the large one (milliseconds) get the settings that served each best among those
that tune.py tried.
"""

import json
import pathlib
from dataclasses import dataclass, field

import harness

HERE = pathlib.Path(__file__).resolve().parent
PEERS = HERE / "peers"
VENVS = HERE / ".venvs"
QUIET = {"DO_NOT_TRACK": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PEERS), "PYTHONUNBUFFERED": "1"}


@dataclass
class Peer:
    name: str
    venv: str
    command: list
    ready: str
    # Wire format to path, for the small models and for the large one.
    small: dict
    large: dict
    env: dict = field(default_factory=dict)
    small_env: dict = field(default_factory=dict)
    large_env: dict = field(default_factory=dict)
    # Of the package index, whose versions are reported.
    packages: tuple = ()
    only: tuple = ()
    # Settings that tune.py compares.
    tried: dict = field(default_factory=dict)

    def serves(self, model):
        return not self.only or model.name in self.only

    def wires(self, model):
        return self.large if model.large else self.small

    def settings(self, model):
        return self.env | (self.large_env if model.large else self.small_env)

    def start(self, model):
        port = harness.free_port()
        env = QUIET | self.settings(model) | {"MODEL_DIR": str(model.folder), "PORT": str(port)}
        program = VENVS / self.venv / "bin" / "python"
        if not (VENVS / self.venv / "done").is_file():
            failed = HERE / "work" / f"failed-{self.venv}.txt"
            raise harness.Trouble(failed.read_text() if failed.is_file() else f"not installed: sh setup.sh {self.venv}")
        command = [part.format(port=port, workers=env.get("WORKERS", "1")) for part in self.command]
        if self.venv == "mlserver":
            command.append(str(mlserver_folder(self, model, port)))
        server = harness.Server(self.name, [program, *command], env, port, cwd=PEERS)
        try:
            server.wait(self.ready)
        except harness.Trouble:
            server.stop()
            raise
        return server


def mlserver_folder(peer, model, port):
    """MLServer is configured by files: settings.json for the server, model-settings.json for the model."""
    settings = peer.settings(model)
    folder = HERE / "work" / peer.name
    folder.mkdir(parents=True, exist_ok=True)
    server = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": harness.free_port(),
        "metrics_endpoint": None,
        "debug": False,
        "gzip_enabled": False,
        "parallel_workers": int(settings["WORKERS"]),
    }
    (folder / "settings.json").write_text(json.dumps(server))
    own = {
        "logistic": ("mlserver_sklearn.SKLearnModel", "model.joblib"),
        "trees": ("mlserver_lightgbm.LightGBMModel", "model.txt"),
    }
    runtime, file = own[model.name] if peer.name == "mlserver-own" else ("mlserver_peer.OnnxModel", "model.onnx")
    parameters = {"uri": str(model.folder / file), "version": "1", "extra": {"predict_fn": "predict_proba"}}
    told = {"name": model.name, "implementation": runtime, "parameters": parameters}
    if int(settings["BATCH"]) > 1:
        told |= {"max_batch_size": int(settings["BATCH"]), "max_batch_time": float(settings["BATCH_SECONDS"])}
    (folder / "model-settings.json").write_text(json.dumps(told))
    return folder


UVICORN = "-m uvicorn fastapi_peer:app --host 127.0.0.1 --port {port} --workers {workers} --loop uvloop --http httptools"
UVICORN = [*UVICORN.split(), "--no-access-log", "--log-level", "warning"]
OIP = "/v2/models/{model}/infer"

ALL = [
    # One process: the large model gets both cores inside ONNX Runtime.
    Peer(
        name="fastapi-1",
        venv="fastapi",
        command=UVICORN,
        ready="/ready",
        small={"rows": "/rows", "raw": "/raw"},
        large={"raw": "/raw"},
        env={"WORKERS": "1"},
        large_env={"THREADS": "2"},
        packages=("fastapi", "uvicorn", "onnxruntime"),
    ),
    # One process for each core, each with a session of one thread.
    Peer(
        name="fastapi-2",
        venv="fastapi",
        command=UVICORN,
        ready="/ready",
        small={"rows": "/rows", "raw": "/raw"},
        large={"raw": "/raw"},
        env={"WORKERS": "2"},
        packages=("fastapi", "uvicorn", "onnxruntime"),
    ),
    Peer(
        name="litserve",
        venv="litserve",
        command=["litserve_peer.py"],
        ready="/health",
        small={"rows": "/predict"},
        large={"multipart": "/predict"},
        env={"SERVERS": "1"},
        small_env={"WORKERS": "2", "BATCH": "1"},
        large_env={"WORKERS": "2", "BATCH": "1"},
        packages=("litserve", "onnxruntime"),
        tried={"WORKERS": ("1", "2"), "BATCH": ("1", "16"), "SERVERS": ("1", "2")},
    ),
    Peer(
        name="bentoml",
        venv="bentoml",
        command=["-m", "bentoml", "serve", "bentoml_peer:Model", "--host", "127.0.0.1", "--port", "{port}"],
        ready="/readyz",
        small={"rows": "/rows"},
        large={"raw": "/raw"},
        env={"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(HERE / "work" / "bentoml")},
        small_env={"WORKERS": "2", "BATCH": "1"},
        large_env={"WORKERS": "2", "BATCH": "1"},
        packages=("bentoml", "onnxruntime"),
        tried={"WORKERS": ("1", "2"), "BATCH": ("1", "16")},
    ),
    Peer(
        name="ray",
        venv="ray",
        command=["ray_peer.py"],
        ready="/-/healthz",
        small={"rows": "/rows"},
        large={"raw": "/raw"},
        env={
            # Ray keeps a token of its own in the home folder.
            "HOME": str(HERE / "work" / "ray"),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0",
            "RAY_DISABLE_IMPORT_WARNING": "1",
        },
        small_env={"WORKERS": "1", "BATCH": "1"},
        large_env={"WORKERS": "2", "BATCH": "1"},
        packages=("ray", "onnxruntime"),
        tried={"WORKERS": ("1", "2"), "BATCH": ("1", "16"), "RAY_SERVE_THROUGHPUT_OPTIMIZED": ("0", "1")},
    ),
    Peer(
        name="mlserver",
        venv="mlserver",
        command=["-m", "mlserver.cli.main", "start"],
        ready="/v2/health/ready",
        small={"oip": OIP},
        large={"oip-base64": OIP},
        small_env={"WORKERS": "0", "BATCH": "1"},
        large_env={"WORKERS": "0", "BATCH": "1", "THREADS": "2"},
        packages=("mlserver", "onnxruntime"),
        tried={"WORKERS": ("0", "2"), "BATCH": ("1", "16"), "BATCH_SECONDS": ("0.001",)},
    ),
    # Its own runtimes for scikit-learn and LightGBM, where it has them.
    Peer(
        name="mlserver-own",
        venv="mlserver",
        command=["-m", "mlserver.cli.main", "start"],
        ready="/v2/health/ready",
        small={"oip": OIP},
        large={},
        env={"WORKERS": "0", "BATCH": "1"},
        packages=("mlserver", "mlserver-sklearn", "mlserver-lightgbm", "lightgbm", "scikit-learn"),
        only=("logistic", "trees"),
    ),
]
