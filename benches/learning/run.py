"""Learning beside its peers on this machine: the same rows and the same split, in turns, medians of repeats.

  sh benches/learning/setup.sh
  benches/learning/.venv/bin/python benches/learning/run.py [--quick] [--only linear,trees,network,tune,tuned]

Every measurement is a process of its own, kept to as many cores as it may use threads. Homeostat is called as a user
calls it (`homeostat init`, `train`, `tune`, with --json), and through examples of crates/learning where what is asked is
the rate of learning alone: cargo build --release --locked -p homeostat, and --examples of -p learning.
What fails is said at the end, and the rest goes on.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time

import data

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
HOMEOSTAT = pathlib.Path(os.environ.get("HOMEOSTAT_BINARY", ROOT / "target" / "release" / "homeostat"))
EXAMPLES = pathlib.Path(os.environ.get("HOMEOSTAT_EXAMPLES", ROOT / "target" / "release" / "examples"))
OURS = "homeostat"
TREES = {"leaves": 63, "rate": 0.1, "rounds": 100, "bins": 255}
TREE_SETS = ["covtype", "covtype7", "flights", "adult", "bike_sharing", "beijing_air"]
TUNED_SETS = ["flights", "adult", "covtype", "bike_sharing", "beijing_air"]
TREE_PEERS = ["lightgbm", "xgboost", "catboost", "histgb"]


class Trouble(Exception):
    """A measurement that could not be made; its message goes into the results."""


class Case:
    """One line of a table: what to run, and how its answer is read. `key` says which lines are of one comparison."""

    def __init__(self, kind, key, program, threads, call):
        self.kind, self.key, self.program, self.threads, self.call = kind, key, program, threads, call


def process(command, threads, cwd=None):
    """Standard output, wall seconds, CPU seconds and the largest resident set in MiB of a finished process."""
    command = [str(part) for part in command]
    if not pathlib.Path(command[0]).is_file():
        raise Trouble(f"{pathlib.Path(command[0]).name} is not built")
    cores = sorted(os.sched_getaffinity(0))[:threads]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        began = time.perf_counter()
        child = subprocess.Popen(
            command, stdout=out, stderr=errors, cwd=cwd, preexec_fn=lambda: os.sched_setaffinity(0, cores)
        )
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - began
        out.seek(0), errors.seek(0)
        if child.returncode:
            said = errors.read().strip()
            # A panic says what happened first, a Python traceback last.
            raise Trouble(f"status {child.returncode}: {said if len(said) < 600 else said[:200] + ' ... ' + said[-400:]}")
        return out.read(), seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def peer(script, threads, *args):
    """A peer's script, which prints one line of JSON."""
    command = [sys.executable, "-W", "ignore", HERE / "peers" / f"{script}.py", *args]
    out, *_ = process(command, threads)
    return json.loads(out.splitlines()[-1])


def train(name, learner, threads, settings):
    """`homeostat train` in a fresh project: the whole command, from the Parquet file to the test metrics."""
    folder = data.project(name, HOMEOSTAT)
    data.declare(folder, name, settings)
    command = [HOMEOSTAT, "train", name, "--learner", learner, "--threads", str(threads), "--json"]
    out, seconds, cpu_seconds, mib = process(command, threads, folder)
    told = json.loads(out)
    expected = data.split_of(name)
    tested = expected["rows"] - expected["train"] - expected["validation"]
    if told["tested_rows"] != tested:
        raise Trouble(f"{name}: {told['tested_rows']} rows judged, the peers are judged on {tested}")
    return {
        "seconds": seconds, "cpu_seconds": cpu_seconds, "metrics": told["metrics"], "peak_mib": mib, "bytes": told["bytes"],
        "learner": told["learner"],
    }


def example(name, threads, *args):
    return process([EXAMPLES / name, *args], threads)


def linear_rate(threads, passes):
    """The example prints for people."""
    folder = data.WORK / "bts_flights_3m"
    args = [folder / "rate.parquet", f"threads={threads}", f"epochs={passes}", "cross=origin*destination"]
    out, seconds, cpu_seconds, mib = example("linear_rate", threads, *args)
    number = r"([0-9.,]+)"

    def found(pattern):
        hit = re.search(pattern, out)
        return float(hit.group(1).replace(",", "")) if hit else None

    rate, loss = found(rf"learning alone: .*?, {number} a second of processor"), found(rf"log loss {number}")
    if loss is None:
        raise Trouble(f"linear_rate said nothing of its loss: {out[-300:]}")
    metrics = {"logloss": loss, "auc": found(rf"AUC {number}")}
    return {"rows_per_cpu_second": rate, "seconds": seconds, "cpu_seconds": cpu_seconds, "metrics": metrics, "peak_mib": mib}


def linear(quick):
    """Learning alone (rows a second of CPU), and everything from the Parquet file on."""
    cross = ["--cross", "origin*destination"]
    for passes, extra in [(1, "-l 0.02"), (3, "-l 0.1")]:
        key = f"bts_flights_3m, {passes} pass" + ("es" if passes > 1 else "")
        args = ["--passes", str(passes), *cross]
        # The example tells an epoch apart from what comes before by the second one, so there are two at least.
        many = max(2, passes)
        yield Case("linear", key, f"{OURS}, {many} passes", 1, lambda p=many: linear_rate(1, p))
        for name in ["vw-cache"] + (["vw-text"] if passes == 1 else []):
            yield Case("linear", key, name, 1, lambda n=name, a=args, e=extra: peer("linear", 1, "--peer", n, *a, f"--extra={e}"))
        yield Case("linear", key, "sgd", 1, lambda a=args: peer("linear", 1, "--peer", "sgd", *a))
    for name in ["bts_flights_3m"] if quick else ["bts_flights_3m", "flights", "adult", "open_bandit"]:
        key = f"{name}, whole job"
        args = ["--set", name, "--passes", "3", *(cross if name == "bts_flights_3m" else [])]
        yield Case("linear", key, f"{OURS} train", 1, lambda n=name: train(n, "linear", 1, {}))
        yield Case("linear", key, "vw-cache", 1, lambda a=args: peer("linear", 1, "--peer", "vw-cache", *a, "--extra=-l 0.1"))
        yield Case("linear", key, "sgd", 1, lambda a=args: peer("linear", 1, "--peer", "sgd", *a))


def trees(quick):
    """The same leaves, rate, rounds and bins, no early stopping; two fits, as `homeostat train` makes them."""
    same = {"rounds": TREES["rounds"], "learning_rate": TREES["rate"], "leaves": TREES["leaves"], "min_rows": 20}
    same |= {"column_share": 1.0, "row_share": 1.0, "l2": 1.0, "patience": 0}
    args = [f"--{name}={value}" for name, value in TREES.items()]
    for name in ["covtype"] if quick else TREE_SETS:
        for threads in (1,) if quick else (1, 2):
            key = f"{name}, {threads} thread" + ("s" if threads > 1 else "")
            ours = {"learner.trees": same}
            yield Case("trees", key, OURS, threads, lambda n=name, t=threads: train(n, "trees", t, ours))
            for other in TREE_PEERS:
                told = ["--set", name, "--peer", other, "--threads", str(threads), *args]
                yield Case("trees", key, other, threads, lambda a=told, t=threads: peer("trees", t, *a))


def network_rate(threads, samples):
    """crates/learning/examples/network_rate.rs: work/clicks with the peers' tower and tables, one line of JSON as theirs."""
    out, *_ = example("network_rate", threads, data.WORK / "clicks", f"samples={samples}", "batch=1024", "hidden=128,64",
                      f"threads={threads}")
    return json.loads(out.splitlines()[-1])


def network(quick):
    """Samples a second while learning, and the loss after as many samples. Dense gradients touch every row of every
    table in each step, so they get fewer samples; what the others had lost by then is in the curves."""
    import clicks

    samples, few = (1 << 18, 1 << 14) if quick else (1 << 20, 1 << 16)
    clicks.made(1 << 20)
    for threads in (1,) if quick else (1, 2):
        key = f"{samples:,} samples, {threads} thread" + ("s" if threads > 1 else "")
        yield Case("network", key, OURS, threads, lambda t=threads: network_rate(t, samples))
        for variant, count in [("sparse-adagrad", samples), ("sparse-adam", samples), ("dense-adagrad", few), ("dense-adam", few)]:
            args = ["--variant", variant, "--samples", str(count), "--threads", str(threads)]
            yield Case("network", key, variant, threads, lambda a=args, t=threads: peer("network", t, *a))


class Overhead:
    """The example measures all functions and numbers of trials in one go; each line takes its own part of a run, and the
    next repeat runs it again."""

    def __init__(self):
        self.left = {}

    def take(self, function, trials, search):
        place = (function, trials, search)
        if not self.left.get(place):
            out, *_ = example("tune_overhead", 1, "1")
            for told in json.loads(out):
                self.left.setdefault((told["function"], told["trials"], told["search"]), []).append(told)
        if not self.left.get(place):
            raise Trouble(f"tune_overhead told nothing of {place}")
        told = self.left[place].pop()
        return {"ms_per_trial": told["us_per_trial"] / 1000, "least": told["least"]}


def tune(quick):
    """What the search itself costs a trial. Homeostat's writes its journal, one lane as Optuna's loop, and eight."""
    ours = Overhead()
    for trials in (1000,) if quick else (1000, 5000):
        for function in ("branin", "hartmann6", "rosenbrock10"):
            key = f"{function}, {trials:,} trials"
            for search in ("tpe", "tpe, 8 lanes"):
                program = f"{OURS}, {search}, journal"
                yield Case("tune", key, program, 1, lambda f=function, t=trials, k=search: ours.take(f, t, k))
            for more in ([], ["--halving"], ["--journal"]):
                args = ["--function", function, "--trials", str(trials), *more]
                program = ", ".join(["optuna", "tpe", *(word.strip("-") for word in more)])
                yield Case("tune", key, program, 1, lambda a=args: peer("overhead", 1, *a))


def tuned_by_us(name, trials):
    folder = data.project(name, HOMEOSTAT)
    command = [HOMEOSTAT, "tune", name, "--trials", str(trials), "--json"]
    out, seconds, cpu_seconds, mib = process(command, 2, folder)
    told = json.loads(out)
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "metrics": told.get("metrics", {}), "peak_mib": mib, "told": told}


def tuned(given):
    """The best of the three learners beside the best of the peers, each tuned by Optuna."""
    trials = min(given.trials, 3) if given.quick else given.trials
    for name in ["bike_sharing"] if given.quick else given.sets or TUNED_SETS:
        yield Case("tuned", name, f"{OURS} train --learner auto", 2, lambda n=name: train(n, "auto", 2, {}))
        yield Case("tuned", name, f"{OURS} tune, {trials} trials", 2, lambda n=name: tuned_by_us(n, trials))
        for other in TREE_PEERS:
            args = ["--set", name, "--peer", other, "--trials", str(trials)]
            yield Case("tuned", name, f"{other}, {trials} trials", 2, lambda a=args: peer("tuned", 2, *a))


def gather(cases, repeats):
    """Each case `repeats` times, all in turn; the answers by case, and what failed."""
    answers, failed = {case: [] for case in cases}, {}
    for repeat in range(repeats):
        for case in cases:
            name = f"{case.kind}, {case.key}, {case.program}"
            if name in failed:
                continue
            print(f"{repeat + 1}/{repeats} {name}", file=sys.stderr, flush=True)
            try:
                answers[case].append(case.call())
            except (Trouble, RuntimeError, ValueError, KeyError) as error:
                failed[name] = str(error)
    return answers, failed


def middle(told):
    """Of numbers the median, also within metrics; anything else as the first run had it."""
    first = told[0]
    if isinstance(first, dict):
        return {key: middle([one[key] for one in told]) for key in first}
    number = isinstance(first, (int, float)) and not isinstance(first, bool)
    return statistics.median(told) if number and all(isinstance(one, (int, float)) for one in told) else first


COLUMNS = {
    "linear": [("rows/s of CPU", "rows_per_cpu_second", ",.0f"), ("whole job, s", "seconds", ".1f"), ("its CPU, s", "cpu_seconds", ".1f"),
               ("log loss", "metrics.logloss", ".4f"), ("AUC", "metrics.auc", ".4f"), ("MiB", "peak_mib", ",.0f")],
    "trees": [("whole job, s", "seconds", ".1f"), ("CPU, s", "cpu_seconds", ".1f"), ("one fit, s", "fit_seconds", ".1f"),
              ("AUC", "metrics.auc", ".4f"), ("log loss", "metrics.logloss", ".4f"), ("RMSE", "metrics.rmse", ".3f"),
              ("MiB", "peak_mib", ",.0f")],
    "network": [("samples", "samples", ",.0f"), ("samples/s", "samples_per_second", ",.0f"),
                ("samples/s of CPU", "samples_per_cpu_second", ",.0f"), ("log loss", "logloss", ".4f"), ("MiB", "peak_mib", ",.0f")],
    "tune": [("ms a trial", "ms_per_trial", ".2f"), ("CPU ms a trial", "cpu_ms_per_trial", ".2f"), ("least", "least", ".4g")],
    "tuned": [("AUC", "metrics.auc", ".4f"), ("log loss", "metrics.logloss", ".4f"), ("RMSE", "metrics.rmse", ".3f"),
              ("seconds", "seconds", ",.0f"), ("CPU, s", "cpu_seconds", ",.0f")],
}


def found(told, path):
    for part in path.split("."):
        told = told.get(part) if isinstance(told, dict) else None
    return told


def markdown(results):
    said = [f"{results['date']}, {results['cpu']['name']}, {results['cpu']['cores']} cores; load average at the start "
            f"{results['load_average'][0]:.1f}; `{results['command']}`; median of {results['repeats']}.", ""]
    for kind in dict.fromkeys(row["kind"] for row in results["rows"]):
        rows = [row for row in results["rows"] if row["kind"] == kind]
        shown = [column for column in COLUMNS[kind] if any(found(row["told"], column[1]) is not None for row in rows)]
        for key in dict.fromkeys(row["key"] for row in rows):
            said += [f"### {kind}: {key}", "", f"| program | {' | '.join(head for head, *_ in shown)} |"]
            said.append("|---|" + "--:|" * len(shown))
            for row in (row for row in rows if row["key"] == key):
                values = [(found(row["told"], path), form) for _, path, form in shown]
                cells = ["–" if value is None else f"{value:{form}}" for value, form in values]
                said.append(f"| {row['program']} | {' | '.join(cells)} |")
            said.append("")
    said += [f"- failed: {name}: {' '.join(text.split())}" for name, text in results["failed"].items()]
    return "\n".join([*said, "", "Versions: " + json.dumps(results["versions"])])


def versions():
    named = (HERE / "requirements.txt").read_text() + (HERE / "requirements-torch.txt").read_text()
    told = {"python": platform.python_version(), "kernel": platform.release()}
    for package in re.findall(r"^([\w-]+)==", named, re.M):
        try:
            told[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            told[package] = None
    if HOMEOSTAT.is_file():
        told[OURS] = subprocess.run([HOMEOSTAT, "--version"], capture_output=True, text=True).stdout.strip()
    return told


def cpu():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {"name": named[0] if named else platform.machine(), "cores": os.cpu_count()}


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one repeat, the first set of each kind, fewer trials")
    parser.add_argument("--only", default="linear,trees,network,tune,tuned", help="kinds of comparison, with commas")
    parser.add_argument("--programs", default="", help="only lines whose program starts with one of these, with commas")
    parser.add_argument("--repeats", type=int, default=5, help="of each measurement but the tuned ones, which are made once")
    parser.add_argument("--trials", type=int, default=50, help="of each tuned peer; 50 take hours")
    parser.add_argument("--sets", type=lambda text: text.split(","), help="of the tuned comparison")
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "results.json")
    return parser.parse_args()


def main():
    given = options()
    kinds = {"linear": linear, "trees": trees, "network": network, "tune": tune, "tuned": lambda _: tuned(given)}
    asked = given.only.split(",")
    if unknown := [kind for kind in asked if kind not in kinds]:
        sys.exit(f"--only {','.join(unknown)}: there are {', '.join(kinds)}")
    for make in data.SETS:
        data.write(make)
    repeats = 1 if given.quick else given.repeats
    results = {
        "date": datetime.date.today().isoformat(), "cpu": cpu(), "load_average": os.getloadavg(), "repeats": repeats,
        "command": " ".join(["benches/learning/run.py", *sys.argv[1:]]), "versions": versions(), "rows": [], "failed": {},
    }
    for kind in asked:
        cases = [case for case in kinds[kind](given.quick) if case.program.startswith(tuple(given.programs.split(",")))]
        answers, failed = gather(cases, 1 if kind == "tuned" else repeats)
        results["failed"] |= failed
        results["rows"] += [
            {"kind": case.kind, "key": case.key, "program": case.program, "threads": case.threads, "told": middle(told), "runs": told}
            for case, told in answers.items() if told
        ]
        # After each kind, since the next may take hours.
        given.out.write_text(json.dumps(results, indent=1).replace(str(ROOT), ".") + "\n")
    print(markdown(results).replace(str(ROOT), "."))


if __name__ == "__main__":
    main()
