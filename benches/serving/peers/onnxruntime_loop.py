"""ONNX Runtime called in a loop in this process, no server around it: one JSON document with calls a second.

SECONDS of it, rows taking turns; THREADS threads of one session, and CALLERS threads that call it at once.
"""

import json
import os
import threading
import time

import numpy as np

import onnx_model


def main():
    predict, rows = onnx_model.load(), np.load(onnx_model.FOLDER / "rows.npy")
    rows = [row[None] for row in rows]
    seconds, callers = float(os.environ.get("SECONDS", "3")), int(os.environ.get("CALLERS", "1"))
    for row in rows[:16]:
        predict(row)
    until, taken = time.perf_counter() + seconds, [[] for _ in range(callers)]

    def call(caller):
        turn, now = caller, time.perf_counter()
        while now < until:
            predict(rows[turn % len(rows)])
            before, now = now, time.perf_counter()
            taken[caller].append(now - before)
            turn += callers

    threads = [threading.Thread(target=call, args=(caller,)) for caller in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ms = np.concatenate(taken) * 1000
    p50, p99 = np.percentile(ms, [50, 99])
    print(json.dumps({"throughput": len(ms) / seconds, "latency_ms": {"p50": p50, "p99": p99}}))


main()
