"""Linear models over hashed categories by logistic loss: Vowpal Wabbit and scikit-learn's SGDClassifier.

All take the same columns: each category, the pairs of categories that --cross names, and the numbers; 2^18 weights. The
rate counts rows learned from (rows times passes) per second of CPU time of the whole process while it learns, on one
core. What a pass reads is stated:
  vw-text    VW's text format, parsed in the pass (one pass)
  vw-cache   VW's own cache file, made before (its fastest form of data on disk)
  sgd        a hashed sparse matrix in memory; partial_fit in batches of 65,536 rows
`cpu_seconds` are everything from the Parquet file to the test rows' log loss, hashing and writing of text included.
"""

import argparse
import json
import os
import pathlib
import tempfile

import numpy as np

from common import WORK, Clock, Set, answer, keep_to, metrics, note

BITS = 18
PEERS = ("vw-text", "vw-cache", "sgd")
BATCH = 65_536


def vw_lines(data, rows, pairs):
    """One line a row; each column is a namespace of one letter so that `-q` crosses it."""
    letters = {name: chr(ord("a") + place) for place, name in enumerate(data.x.columns)}
    y = np.where(data.y[rows] == 1, "1", "-1").astype(object)
    lines = y
    for name, letter in letters.items():
        column = data.x[name].iloc[rows]
        if name in data.categorical:
            # Spaces, bars and colons would end a feature.
            texts = column.cat.rename_categories(lambda kind: f" |{letter} " + clean(kind)).astype(object).fillna("")
        else:
            texts = np.array([f" |{letter} v:{value:g}" if value == value else "" for value in column.to_numpy("float64")], object)
        lines = lines + np.asarray(texts, dtype=object)
    return lines, ["".join(letters[name] for name in pair) for pair in pairs]


def clean(kind):
    return str(kind).translate(str.maketrans(" |:\t", "____")) or "_"


def vw(data, pairs, passes, cached, extra):
    import vowpalwabbit

    with tempfile.TemporaryDirectory(dir=WORK) as folder:
        folder = pathlib.Path(folder)
        for part, rows in (("train", data.known), ("test", data.test)):
            lines, crosses = vw_lines(data, rows, pairs)
            (folder / f"{part}.txt").write_text("\n".join(lines) + "\n")
        base = f"--loss_function logistic -b {BITS} --quiet --holdout_off " + " ".join(f"-q {pair}" for pair in crosses)
        source = f"-d {folder}/train.txt"
        if cached:
            cache = f"--cache_file {folder}/train.cache"
            made = vowpalwabbit.Workspace(f"{base} {source} {cache} --noop".replace("--quiet", "--quiet -k"))
            made.finish()
            source = f"{cache}"
        with Clock() as learning:
            # A workspace that is given data runs its passes while it is made.
            model = vowpalwabbit.Workspace(f"{base} {extra} {source} --passes {passes} -f {folder}/model")
            model.finish()
        testing = vowpalwabbit.Workspace(
            f"--quiet -t -i {folder}/model -d {folder}/test.txt -p {folder}/scores --link logistic"
        )
        testing.finish()
        return learning, np.loadtxt(folder / "scores")


def hashed(data, rows, pairs):
    """The sparse matrix that FeatureHasher makes of the same columns; each different text is hashed once."""
    from scipy.sparse import csr_matrix
    from sklearn.utils import murmurhash3_32

    def places(name, kinds, codes):
        table = np.array([murmurhash3_32(f"{name}={kind}", positive=True) % (1 << BITS) for kind in [*kinds, ""]])
        return table[codes]

    x = data.x.iloc[rows]
    kinds = {name: x[name].cat.categories for name in data.categorical}
    codes = {name: np.where(x[name].cat.codes < 0, len(kinds[name]), x[name].cat.codes) for name in data.categorical}
    columns = [(places(name, kinds[name], codes[name]), 1.0) for name in data.categorical]
    for left, right in pairs:
        width = len(kinds[right]) + 1
        both, inverse = np.unique(codes[left] * width + codes[right], return_inverse=True)
        texts = [f"{[*kinds[left], ''][code // width]}*{[*kinds[right], ''][code % width]}" for code in both]
        columns.append((places(f"{left}*{right}", texts, inverse), 1.0))
    for name in x.columns.difference(data.categorical, sort=False):
        columns.append((places(name, [""], np.zeros(len(x), int)), x[name].to_numpy("float32", na_value=0.0)))
    indices, values = np.empty((len(x), len(columns)), "int32"), np.ones((len(x), len(columns)))
    for at, (place, value) in enumerate(columns):
        indices[:, at], values[:, at] = place, value
    starts = np.arange(len(x) + 1) * len(columns)
    return csr_matrix((values.ravel(), indices.ravel(), starts.astype("int32")), (len(x), 1 << BITS))


def standardise(data):
    """Numbers to mean 0 and deviation 1 over what is learned from, as Homeostat's pipeline gives them to its linear model."""
    for name in data.x.columns.difference(data.categorical):
        known = data.x[name].iloc[data.known].astype("float64")
        data.x[name] = (data.x[name].astype("float64") - known.mean()) / (known.std() or 1.0)


def sgd(data, pairs, passes, extra):
    from sklearn.linear_model import SGDClassifier

    train, test, y = hashed(data, data.known, pairs), hashed(data, data.test, pairs), data.y[data.known]
    model = SGDClassifier(loss="log_loss", alpha=1e-6, learning_rate="invscaling", power_t=0.25, eta0=0.1, random_state=1)
    model.set_params(**json.loads(extra or "{}"))
    with Clock() as learning:
        for _ in range(passes):
            for start in range(0, train.shape[0], BATCH):
                model.partial_fit(train[start : start + BATCH], y[start : start + BATCH], classes=[0.0, 1.0])
    return learning, model.predict_proba(test)[:, 1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", default="bts_flights_3m")
    parser.add_argument("--peer", required=True, choices=PEERS)
    parser.add_argument("--passes", type=int, default=1)
    parser.add_argument("--cross", action="append", default=[], metavar="A*B")
    parser.add_argument("--extra", default="", help="more settings of the peer, in its own words")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    keep_to(asked.threads)
    pairs = [tuple(pair.split("*")) for pair in asked.cross]
    with Clock() as job:
        data = Set(asked.set)
        standardise(data)
        note(f"{asked.peer}: {len(data.x)} rows read")
        if asked.peer == "sgd":
            learning, predicted = sgd(data, pairs, asked.passes, asked.extra)
        else:
            learning, predicted = vw(data, pairs, asked.passes, asked.peer == "vw-cache", asked.extra)
        told = metrics("binary", data.y[data.test], predicted)
    rows = data.known.stop * asked.passes
    answer(
        peer=asked.peer, set=asked.set, threads=asked.threads, passes=asked.passes, extra=asked.extra, rows=rows,
        fit_seconds=learning.seconds, fit_cpu_seconds=learning.cpu_seconds,
        rows_per_cpu_second=rows / learning.cpu_seconds, seconds=job.seconds, cpu_seconds=job.cpu_seconds,
        metrics=told, cores=len(os.sched_getaffinity(0)),
    )


if __name__ == "__main__":
    main()
