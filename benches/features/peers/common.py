"""What the peers share: the clock, and one line of JSON as the answer."""

import json
import pathlib
import resource
import sys
import time

WORK = pathlib.Path(__file__).resolve().parent.parent / "work"
sys.path.insert(0, str(WORK.parent))


class Clock:
    """Wall and CPU seconds of this process, all its threads together."""

    def __enter__(self):
        self.began, self.cpu_began = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_):
        self.seconds, self.cpu_seconds = time.perf_counter() - self.began, time.process_time() - self.cpu_began


def answer(**told):
    told["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(told))


def columns():
    """The inputs of the flights model: numbers, categories, and the instant whose weekday is taken."""
    contract, model = (json.loads((WORK / f"{name}.json").read_text()) for name in ("contract", "model"))
    never = {model["target"], model["time"], model["key"], model["outcome_at"], *model["features"]["exclude"]}
    used = [one for one in contract["column"] if one["name"] not in never]
    numbers = [one["name"] for one in used if one["type"] in ("int", "float")]
    texts = [one["name"] for one in used if one["type"] == "string"]
    parts = model["features"]["time_parts"][0]
    return numbers, texts, parts["column"], parts["zone"]
