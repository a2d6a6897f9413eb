"""Servers under test: started on 127.0.0.1, watched, loaded by `load`, checked for right answers, and stopped.

Each server's processes carry a mark in their environment, so that those which moved to other sessions are counted and
ended too, and no others.
"""

import http.client
import json
import os
import pathlib
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid

import numpy as np

import wires

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WORK = HERE / "work"
MODELS = WORK / "models"
LOAD = pathlib.Path(os.environ.get("LOAD_BINARY", ROOT / "target" / "release" / "load"))
HOMEOSTAT = pathlib.Path(os.environ.get("HOMEOSTAT_BINARY", ROOT / "target" / "release" / "homeostat"))
MARK = "HOMEOSTAT_SERVING_BENCHMARK"
ALONE = "HOMEOSTAT_SERVING_ALONE"
START_SECONDS = 90
STOP_SECONDS = 10
TICKS = os.sysconf("SC_CLK_TCK")


class Trouble(Exception):
    """A server that does not do what the benchmark needs; its message goes into the results."""


def go_alone():
    """Starts this program again where there is no network but the loopback: nobody else can reach a server under test,
    some of which listen on all interfaces with what they use inside, and none can send usage reports."""
    if os.environ.get(ALONE):
        return
    os.environ[ALONE] = "1"
    program = " ".join(map(shlex.quote, [sys.executable, *sys.argv]))
    command = ["unshare", "--net", "--map-root-user", "sh", "-c", f"ip link set lo up && exec {program}"]
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"unshare (util-linux) is needed to keep the servers to the loopback interface: {error}")


class Model:
    """One model of work/models/: its rows, the right answers and its specification."""

    def __init__(self, name):
        self.name, self.folder = name, MODELS / name
        self.rows, self.expected = np.load(self.folder / "rows.npy"), np.load(self.folder / "expected.npy")
        self.spec = json.loads((self.folder / "spec.json").read_text())
        self.large = self.rows[0].nbytes > 100_000


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Server:
    """A running server; as a context manager it is stopped at the end whatever happens."""

    def __init__(self, name, command, env, port, cwd=None):
        self.name, self.port, self.mark = name, port, uuid.uuid4().hex
        WORK.mkdir(exist_ok=True)
        self.log = WORK / f"server-{name}.log"
        began = time.monotonic()
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                env=os.environ | env | {MARK: self.mark},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.began, self.start_seconds = began, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def wait(self, path):
        """Until `path` is answered with 2xx."""
        while time.monotonic() - self.began < START_SECONDS:
            if self.process.poll() is not None:
                raise Trouble(f"{self.name} ended with {self.process.returncode}: {self.tail()}")
            try:
                if self.ask("GET", path)[0] // 100 == 2:
                    self.start_seconds = time.monotonic() - self.began
                    return
            except OSError:
                pass
            time.sleep(0.1)
        raise Trouble(f"{self.name} was not ready in {START_SECONDS} s: {self.tail()}")

    def tail(self):
        return self.log.read_text(errors="replace")[-1500:].strip()

    def ask(self, method, path, content=None, headers=None, seconds=30):
        """Status, headers with lower-case names, content."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            connection.request(method, path, content, headers or {})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        except http.client.HTTPException as error:
            raise OSError(f"{self.name}: {error!r}") from error
        finally:
            connection.close()

    def processes(self):
        wanted, found = f"{MARK}={self.mark}".encode(), []
        for entry in pathlib.Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def cpu_seconds(self):
        total = 0.0
        for pid in self.processes():
            try:
                fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            total += (int(fields[11]) + int(fields[12])) / TICKS
        return total

    def memory_mib(self):
        """Proportional set size: what processes share is counted once."""
        total = 0
        for pid in self.processes():
            try:
                lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            except OSError:
                continue
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        return total / 1024

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        until = time.monotonic() + STOP_SECONDS
        while time.monotonic() < until and (self.process.poll() is None or self.processes()):
            time.sleep(0.1)
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()


def write_results(path, results):
    """As JSON, with paths from the repository's root on: results are for others to read."""
    path.write_text(json.dumps(results, indent=1).replace(str(ROOT), ".") + "\n")


def load_command(mode, server, bodies, **options):
    given = [f"--{name.replace('_', '-')}={value}" for name, value in options.items() if value is not None]
    return [str(LOAD), mode, f"--port={server.port}", f"--bodies={bodies}", *given]


def load(mode, server, bodies, **options):
    done = subprocess.run(load_command(mode, server, bodies, **options), capture_output=True, text=True)
    if done.returncode:
        raise Trouble(f"load {mode} on {server.name}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def load_beside(mode, server, bodies, **options):
    """The same, begun and not waited for; `finish` gives its report."""
    return subprocess.Popen(load_command(mode, server, bodies, **options), stdout=subprocess.PIPE, text=True)


def finish(begun):
    return json.loads(begun.communicate(timeout=900)[0])


def noop(response_bytes, port=None):
    port = port or free_port()
    command = [LOAD, "noop", f"--port={port}", f"--response-bytes={response_bytes}"]
    return Server("noop", command, {}, port)


def check(server, model, wire, path, tensor, output, rows=64):
    """Asks for answers to different rows and compares each with the right one."""
    # Engines sum in different orders; a deep net's logits are judged by their own spread.
    bound = 1e-4 * max(1.0, float(np.abs(model.expected).max()))
    for row, expected in zip(model.rows[:rows], model.expected[:rows]):
        content, headers = wires.body(wire, row[None], tensor, output)
        status, told, answered = server.ask("POST", path, content, headers)
        if status != 200:
            raise Trouble(f"{server.name}, {wire}: {status} {answered[:300]!r}")
        try:
            numbers, expected = wires.answer(wire, told, answered), expected.ravel()
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise Trouble(f"{server.name}, {wire}: no answer in {answered[:300]!r}: {error!r}") from error
        # A server may give only the positive class of two.
        if not 0 < len(numbers) <= len(expected):
            raise Trouble(f"{server.name}, {wire}: {len(numbers)} numbers for {len(expected)}")
        apart = float(np.abs(numbers - expected[-len(numbers) :]).max())
        if not apart <= bound:
            raise Trouble(f"{server.name}, {wire}: an answer is {apart:g} off, and {bound:g} is allowed")


def homeostat_project(folder, files, config=""):
    """A project with each of `files`, a mapping of names to files, imported as a model. No answer is cached: it is the
    computing that is compared."""
    if not HOMEOSTAT.is_file():
        raise Trouble(f"{HOMEOSTAT.name} is not built: cargo build --release")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "homeostat.toml").write_text(f'[project]\nname = "serving"\n\n[server]\ncache_bytes_max = 0\n{config}')
    named = [[file] for name, file in files.items() if pathlib.Path(file).stem == name]
    calls = [[file for call in named[at : at + 500] for file in call] for at in range(0, len(named), 500)]
    calls += [[file, "--as", name] for name, file in files.items() if pathlib.Path(file).stem != name]
    for call in calls:
        done = subprocess.run([HOMEOSTAT, "import", *call], cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise Trouble(f"homeostat import: {done.stderr.strip()[-500:]}")
    return folder


def homeostat(folder):
    port = free_port()
    server = Server("homeostat", [HOMEOSTAT, "serve", "--port", port, "--grpc-port", 0], {}, port, cwd=folder)
    try:
        server.wait("/v2/health/ready")
    except Trouble:
        server.stop()
        raise
    return server


def described(server, model):
    """What Homeostat calls the input, and the output that is compared; None where it has another single one."""
    status, _, content = server.ask("GET", f"/v2/models/{model.name}")
    if status != 200:
        raise Trouble(f"{server.name}: /v2/models/{model.name}: {status} {content[:300]!r}")
    told = json.loads(content)
    outputs = [output["name"] for output in told["outputs"]]
    return told["inputs"][0]["name"], model.spec["output"] if model.spec["output"] in outputs else None
