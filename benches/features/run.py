"""Features beside their peers on this machine: the same rows, one core each, in turns, medians of repeats.

  sh benches/features/setup.sh
  cargo build --release --locked --workspace --all-targets
  benches/features/.venv/bin/python benches/features/run.py [--quick] [--only pipeline,validation,stream,join]

Every measurement is a process of its own. CPU seconds are compared, since others may use the machine. Homeostat's are examples of crates/features; the join's is the example
point_in_time, which takes the two files and prints a line of JSON. HOMEOSTAT_EXAMPLES says where they
lie if not in target/release/examples. What fails is said at the end, and the rest goes on.
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
EXAMPLES = pathlib.Path(os.environ.get("HOMEOSTAT_EXAMPLES", ROOT / "target" / "release" / "examples"))
OURS = "homeostat"
# Kinds of libraries that would take all cores for themselves.
ONE_THREAD = {name: "1" for name in ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")}
QUIET = {"GX_ANALYTICS_ENABLED": "false", "DISABLE_PANDERA_IMPORT_WARNING": "True"}


class Trouble(Exception):
    """A measurement that could not be made; its message goes into the results."""


class Case:
    """One line of a table: what to run. `key` says which lines are of one comparison."""

    def __init__(self, kind, key, program, command):
        self.kind, self.key, self.program, self.command = kind, key, program, [str(part) for part in command]

    def call(self):
        """The line of JSON that it prints, and what the process as a whole took."""
        if not pathlib.Path(self.command[0]).is_file():
            raise Trouble(f"{pathlib.Path(self.command[0]).name} is not built")
        core = max(os.sched_getaffinity(0))
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
            began = time.perf_counter()
            child = subprocess.Popen(
                self.command, stdout=out, stderr=errors, env=os.environ | ONE_THREAD | QUIET,
                preexec_fn=lambda: os.sched_setaffinity(0, [core]),
            )
            _, status, used = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            seconds = time.perf_counter() - began
            out.seek(0), errors.seek(0)
            if child.returncode:
                raise Trouble(f"status {child.returncode}: {errors.read().strip()[-400:]}")
            told = json.loads(out.read().splitlines()[-1])
        told["whole_seconds"], told["peak_mib"] = seconds, used.ru_maxrss / 1024
        if "rows" in told:
            told["rows_per_cpu_second"] = told["rows"] / told.get("cpu_seconds", told["seconds"])
        return told


def peer(script, *args):
    return [sys.executable, "-W", "ignore", HERE / "peers" / f"{script}.py", *args]


def table_rate(recipe, task):
    return [EXAMPLES / "table_rate", data.FLIGHTS, data.CONTRACT, data.MODEL, recipe, task]


def pipeline(_):
    """Statistics of all rows, then all rows as one batch, and rows by themselves."""
    for recipe in ("trees", "linear"):
        for task in ("fit", "transform"):
            key = f"{task}, {recipe}, flights"
            yield Case("pipeline", key, OURS, table_rate(recipe, task))
            for other in ("scikit-learn", "polars"):
                yield Case("pipeline", key, other, peer("pipeline", "--peer", other, "--recipe", recipe, "--task", task))


def validation(_):
    key = "the flights contract"
    yield Case("validation", key, OURS, table_rate("trees", "validate"))
    for other in ("pandera", "pandera-polars", "great_expectations"):
        yield Case("validation", key, other, peer("validation", "--peer", other))


def stream(given):
    """The peers' events are Python objects: they get fewer of them."""
    ours, few = (500_000, 50_000) if given.quick else (4_000_000, 400_000)
    what = "tumbling minute, count and mean by 1,000 keys"
    yield Case("stream", f"{what}, {ours:,} events", OURS, [EXAMPLES / "tumbling_rate", ours, 1000])
    key = f"{what}, {few:,} events"
    yield Case("stream", key, OURS, [EXAMPLES / "tumbling_rate", few, 1000])
    for other, said in [("bytewax", "bytewax"), ("pandas", "pandas groupby, no stream"), ("polars", "polars group_by, no stream")]:
        yield Case("stream", key, said, peer("stream", "--peer", other, "--events", few))


def join(given):
    rows = 30_000 if given.quick else given.rows
    left, right = data.joins(rows)
    key = f"{rows:,} questions, {10 * rows:,} facts, {data.JOIN_KEYS:,} keys"
    yield Case("join", key, OURS, [EXAMPLES / "point_in_time", left, right])
    for other in ("pandas", "polars", "duckdb"):
        yield Case("join", key, other, peer("joins", "--peer", other, left, right))


# What lines of one comparison must agree on, since they did the same work.
AGREE = {"pipeline": ["rows"], "validation": ["rows", "broken"], "stream": ["windows", "counted"], "join": ["rows", "matched", "sum"]}
COLUMNS = {
    "pipeline": [("seconds", "seconds", ".3f"), ("CPU s", "cpu_seconds", ".3f"), ("rows/s of CPU", "rows_per_cpu_second", ",.0f"), ("one row, µs", "single_us_p50", ",.1f"),
                 ("p99", "single_us_p99", ",.1f"), ("dense", "dense", ",.0f"), ("slots", "slots", ",.0f"), ("MiB", "peak_mib", ",.0f")],
    "validation": [("seconds", "seconds", ".3f"), ("CPU s", "cpu_seconds", ".3f"), ("rows/s of CPU", "rows_per_cpu_second", ",.0f"), ("broken", "broken", ",.0f"),
                   ("MiB", "peak_mib", ",.0f")],
    "stream": [("events", "events", ",.0f"), ("events/s of CPU", "events_per_cpu_second", ",.0f"), ("windows", "windows", ",.0f"),
               ("MiB", "peak_mib", ",.0f")],
    "join": [("seconds", "seconds", ".3f"), ("with reading", "whole_seconds", ".2f"), ("CPU s", "cpu_seconds", ".3f"), ("rows/s of CPU", "rows_per_cpu_second", ",.0f"),
             ("matched", "matched", ",.0f"), ("MiB", "peak_mib", ",.0f")],
}


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
            except (Trouble, ValueError, KeyError, IndexError) as error:
                failed[name] = str(error)
    return answers, failed


def disagreements(rows):
    """Lines that did not do the same work as the first one of their comparison."""
    for row in rows:
        first = next(one for one in rows if (one["kind"], one["key"]) == (row["kind"], row["key"]))
        for field in AGREE[row["kind"]]:
            mine, theirs = row["told"].get(field), first["told"].get(field)
            if mine != theirs:
                yield f"{row['kind']}, {row['key']}: {field} is {mine} for {row['program']}, {theirs} for {first['program']}"


def middle(told):
    """Of numbers the median; anything else as the first run had it."""
    def one(key):
        values = [run[key] for run in told]
        return statistics.median(values) if all(isinstance(value, (int, float)) for value in values) else values[0]

    return {key: one(key) for key in told[0]}


def markdown(results):
    said = [f"{results['date']}, {results['cpu']['name']}, {results['cpu']['cores']} cores, one used; load average at the start "
            f"{results['load_average'][0]:.1f}; `{results['command']}`; median of {results['repeats']}.", ""]
    for kind in dict.fromkeys(row["kind"] for row in results["rows"]):
        rows = [row for row in results["rows"] if row["kind"] == kind]
        for key in dict.fromkeys(row["key"] for row in rows):
            lines = [row for row in rows if row["key"] == key]
            shown = [column for column in COLUMNS[kind] if any(column[1] in row["told"] for row in lines)]
            said += [f"### {kind}: {key}", "", f"| program | {' | '.join(head for head, *_ in shown)} |"]
            said.append("|---|" + "--:|" * len(shown))
            for row in lines:
                values = [(row["told"].get(field), form) for _, field, form in shown]
                cells = ["–" if value is None else f"{value:{form}}" for value, form in values]
                said.append(f"| {row['program']} | {' | '.join(cells)} |")
            said.append("")
    said += [f"- not the same work: {text}" for text in results["disagreements"]]
    said += [f"- failed: {name}: {' '.join(text.split())}" for name, text in results["failed"].items()]
    return "\n".join([*said, "", "Versions: " + json.dumps(results["versions"])])


def versions():
    told = {"python": platform.python_version(), "kernel": platform.release()}
    for package in re.findall(r"^([\w-]+)==", (HERE / "requirements.txt").read_text(), re.M):
        try:
            told[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            told[package] = None
    cargo = (ROOT / "Cargo.toml").read_text()
    told[OURS] = re.search(r'^version = "(.*)"', cargo, re.M).group(1)
    return told


def cpu():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {"name": named[0] if named else platform.machine(), "cores": os.cpu_count()}


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one repeat, fewer events, a small join")
    parser.add_argument("--only", default="pipeline,validation,stream,join", help="kinds of comparison, with commas")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", type=int, default=3_000_000, help="questions of the join; there are ten times as many facts")
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "results.json")
    return parser.parse_args()


def main():
    given = options()
    kinds = {"pipeline": pipeline, "validation": validation, "stream": stream, "join": join}
    asked = given.only.split(",")
    if unknown := [kind for kind in asked if kind not in kinds]:
        sys.exit(f"--only {','.join(unknown)}: there are {', '.join(kinds)}")
    data.flights()
    repeats = 1 if given.quick else given.repeats
    results = {
        "date": datetime.date.today().isoformat(), "cpu": cpu(), "load_average": os.getloadavg(), "repeats": repeats,
        "command": " ".join(["benches/features/run.py", *sys.argv[1:]]), "versions": versions(), "rows": [], "failed": {},
        "disagreements": [],
    }
    for kind in asked:
        answers, failed = gather(list(kinds[kind](given)), repeats)
        results["failed"] |= failed
        results["rows"] += [
            {"kind": case.kind, "key": case.key, "program": case.program, "told": middle(told), "runs": told}
            for case, told in answers.items() if told
        ]
        results["disagreements"] = list(disagreements(results["rows"]))
        given.out.write_text(json.dumps(results, indent=1).replace(str(ROOT), ".") + "\n")
    print(markdown(results).replace(str(ROOT), "."))


if __name__ == "__main__":
    main()
