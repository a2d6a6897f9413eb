"""The year of flights against what it promises: `make year`. Standard library only.

Runs the quickstart from April to December, twice with --twice (the second time with one thread), and prints each
promise beside the figure that this run gave. Ends with status 1 where one is not kept.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = ROOT / "target" / "release" / "homeostat"
MEMORY_BYTES_MAX = 1 << 30
SECONDS_MAX = 15 * 60
AUC_GAIN_MIN = 0.02
LOGLOSS_GAIN_MIN = 0.010
AUC_LOSS_MAX = 0.01
NEWCOMER_LOSS_MAX = 0.005


def quickstart(folder, seed, threads):
    command = [str(BINARY), "quickstart", "--dir", str(folder), "--port", "0", "--exit-when-done", "--json"]
    command += ["--seed", str(seed), "--threads", str(threads)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if ended.returncode != 0:
        sys.exit(f"the quickstart ended with status {ended.returncode}")
    return json.loads(ended.stdout)


def replayed_alike(folder):
    command = [str(BINARY), "replay", "--sample", "1000", "--json"]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=folder).stdout)


def promises(report):
    """Each promise as (what, wanted, seen, kept)."""
    live, frozen = report["metrics"]["live"], report["metrics"]["frozen"]
    months = sorted(live["months"])
    lowest = min((live["months"][month]["auc"] - frozen["months"][month]["auc"], month) for month in months)
    gain, saved = live["auc"] - frozen["auc"], frozen["logloss"] - live["logloss"]
    following = [
        (release["following"]["newcomer_logloss"] - release["following"]["replaced_logloss"], release["version"])
        for release in report["releases"]
        if release["following"]["rows"]
    ]
    worst = max(following, default=(0.0, "none"))
    memory = report["server_peak_memory_bytes"]
    return [
        ("events lost", "0", report["lost"], report["lost"] == 0),
        ("predictions", report["replayed"], report["predictions"], report["predictions"] == report["replayed"]),
        ("retrainings", ">= 1", report["retrainings"], report["retrainings"] >= 1),
        ("promotions", ">= 1", len(report["releases"]), len(report["releases"]) >= 1),
        ("mean monthly AUC, live less first", f">= {AUC_GAIN_MIN}", f"{gain:+.4f}", gain >= AUC_GAIN_MIN),
        ("mean monthly log loss, first less live", f">= {LOGLOSS_GAIN_MIN}", f"{saved:+.4f}", saved >= LOGLOSS_GAIN_MIN),
        (
            f"lowest month's AUC, live less first ({lowest[1]})",
            f">= -{AUC_LOSS_MAX}",
            f"{lowest[0]:+.4f}",
            lowest[0] >= -AUC_LOSS_MAX,
        ),
        (
            f"log loss of a newcomer less the replaced version's, following month, worst ({worst[1]})",
            f"<= {NEWCOMER_LOSS_MAX}",
            f"{worst[0]:+.4f}",
            worst[0] <= NEWCOMER_LOSS_MAX,
        ),
        ("seconds", f"<= {SECONDS_MAX}", round(report["seconds"]), report["seconds"] <= SECONDS_MAX),
        ("server's peak memory, MiB", f"< {MEMORY_BYTES_MAX >> 20}", memory >> 20, memory < MEMORY_BYTES_MAX),
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--twice", action="store_true", help="a second run with one thread, which must decide alike")
    parser.add_argument("--keep", metavar="FILE", help="write the first run's JSON to FILE")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        folder = pathlib.Path(work) / "first"
        report = quickstart(folder, asked.seed, 0)
        if asked.keep:
            pathlib.Path(asked.keep).write_text(json.dumps(report, indent=1))
        table = promises(report)
        replay = replayed_alike(folder)
        same = f"{replay['same']} of {replay['replayed']}"
        table.append(("replayed predictions with the same bits", "all", same, replay["same"] == replay["replayed"] > 0))
        if asked.twice:
            second = quickstart(pathlib.Path(work) / "second", asked.seed, 1)
            for name in ("releases", "rollbacks", "versions", "metrics"):
                alike = report[name] == second[name]
                table.append((f"{name} of a second run with one thread", "the same", "the same" if alike else "other", alike))
        width = max(len(row[0]) for row in table)
        for what, wanted, seen, kept in table:
            print(f"{what:<{width}}  {wanted!s:>10}  {seen!s:>12}  {'kept' if kept else 'NOT KEPT'}")
        for release in report["releases"]:
            print(release["at"], release["version"], "for", release.get("replaced"), release.get("following"))
    sys.exit(0 if all(row[3] for row in table) else 1)


if __name__ == "__main__":
    main()
