"""Clicks with long tails, made: what a network with large embedding tables learns from. Every number follows from the
seed, the row and the column, by the finaliser of SplitMix64; nothing is drawn in sequence.

Row r has 8 categories and 4 numbers. The popularity rank of category c is the inverse of a Zipf law with exponent 1.1
over 2^20 ids, cut off there (by inverting the continuous law, u -> rank); ids are ranks scattered over the table by an odd factor,
so that popular rows don't lie side by side. Each id has an effect of its own, normal with deviation .45, each number a
weight; the first two categories also meet: the product of a second effect of either. The click is a coin with the logistic of
their sum, less 1.6 (a third or so click). The last 65,536 rows are held out.

Written to work/clicks/, little-endian: ids.u32 (rows x 8), dense.f32 (rows x 4), clicks.u8, about.json.

  benches/learning/.venv/bin/python benches/learning/clicks.py [--rows 4194304]
"""

import argparse
import json

import numpy as np

from data import WORK, mixed

COLUMNS, NUMBERS, TABLE_BITS, HELD_OUT = 8, 4, 20, 65_536
EXPONENT, EFFECT, PAIR, BIAS = 1.1, 0.45, 0.6, -1.6
SCATTER = 0x9E3779B1
FOLDER = WORK / "clicks"
BLOCK = 1 << 18


def uniform(places, column, purpose, seed):
    """In (0, 1), for each place."""
    with np.errstate(over="ignore"):
        key = mixed(np.uint64(seed) ^ mixed(np.uint64(column * 16 + purpose)))
        bits = mixed(key ^ mixed(places.astype(np.uint64)))
    return ((bits >> np.uint64(11)).astype("float64") + 0.5) / 2.0**53


def normal(places, column, purpose, seed):
    """Box and Muller's way."""
    radius = np.sqrt(-2 * np.log(uniform(places, column, purpose, seed)))
    return radius * np.cos(2 * np.pi * uniform(places, column, purpose + 1, seed))


def ranks(u):
    size, less = float(1 << TABLE_BITS), 1 - EXPONENT
    drawn = ((u * ((size + 1) ** less - 1)) + 1) ** (1 / less)
    return np.minimum(drawn.astype("uint64") - 1, (1 << TABLE_BITS) - 1)


def block(rows, seed):
    ids = np.empty((len(rows), COLUMNS), "uint32")
    numbers = np.empty((len(rows), NUMBERS), "float32")
    score = np.full(len(rows), BIAS)
    for column in range(COLUMNS):
        rank = ranks(uniform(rows, column, 0, seed))
        ids[:, column] = (rank * np.uint64(SCATTER)) & np.uint64((1 << TABLE_BITS) - 1)
        score += EFFECT * normal(rank, column, 2, seed)
        if column < 2:
            pair = normal(rank, column, 4, seed)
            met = pair if column == 0 else PAIR * met * pair
    score += met
    for number in range(NUMBERS):
        numbers[:, number] = normal(rows, number, 8, seed)
        score += (0.4 - 0.2 * number) * numbers[:, number]
    clicks = uniform(rows, 0, 12, seed) < 1 / (1 + np.exp(-score))
    return ids, numbers, clicks.astype("uint8"), score


def make(rows, seed):
    FOLDER.mkdir(parents=True, exist_ok=True)
    floor = []
    with open(FOLDER / "ids.u32", "wb") as ids, open(FOLDER / "dense.f32", "wb") as dense, open(FOLDER / "clicks.u8", "wb") as clicks:
        for start in range(0, rows, BLOCK):
            made = block(np.arange(start, min(rows, start + BLOCK)), seed)
            for file, part in zip((ids, dense, clicks), made):
                file.write(part.tobytes())
            p = 1 / (1 + np.exp(-made[3]))
            floor.append(-np.mean(np.where(made[2] == 1, np.log(p), np.log1p(-p))))
    about = {"rows": rows, "columns": COLUMNS, "numbers": NUMBERS, "table_bits": TABLE_BITS, "held_out": HELD_OUT, "seed": seed}
    # Nothing can lose less than who knows the effects.
    about |= {"least_logloss": float(np.mean(floor))}
    (FOLDER / "about.json").write_text(json.dumps(about, indent=1))


def made(rows, seed=1):
    """Makes them where they are not there yet."""
    about = FOLDER / "about.json"
    if not about.is_file() or json.loads(about.read_text())["rows"] < rows + HELD_OUT:
        make(rows + HELD_OUT, seed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4_194_304)
    made(parser.parse_args().rows)
