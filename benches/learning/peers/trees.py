"""Boosted trees with the same leaves, rate and rounds: LightGBM, XGBoost, CatBoost, scikit-learn's histogram boosting.

One job is what `homeostat train` does: read the Parquet file, fit on the train rows with the validation rows watched,
fit again on both for as many rounds, predict the test rows. Its seconds are given, and those of the second fit alone
(`fit_seconds`, data in memory; binning included). Imports are not counted.
"""

import argparse

import numpy as np

from common import Clock, Set, answer, keep_to, metrics

PEERS = ("lightgbm", "xgboost", "catboost", "histgb")


def lightgbm(data, given, rounds, rows, watched):
    import lightgbm

    objective = {"binary": "binary", "regression": "regression", "multiclass": "multiclass"}[data.task]
    settings = {"objective": objective, "num_leaves": 31, "learning_rate": 0.1, "min_data_in_leaf": 20, "lambda_l2": 1.0}
    settings |= {"verbose": -1, "seed": 1} | given
    if data.task == "multiclass":
        settings["num_class"] = len(data.classes)
    train = lightgbm.Dataset(data.x.iloc[rows], data.y[rows], params=settings)
    calls, sets = [], []
    if watched:
        sets = [lightgbm.Dataset(data.x.iloc[data.validation], data.y[data.validation], reference=train)]
        if watched > 1:
            calls = [lightgbm.early_stopping(watched, verbose=False)]
    model = lightgbm.train(settings, train, rounds, valid_sets=sets, callbacks=calls)
    best = model.best_iteration if model.best_iteration > 0 else rounds
    return best, lambda part: model.predict(data.x.iloc[part], num_iteration=best)


def xgboost(data, given, rounds, rows, watched):
    import xgboost

    objective = {"binary": "binary:logistic", "regression": "reg:squarederror", "multiclass": "multi:softprob"}[data.task]
    settings = {"objective": objective, "max_leaves": 31, "max_depth": 0, "grow_policy": "lossguide", "eta": 0.1}
    settings |= {"min_child_weight": 1.0, "lambda": 1.0, "tree_method": "hist", "seed": 1} | given
    if data.task == "multiclass":
        settings["num_class"] = len(data.classes)
    bins = settings.get("max_bin", 256)
    train = xgboost.QuantileDMatrix(data.x.iloc[rows], data.y[rows], enable_categorical=True, max_bin=bins)
    evals, stop = [], None
    if watched:
        x, y = data.x.iloc[data.validation], data.y[data.validation]
        evals = [(xgboost.QuantileDMatrix(x, y, ref=train, enable_categorical=True, max_bin=bins), "validation")]
        stop = watched if watched > 1 else None
    model = xgboost.train(settings, train, rounds, evals=evals, early_stopping_rounds=stop, verbose_eval=False)
    best = model.best_iteration + 1 if stop else rounds

    def predict(part):
        return model.predict(xgboost.DMatrix(data.x.iloc[part], enable_categorical=True), iteration_range=(0, best))

    return best, predict


def catboost(data, given, rounds, rows, watched):
    import catboost

    def pool(part, labelled=True):
        x = data.x.iloc[part].copy()
        for name in data.categorical:
            x[name] = x[name].astype(object).where(x[name].notna(), "missing").astype(str)
        return catboost.Pool(x, data.y[part] if labelled else None, cat_features=data.categorical)

    loss = {"binary": "Logloss", "regression": "RMSE", "multiclass": "MultiClass"}[data.task]
    settings = {"loss_function": loss, "grow_policy": "Lossguide", "max_leaves": 31, "learning_rate": 0.1}
    settings |= {"min_data_in_leaf": 20, "l2_leaf_reg": 1.0, "random_seed": 1, "verbose": False, "iterations": rounds}
    settings |= {"allow_writing_files": False, "use_best_model": False} | given
    if settings["grow_policy"] == "SymmetricTree":
        settings.pop("max_leaves"), settings.pop("min_data_in_leaf")
    model = catboost.CatBoost(settings)
    stop = watched if watched > 1 else None
    model.fit(pool(rows), eval_set=pool(data.validation) if watched else None, early_stopping_rounds=stop)
    best = (model.get_best_iteration() or 0) + 1 if stop else rounds
    kind = {"binary": "Probability", "regression": "RawFormulaVal", "multiclass": "Probability"}[data.task]

    def predict(part):
        told = model.predict(pool(part, labelled=False), prediction_type=kind, ntree_end=best)
        return told[:, 1] if data.task == "binary" else told

    return best, predict


def histgb(data, given, rounds, rows, watched):
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    block = data.codes()
    # It takes at most 255 categories; columns with more are left to their codes' order.
    few = [name in data.categorical and data.x[name].cat.categories.size <= 255 for name in data.x.columns]
    settings = {"max_leaf_nodes": 31, "learning_rate": 0.1, "min_samples_leaf": 20, "l2_regularization": 1.0}
    settings |= {"max_iter": rounds, "max_depth": None, "random_state": 1, "early_stopping": False} | given
    kind = HistGradientBoostingRegressor if data.task == "regression" else HistGradientBoostingClassifier
    model = kind(categorical_features=few, **settings)
    best = rounds
    if watched:
        # Its own early stopping would watch a random part; here, as in the others, the validation rows.
        model.set_params(early_stopping=True, n_iter_no_change=watched if watched > 1 else rounds + 1, tol=0)
        model.fit(block[rows], data.y[rows], X_val=block[data.validation], y_val=data.y[data.validation])
        # The first score is that of no rounds. The rounds after the best one can only be taken off by hand.
        best = max(1, int(np.argmax(model.validation_score_))) if watched > 1 else rounds
        model._predictors = model._predictors[:best]
    else:
        model.fit(block[rows], data.y[rows])

    def predict(part):
        if data.task == "regression":
            return model.predict(block[part])
        told = model.predict_proba(block[part])
        return told[:, 1] if data.task == "binary" else told

    return best, predict


# Each fits `rounds` at most on `rows`. `watched` says how the validation rows are used: 0 not at all, 1 their loss is
# computed each round, more is the patience of early stopping. Answers with the rounds kept and with what predicts.
FITS = {"lightgbm": lightgbm, "xgboost": xgboost, "catboost": catboost, "histgb": histgb}


def threads_of(peer, threads):
    """How the peer is told its threads."""
    if peer == "histgb":
        from threadpoolctl import threadpool_limits

        # OpenMP's pool is the one that it asks.
        threadpool_limits(threads)
        return {}
    return {{"lightgbm": "num_threads", "xgboost": "nthread", "catboost": "thread_count"}[peer]: threads}


def same(peer, leaves, rate, bins):
    """The same shape of model in each peer's words."""
    return {
        "lightgbm": {"num_leaves": leaves, "learning_rate": rate, "max_bin": bins},
        "xgboost": {"max_leaves": leaves, "eta": rate, "max_bin": bins},
        # Its own shape: symmetric trees with the next power of two of leaves; grown leaf by leaf it is many times slower.
        "catboost": {"grow_policy": "SymmetricTree", "depth": leaves.bit_length(), "learning_rate": rate, "border_count": min(bins, 254)},
        "histgb": {"max_leaf_nodes": leaves, "learning_rate": rate, "max_bins": min(bins, 255)},
    }[peer]


def warm(peer):
    """Imports, so that they are not counted."""
    __import__({"histgb": "sklearn.ensemble"}.get(peer, peer))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", required=True)
    parser.add_argument("--peer", required=True, choices=PEERS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--leaves", type=int, default=63)
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--bins", type=int, default=255)
    asked = parser.parse_args()
    keep_to(asked.threads)
    warm(asked.peer)
    settings = same(asked.peer, asked.leaves, asked.rate, asked.bins) | threads_of(asked.peer, asked.threads)
    fit = FITS[asked.peer]
    with Clock() as job:
        data = Set(asked.set)
        fit(data, settings, asked.rounds, data.train, 1)
        with Clock() as last:
            _, predict = fit(data, settings, asked.rounds, data.known, 0)
        told = metrics(data.task, data.y[data.test], predict(data.test))
    answer(
        peer=asked.peer, set=asked.set, threads=asked.threads, seconds=job.seconds, cpu_seconds=job.cpu_seconds,
        fit_seconds=last.seconds, fit_cpu_seconds=last.cpu_seconds, rows=data.known.stop, metrics=told,
    )


if __name__ == "__main__":
    main()
