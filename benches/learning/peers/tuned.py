"""A peer's best: Optuna's TPE over its usual parameters on train and validation rows, then a fit of the winner on both,
judged on the test rows. Trials stop early on the validation loss and are compared by AUC, RMSE or log loss there.
"""

import argparse

import optuna

from common import Clock, Set, answer, keep_to, metrics, note
from trees import FITS, PEERS, threads_of, warm

# The metric that a trial is judged by, and its sign.
JUDGE = {"binary": ("auc", -1), "regression": ("rmse", 1), "multiclass": ("logloss", 1)}


def proposed(peer, trial):
    """Usual ranges, the same for all as far as they have the parameter."""
    leaves = trial.suggest_int("leaves", 7, 255, log=True)
    rate = trial.suggest_float("rate", 0.01, 0.3, log=True)
    least = trial.suggest_int("least_rows", 1, 200, log=True)
    l2 = trial.suggest_float("l2", 1e-3, 30.0, log=True)
    columns = trial.suggest_float("columns", 0.4, 1.0)
    if peer == "lightgbm":
        rows = trial.suggest_float("rows", 0.5, 1.0)
        return {
            "num_leaves": leaves, "learning_rate": rate, "min_data_in_leaf": least, "lambda_l2": l2, "feature_fraction": columns,
            "bagging_fraction": rows, "bagging_freq": 1, "cat_smooth": trial.suggest_float("cat_smooth", 1, 100, log=True),
        }
    if peer == "xgboost":
        rows = trial.suggest_float("rows", 0.5, 1.0)
        return {
            "max_leaves": leaves, "eta": rate, "min_child_weight": least / 4, "lambda": l2, "colsample_bytree": columns,
            "subsample": rows, "gamma": trial.suggest_float("gamma", 1e-4, 5, log=True),
        }
    if peer == "catboost":
        # Its own default shape, by whose depth it is usually tuned.
        depth = min(10, max(3, leaves.bit_length()))
        return {"grow_policy": "SymmetricTree", "depth": depth, "learning_rate": rate, "l2_leaf_reg": l2, "rsm": columns}
    return {
        "max_leaf_nodes": leaves, "learning_rate": rate, "min_samples_leaf": least, "l2_regularization": l2, "max_features": columns,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", required=True)
    parser.add_argument("--peer", required=True, choices=PEERS)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=1500)
    parser.add_argument("--patience", type=int, default=50)
    parser.add_argument("--seconds", type=float, help="no trial begins after this time")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    keep_to(asked.threads)
    warm(asked.peer)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    threads, fit = threads_of(asked.peer, asked.threads), FITS[asked.peer]

    with Clock() as job:
        data = Set(asked.set)
        name, sign = JUDGE[data.task]

        def objective(trial):
            settings = proposed(asked.peer, trial) | threads
            rounds, predict = fit(data, settings, asked.rounds, data.train, asked.patience)
            seen = metrics(data.task, data.y[data.validation], predict(data.validation))[name]
            trial.set_user_attr("rounds", rounds)
            trial.set_user_attr("settings", settings)
            note(f"{asked.set} {asked.peer} {trial.number}: {name} {seen:.5f}, {rounds} rounds")
            return sign * seen

        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=1))
        study.optimize(objective, n_trials=asked.trials, timeout=asked.seconds)
        best = study.best_trial
        _, predict = fit(data, best.user_attrs["settings"], best.user_attrs["rounds"], data.known, 0)
        told = metrics(data.task, data.y[data.test], predict(data.test))
    answer(
        peer=asked.peer, set=asked.set, threads=asked.threads, trials=len(study.trials), seconds=job.seconds,
        cpu_seconds=job.cpu_seconds, validation={name: sign * best.value}, metrics=told, parameters=best.params,
        rounds=best.user_attrs["rounds"],
    )


if __name__ == "__main__":
    main()
