"""What Homeostat promises under stress, each as a ratio: measured side by side in one run, median of repeats.

  benches/serving/.venvs/models/bin/python benches/serving/scenarios.py [lone overload tenants reload receipts many]

lone       p99 of lone requests with batching on, beside off: nobody waits for a batch that is not there
overload   answers within twice the capacity's load, beside the peak; and that each request was answered
tenants    a tenant's p99 while another asks ten times its share, beside alone; the difference in batches
reload     failed requests and p99 while the model is loaded anew each second, beside left alone
receipts   compute seconds of all tenants in /metrics, beside the CPU time of the process
many       memory and tail with 10,000 models registered and 100 of them asked, beside with those 100 alone
"""

import argparse
import json
import re
import secrets
import statistics
import sys
import threading
import time

import blake3
import numpy as np
import onnx

import harness
import models
import wires
from harness import Model, Trouble

# The sections of homeostat.toml that the scenarios lean on.
BATCHING_OFF = "batching = false\n"
BATCH_MS = 10
TENANT = '\n[[tenants]]\nname = "{name}"\nkeys = ["blake3:{digest}"]\n'
# Receipts, what is shared out beside them, and what nobody asked for.
SPENT = [f"homeostat_{part}_seconds_total" for part in ("tenant_compute", "overhead", "idle")]


def infer(name):
    return f"/v2/models/{name}/infer"


def project(folder, model, config=""):
    """A running server with one model."""
    file = model.folder / ("model.txt" if model.name == "trees" else "model.onnx")
    return harness.homeostat(harness.homeostat_project(harness.WORK / folder, {model.name: file}, config))


def bodies(server, model, rows_each=1, requests=None):
    folder = harness.WORK / "bodies" / f"scenario-{model.name}-{rows_each}"
    tensor, output = harness.described(server, model)
    harness.check(server, model, "oip-binary", infer(model.name), tensor, output, rows=16)
    wires.write(folder, "oip-binary", infer(model.name), model.rows, tensor, output, rows_each, requests)
    return folder


def p99(report):
    if not report["answered"]:
        raise Trouble(f"nothing was answered: {report['refused']} {report['errors']}")
    return report["latency_ms"]["p99"]


def failures(report):
    return sum(report["refused"].values()) + sum(report["errors"].values()) + (report.get("unanswered") or 0)


def capacity(server, asked, given):
    """The highest throughput in a closed loop, whatever the latency."""
    runs = [harness.load("closed", server, asked, connections=32, seconds=given.seconds / 2) for _ in range(given.repeats)]
    return statistics.median(run["throughput"] for run in runs)


def lone(given):
    model, figures = Model("mlp"), {"on": [], "off": []}
    with project("lone-on", model) as on, project("lone-off", model, BATCHING_OFF) as off:
        asked = bodies(on, model)
        for repeat in range(2 * given.repeats):
            for name, server in (("on", on), ("off", off)) if repeat % 2 else (("off", off), ("on", on)):
                report = harness.load(
                    "open", server, asked, rate=50, seconds=given.seconds, connections=1, arrivals="fixed"
                )
                figures[name].append(p99(report))
    on_ms, off_ms = (statistics.median(figures[name]) for name in ("on", "off"))
    return on_ms / off_ms, {"p99_on_ms": on_ms, "p99_off_ms": off_ms, "repeats": figures}


def overload(given):
    """Requests of 256 rows, so that it is the model that is short of time and not the client."""
    model, runs = Model("trees"), []
    with project("overload", model) as server:
        asked = bodies(server, model, rows_each=256, requests=64)
        harness.load("closed", server, asked, connections=8, seconds=1)
        for repeat in range(given.repeats):
            peak = harness.load("closed", server, asked, connections=32, seconds=given.seconds)["throughput"]
            twice = harness.load(
                "open", server, asked, rate=2 * peak, seconds=given.seconds, connections=1024, seed=repeat + 1
            )
            runs.append({"peak": peak, "twice": twice, "ratio": twice["throughput"] / peak})
    told = {
        "unanswered": sum(run["twice"]["unanswered"] for run in runs),
        "errors": [run["twice"]["errors"] for run in runs],
        "refused": [run["twice"]["refused"] for run in runs],
        "goodput": [run["twice"]["throughput"] for run in runs],
        "peak": [run["peak"] for run in runs],
        "p99_ms": [run["twice"]["latency_ms"]["p99"] for run in runs],
        "refusal_p99_ms": [(run["twice"].get("refusal_ms") or {}).get("p99") for run in runs],
    }
    return statistics.median(run["ratio"] for run in runs), told


def tenants_declared(*names):
    """Keys by name, and the section that declares them."""
    keys = {name: secrets.token_hex(16) for name in names}
    digests = {name: blake3.blake3(key.encode()).hexdigest() for name, key in keys.items()}
    return keys, "\n".join(TENANT.format(name=name, digest=digest) for name, digest in digests.items())


def bearer(key):
    return f"authorization: Bearer {key}"


def tenants(given):
    """Two of the same weight: a share is half the capacity, the flood ten times that, the quiet one asks for a tenth."""
    model, alone, beside = Model("trees"), [], []
    keys, config = tenants_declared("quiet", "flood")
    with project("tenants", model, config) as server:
        asked = bodies_as(server, model, keys["quiet"], rows_each=64, requests=64)
        peak = harness.load("closed", server, asked, connections=32, seconds=given.seconds, header=bearer(keys["quiet"]))
        share = peak["throughput"] / 2
        quiet = {"rate": share / 10, "seconds": given.seconds, "header": bearer(keys["quiet"]), "connections": 64}
        flood = {"rate": 10 * share, "seconds": given.seconds + 2, "header": bearer(keys["flood"]), "connections": 512}
        for repeat in range(given.repeats):
            alone.append(harness.load("open", server, asked, **quiet, seed=repeat + 1))
            flooding = harness.load_beside("open", server, asked, **flood, drain=3, seed=repeat + 101)
            time.sleep(1)
            beside.append(harness.load("open", server, asked, **quiet, seed=repeat + 1))
            flooded = harness.finish(flooding)
    before, after = (statistics.median(map(p99, reports)) for reports in (alone, beside))
    told = {
        "p99_alone_ms": before,
        "p99_flooded_ms": after,
        "batches_more": (after - before) / BATCH_MS,
        "quiet_failures": [failures(report) for report in beside],
        "flood_answered": flooded["throughput"],
        "flood_refused": flooded["refused"],
        "share": share,
    }
    return after / before, told


def bodies_as(server, model, key, **sizes):
    """The same bodies; where tenants are declared, even the check needs a key."""
    ask = server.ask
    server.ask = lambda method, path, content=None, headers=None, seconds=30: ask(
        method, path, content, (headers or {}) | {"authorization": f"Bearer {key}"}, seconds
    )
    return bodies(server, model, **sizes)


class Reloads:
    """Loads the model anew each second until left; counts what went wrong."""

    def __init__(self, server, name):
        self.server, self.path = server, f"/v2/repository/models/{name}/load"
        self.done, self.failed, self.stop = 0, [], threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.stop.wait(1.0):
            try:
                status, _, content = self.server.ask("POST", self.path, b"{}", {"content-type": "application/json"})
            except OSError as error:
                status, content = 0, repr(error)
            self.done += 1
            if status != 200:
                self.failed.append(f"{status} {content[:200]!r}")

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


def reload(given):
    """Half the capacity, in turns of a minute in all with and without."""
    model, calm, reloaded, loads, failed = Model("trees"), [], [], 0, []
    with project("reload", model) as server:
        asked = bodies(server, model)
        rate = capacity(server, asked, given) / 2
        for turn in range(6):
            options = {"rate": rate, "seconds": given.minute / 6, "connections": 64, "seed": turn + 1}
            calm.append(harness.load("open", server, asked, **options))
            with Reloads(server, model.name) as reloads:
                reloaded.append(harness.load("open", server, asked, **options))
            loads, failed = loads + reloads.done, failed + reloads.failed
    before, after = (statistics.median(map(p99, reports)) for reports in (calm, reloaded))
    told = {
        "reloads": loads,
        "failed_reloads": failed,
        "failed_requests": sum(map(failures, reloaded)),
        "requests": sum(report["requests"] for report in reloaded),
        "rate": rate,
        "p99_calm_ms": before,
        "p99_reloading_ms": after,
    }
    return after / before, told


def metric(server, name):
    """Samples of one metric: labels, as they are written, to value."""
    status, _, content = server.ask("GET", "/metrics")
    if status != 200:
        raise Trouble(f"/metrics: {status}")
    line = re.compile(rf"^{name}(?:{{([^}}]*)}})? (\S+)", re.MULTILINE)
    found = {match[1] or "": float(match[2]) for match in line.finditer(content.decode())}
    if not found:
        raise Trouble(f"/metrics has no {name}")
    return found


def spent_by(server):
    """CPU seconds by metric and tenant."""
    return {f"{name} {labels}".strip(): value for name in SPENT for labels, value in metric(server, name).items()}


def receipts(given):
    model = Model("trees")
    keys, config = tenants_declared("one", "two")
    with project("receipts", model, config) as server:
        asked = bodies_as(server, model, keys["one"])
        harness.load("closed", server, asked, connections=8, seconds=1, header=bearer(keys["one"]))
        time.sleep(1.5)
        before, spent = spent_by(server), server.cpu_seconds()
        options = {"seconds": given.seconds * 2, "connections": 8}
        both = [harness.load_beside("closed", server, asked, **options, header=bearer(keys[name])) for name in keys]
        for begun in both:
            harness.finish(begun)
        # What is shared out once in a while has its turn.
        time.sleep(2)
        spent, after = server.cpu_seconds() - spent, spent_by(server)
    told = {labels: after[labels] - before.get(labels, 0.0) for labels in after}
    return sum(told.values()) / spent, {"receipts_seconds": told, "process_seconds": spent}


def distinct_models(count):
    """Logistic models that differ in their weights, each a few hundred bytes."""
    made = onnx.load(Model("logistic").folder / "model.onnx")
    weights = next(a for node in made.graph.node for a in node.attribute if a.name == "coefficients")
    original, folder = np.array(weights.floats), harness.WORK / "many-models"
    folder.mkdir(exist_ok=True)
    files = {}
    for number in range(count):
        file = folder / f"m{number:05}.onnx"
        if not file.is_file():
            weights.floats[:] = (original * (1 + number / count)).tolist()
            onnx.save(made, file)
        files[file.stem] = file
    return files


def many(given):
    files = distinct_models(given.count)
    names = list(files)[:: max(1, given.count // 100)][:100]
    print(f"  importing {len(files)} models", file=sys.stderr)
    began = time.monotonic()
    all_of_them = harness.homeostat_project(harness.WORK / "many-all", files)
    imported = time.monotonic() - began
    alone = harness.homeostat_project(harness.WORK / "many-alone", {name: files[name] for name in names})
    model, figures = Model("logistic"), {"all": [], "alone": []}
    with harness.homeostat(all_of_them) as first, harness.homeostat(alone) as second:
        servers = {"all": first, "alone": second}
        told = json.loads(first.ask("GET", f"/v2/models/{names[0]}")[2])
        tensor, asked = told["inputs"][0]["name"], harness.WORK / "bodies" / "scenario-many"
        wires.write(asked, "oip-binary", "/", model.rows[:1000], tensor, paths=[infer(name) for name in names])
        idle = {name: server.memory_mib() for name, server in servers.items()}
        for server in servers.values():
            harness.load("closed", server, asked, connections=8, seconds=1)
        rate = capacity(second, asked, given) / 4
        for repeat in range(given.repeats):
            for name, server in servers.items():
                options = {"rate": rate, "seconds": given.seconds, "connections": 32, "seed": repeat + 1}
                report = harness.load("open", server, asked, **options)
                if failures(report):
                    raise Trouble(f"{name}: {report['refused']} {report['errors']}")
                figures[name].append(p99(report))
        live = {name: server.memory_mib() for name, server in servers.items()}
        starts = {name: server.start_seconds for name, server in servers.items()}
    all_ms, alone_ms = (statistics.median(figures[name]) for name in ("all", "alone"))
    told = {
        "models": len(files),
        "p99_all_ms": all_ms,
        "p99_alone_ms": alone_ms,
        "memory_idle_mib": idle,
        "memory_live_mib": live,
        "kib_a_model": (live["all"] - live["alone"]) * 1024 / max(1, len(files) - len(names)),
        "start_seconds": starts,
        "import_seconds": imported,
    }
    return all_ms / alone_ms, told


ALL = {one.__name__: one for one in (lone, overload, tenants, reload, receipts, many)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=", ".join(ALL))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--minute", type=float, default=60.0, help="seconds of reloading")
    parser.add_argument("--count", type=int, default=10_000, help="registered models")
    given = parser.parse_args()
    if unknown := [name for name in given.names if name not in ALL]:
        parser.error(f"{', '.join(unknown)}: the scenarios are {', '.join(ALL)}")
    harness.go_alone()
    models.make()
    results, out = {}, harness.HERE / "scenarios.json"
    for name in given.names or ALL:
        print(f"{name}:", end=" ", flush=True)
        try:
            ratio, told = ALL[name](given)
        except (Trouble, OSError) as error:
            print(f"failed: {error}")
            results[name] = {"failed": str(error)}
            continue
        print(f"ratio {ratio:.3f} {json.dumps(told)}")
        results[name] = {"ratio": ratio} | told
    harness.write_results(out, results)
    sys.exit(1 if any("failed" in one for one in results.values()) else 0)


if __name__ == "__main__":
    main()
