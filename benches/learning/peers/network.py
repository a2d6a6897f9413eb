"""PyTorch on work/clicks: an embedding of 16 for each of 8 categories, tables of 2^20 rows, and a dense tower.

Inputs of the tower: the 8 x 16 embedded numbers and the 4 numbers; hidden layers with ReLU, then one logit. All tables lie in one
nn.Embedding of 8 x 2^20 rows, so that a step has one lookup and one gradient: faster than eight of them. Variants:
  dense-adam, dense-adagrad      the embedding's gradient is dense, one optimizer for all parameters
  sparse-adam, sparse-adagrad    sparse=True: SparseAdam or Adagrad for the embedding, Adam for the tower
Rows in the data's order, one pass. Only the steps are timed (samples in memory as tensors); at each eighth the held-out
rows are judged, off the clock: `curve` holds (samples, seconds, CPU seconds, log loss).
"""

import argparse
import json
import math
import time

import numpy as np
import torch

from common import WORK, answer, keep_to, note

VARIANTS = ("dense-adam", "dense-adagrad", "sparse-adam", "sparse-adagrad")
WIDTH = 16


def load(samples):
    folder = WORK / "clicks"
    about = json.loads((folder / "about.json").read_text())
    rows, columns, numbers, held = about["rows"], about["columns"], about["numbers"], about["held_out"]
    ids = np.memmap(folder / "ids.u32", "uint32", "r", shape=(rows, columns))
    dense = np.memmap(folder / "dense.f32", "float32", "r", shape=(rows, numbers))
    clicks = np.memmap(folder / "clicks.u8", "uint8", "r", shape=(rows,))
    offsets = np.arange(columns, dtype="int64") << about["table_bits"]

    def tensors(rows):
        block = torch.from_numpy(ids[rows].astype("int64") + offsets)
        return block, torch.from_numpy(dense[rows].copy()), torch.from_numpy(clicks[rows].astype("float32"))

    return about, tensors(slice(0, samples)), tensors(slice(rows - held, rows))


class Network(torch.nn.Module):
    def __init__(self, about, hidden, sparse):
        super().__init__()
        self.embedding = torch.nn.Embedding(about["columns"] << about["table_bits"], WIDTH, sparse=sparse)
        torch.nn.init.normal_(self.embedding.weight, std=0.05)
        widths = [about["columns"] * WIDTH + about["numbers"], *hidden]
        layers = []
        for before, after in zip(widths, widths[1:]):
            layers += [torch.nn.Linear(before, after), torch.nn.ReLU()]
        self.tower = torch.nn.Sequential(*layers, torch.nn.Linear(widths[-1], 1))

    def forward(self, ids, dense):
        return self.tower(torch.cat([self.embedding(ids).flatten(1), dense], 1)).squeeze(1)


def optimizers(network, variant, rate, embedding_rate):
    form, rule = variant.split("-")
    if form == "dense":
        if rule == "adam":
            return [torch.optim.Adam(network.parameters(), lr=rate)]
        return [torch.optim.Adagrad(network.parameters(), lr=embedding_rate)]
    table = list(network.embedding.parameters())
    sparse = torch.optim.SparseAdam(table, lr=rate) if rule == "adam" else torch.optim.Adagrad(table, lr=embedding_rate)
    return [sparse, torch.optim.Adam(network.tower.parameters(), lr=rate)]


def judge(network, held, loss):
    ids, dense, clicks = held
    network.eval()
    with torch.no_grad():
        total = sum(
            loss(network(ids[at : at + 8192], dense[at : at + 8192]), clicks[at : at + 8192]).item() * len(clicks[at : at + 8192])
            for at in range(0, len(clicks), 8192)
        )
    network.train()
    return total / len(clicks)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", required=True, choices=VARIANTS)
    parser.add_argument("--samples", type=int, default=1 << 20)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--hidden", default="128,64")
    parser.add_argument("--rate", type=float, default=0.001)
    parser.add_argument("--embedding-rate", type=float, default=0.05)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    keep_to(asked.threads)
    torch.set_num_threads(asked.threads)
    torch.manual_seed(asked.seed)
    about, (ids, dense, clicks), held = load(asked.samples)
    network = Network(about, [int(units) for units in asked.hidden.split(",")], asked.variant.startswith("sparse"))
    rules = optimizers(network, asked.variant, asked.rate, asked.embedding_rate)
    loss = torch.nn.BCEWithLogitsLoss()
    steps = asked.samples // asked.batch
    marks = {math.ceil(steps * part / 8) for part in range(1, 9)}
    seconds = cpu_seconds = 0.0
    curve = []
    began, cpu_began = time.perf_counter(), time.process_time()
    for step in range(steps):
        rows = slice(step * asked.batch, (step + 1) * asked.batch)
        for rule in rules:
            rule.zero_grad(set_to_none=True)
        loss(network(ids[rows], dense[rows]), clicks[rows]).backward()
        for rule in rules:
            rule.step()
        if step + 1 in marks:
            seconds += time.perf_counter() - began
            cpu_seconds += time.process_time() - cpu_began
            curve.append(((step + 1) * asked.batch, seconds, cpu_seconds, judge(network, held, loss)))
            note(asked.variant, curve[-1])
            began, cpu_began = time.perf_counter(), time.process_time()
    samples = steps * asked.batch
    answer(
        peer=asked.variant, threads=asked.threads, batch=asked.batch, hidden=asked.hidden, samples=samples,
        fit_seconds=seconds, fit_cpu_seconds=cpu_seconds, samples_per_second=samples / seconds,
        samples_per_cpu_second=samples / cpu_seconds, logloss=curve[-1][3], least_logloss=about["least_logloss"], curve=curve,
    )


if __name__ == "__main__":
    main()
