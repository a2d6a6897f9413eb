"""Each peer with each combination of the settings that peers.py names as tried: which serve a model best here.

  benches/serving/.venvs/models/bin/python benches/serving/tune.py [litserve ray …] [--model mlp]

What it finds is written into peers.py by hand. Run it while the machine is quiet.
"""

import argparse
import itertools
from dataclasses import replace
from types import SimpleNamespace

import harness
import models
import peers
import run


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peers", nargs="*", help=", ".join(peer.name for peer in peers.ALL if peer.tried))
    parser.add_argument("--model", choices=run.MODELS, default="mlp")
    parser.add_argument("--seconds", type=float, default=1.5)
    given = parser.parse_args()
    harness.go_alone()
    models.make()
    model = harness.Model(given.model)
    plan = SimpleNamespace(connections="1,2,4,8,16,32", seconds=given.seconds, low_seconds=3.0)
    for peer in peers.ALL:
        if not peer.tried or (given.peers and peer.name not in given.peers):
            continue
        for values in itertools.product(*peer.tried.values()):
            tried = dict(zip(peer.tried, values))
            changed = replace(
                peer, small_env=peer.small_env | tried, large_env=peer.large_env | tried, packages=(), tried={}
            )
            shown = " ".join(f"{name}={value}" for name, value in tried.items())
            try:
                reports = run.measure(changed.name, model, plan, changed)
            except (harness.Trouble, OSError) as error:
                print(f"{peer.name} {shown}: failed: {' '.join(str(error).split())[-300:]}", flush=True)
                continue
            for wire, report in reports.items():
                best, low = report["best"], report["low"]["latency_ms"]
                most = f"{best['throughput']:,.0f}/s at {best['connections']} connections" if best else "p99 not kept"
                print(f"{peer.name} {shown} {wire}: {most}; p50 {low['p50']:.2f} ms, p99 {low['p99']:.2f} ms at "
                      f"{run.LOW_RATE}/s", flush=True)


if __name__ == "__main__":
    main()
