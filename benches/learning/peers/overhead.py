"""What Optuna itself costs a trial: TPE on functions that cost nothing, with and without successive halving.

The functions and domains are those of crates/learning/examples/tune_overhead.rs: branin and hartmann6 on unit cubes,
rosenbrock10 on [-5, 10]^10. With --halving a trial reports its loss at steps 1, 3, 9 and 27 with a distance of 1/step
added, and the pruner decides. --journal keeps the study in a journal file, as Homeostat's search does; otherwise it is
in memory, which is Optuna's fastest. The least value is of what was found within the trials.
"""

import argparse
import math
import tempfile

import optuna

from common import Clock, answer, keep_to

A = [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
P = [
    [0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886],
    [0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991],
    [0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650],
    [0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381],
]


def branin(x):
    x, y = 15 * x[0] - 5, 15 * x[1]
    a = y - 5.1 / (4 * math.pi**2) * x * x + 5 / math.pi * x - 6
    return a * a + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


def hartmann6(x):
    sums = [sum(a * (v - p) ** 2 for a, p, v in zip(row, place, x)) for row, place in zip(A, P)]
    return -sum(weight * math.exp(-total) for weight, total in zip((1.0, 1.2, 3.0, 3.2), sums))


def rosenbrock10(x):
    return sum(100 * (b - a * a) ** 2 + (1 - a) ** 2 for a, b in zip(x, x[1:]))


FUNCTIONS = {"branin": (branin, 2, 0.0, 1.0), "hartmann6": (hartmann6, 6, 0.0, 1.0), "rosenbrock10": (rosenbrock10, 10, -5.0, 10.0)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--function", required=True, choices=FUNCTIONS)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--halving", action="store_true")
    parser.add_argument("--journal", action="store_true")
    parser.add_argument("--multivariate", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    keep_to(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    function, dimensions, low, high = FUNCTIONS[asked.function]

    def objective(trial):
        loss = function([trial.suggest_float(f"x{d}", low, high) for d in range(dimensions)])
        if asked.halving:
            for step in (1, 3, 9, 27):
                trial.report(loss + 1 / step, step)
                if trial.should_prune():
                    raise optuna.TrialPruned
        return loss

    sampler = optuna.samplers.TPESampler(seed=asked.seed, multivariate=asked.multivariate)
    pruner = optuna.pruners.SuccessiveHalvingPruner(1, 3, 0) if asked.halving else optuna.pruners.NopPruner()
    with tempfile.TemporaryDirectory() as folder:
        storage = None
        if asked.journal:
            backend = optuna.storages.journal.JournalFileBackend(f"{folder}/journal")
            storage = optuna.storages.JournalStorage(backend)
        study = optuna.create_study(sampler=sampler, pruner=pruner, storage=storage)
        with Clock() as search:
            study.optimize(objective, n_trials=asked.trials)
        least = study.best_value
    answer(
        peer="optuna", function=asked.function, trials=asked.trials, halving=asked.halving, journal=asked.journal,
        multivariate=asked.multivariate, seed=asked.seed, ms_per_trial=1000 * search.seconds / asked.trials,
        cpu_ms_per_trial=1000 * search.cpu_seconds / asked.trials, least=least,
    )


if __name__ == "__main__":
    main()
