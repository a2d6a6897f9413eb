"""The flights model's inputs as scikit-learn's and Polars' users make them, for trees and for a linear model.

trees:  numbers as they are, codes of carrier and origin, the smoothed mean of the target by destination, the weekday.
linear: numbers standardised, with a flag where they are missing and a bin of 16 by quantiles; categories and weekday one-hot.

Homeostat hashes the bins and categories of the linear recipe into slots instead; one-hot columns are what scikit-learn's
users take. Polars has no such object as a fitted pipeline: what follows keeps its statistics in Python. Rows are in memory
before a clock starts; --task single transforms rows by themselves.
"""

import argparse

import numpy as np

from common import WORK, Clock, answer, columns

SMOOTHING = 20.0
BINS = 16
SINGLES = 200


def sklearn(recipe):
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, KBinsDiscretizer, OneHotEncoder, OrdinalEncoder, StandardScaler, TargetEncoder

    numbers, texts, instant, zone = columns()
    rows = pd.read_parquet(WORK / "flights.parquet")
    target = rows["late"].to_numpy()
    rows = rows[[*numbers, *texts, instant]]
    rows = rows.astype({name: "float64" for name in numbers}).astype({name: object for name in texts})

    def weekday(frame):
        return frame[instant].dt.tz_convert(zone).dt.dayofweek.to_numpy().reshape(-1, 1)

    days = FunctionTransformer(weekday)
    if recipe == "trees":
        few = [name for name in texts if name != "dest"]
        codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=99, dtype=np.float32)
        parts = [("numbers", "passthrough", numbers), ("codes", codes, few), ("days", days, [instant]),
                 ("means", TargetEncoder(target_type="binary", smooth=SMOOTHING), ["dest"])]
    else:
        scaled = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
        bins = make_pipeline(SimpleImputer(), KBinsDiscretizer(BINS, encode="onehot", strategy="quantile", quantile_method="averaged_inverted_cdf"))
        hot = OneHotEncoder(handle_unknown="ignore")
        parts = [("numbers", scaled, numbers), ("bins", bins, numbers), ("texts", hot, texts),
                 ("days", make_pipeline(days, OneHotEncoder(handle_unknown="ignore")), [instant])]
    made = ColumnTransformer(parts)
    return rows, (lambda: made.fit(rows, target)), made.transform, lambda place: rows.iloc[place:place + 1]


class Polars:
    def __init__(self, recipe):
        import polars as pl

        self.pl, self.recipe = pl, recipe
        self.numbers, self.texts, self.instant, self.zone = columns()
        self.rows = pl.read_parquet(WORK / "flights.parquet")

    def fit(self):
        pl = self.pl
        self.kinds = {name: self.rows[name].drop_nulls().unique().sort().to_list() for name in self.texts}
        if self.recipe == "trees":
            prior = self.rows["late"].mean()
            mean = (pl.col("late").sum() + SMOOTHING * prior) / (pl.len() + SMOOTHING)
            self.means = dict(self.rows.group_by("dest").agg(mean.alias("mean")).iter_rows())
            self.prior = prior
            return
        cuts = [pl.col(name).quantile(part / BINS, "lower").alias(f"{name}:{part}") for name in self.numbers for part in range(1, BINS)]
        figures = [pl.col(name).mean().alias(f"{name}:mean") for name in self.numbers]
        figures += [pl.col(name).std(ddof=0).alias(f"{name}:scale") for name in self.numbers]
        self.figures = self.rows.select(*figures, *cuts).row(0, named=True)

    def transform(self, rows):
        pl = self.pl
        day = pl.col(self.instant).dt.convert_time_zone(self.zone).dt.weekday() - 1
        code = {name: {kind: place for place, kind in enumerate(kinds)} for name, kinds in self.kinds.items()}
        if self.recipe == "trees":
            few = [name for name in self.texts if name != "dest"]
            codes = [pl.col(name).replace_strict(code[name], default=99, return_dtype=pl.Float32) for name in few]
            mean = pl.col("dest").replace_strict(self.means, default=self.prior, return_dtype=pl.Float32)
            return rows.select(*(pl.col(name).cast(pl.Float32) for name in self.numbers), *codes, mean, day.cast(pl.Float32).alias("day"))
        made = []
        for name in self.numbers:
            mean, scale = self.figures[f"{name}:mean"], self.figures[f"{name}:scale"] or 1.0
            cuts = sorted({self.figures[f"{name}:{part}"] for part in range(1, BINS)})
            one = pl.col(name)
            made.append(((one - mean) / scale).fill_null(0.0).cast(pl.Float32))
            made.append(one.is_null().cast(pl.Float32).alias(f"{name}:missing"))
            made.append(pl.lit(pl.Series("cuts", cuts)).search_sorted(one).cast(pl.UInt32).alias(f"{name}:bin"))
        made += [pl.col(name).replace_strict(code[name], default=len(code[name]), return_dtype=pl.UInt32) for name in self.texts]
        return rows.select(*made, day.cast(pl.UInt32).alias("day"))


def polars(recipe):
    made = Polars(recipe)
    return made.rows, made.fit, made.transform, lambda place: made.rows.slice(place, 1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer", required=True, choices=["scikit-learn", "polars"])
    parser.add_argument("--recipe", required=True, choices=["trees", "linear"])
    parser.add_argument("--task", required=True, choices=["fit", "transform"])
    asked = parser.parse_args()
    rows, fit, transform, one = {"scikit-learn": sklearn, "polars": polars}[asked.peer](asked.recipe)
    with Clock() as fitted:
        fit()
    told = {"rows": len(rows), "seconds": fitted.seconds, "cpu_seconds": fitted.cpu_seconds}
    if asked.task == "transform":
        with Clock() as whole:
            transform(rows)
        told["seconds"], told["cpu_seconds"] = whole.seconds, whole.cpu_seconds
        singles = [one(place) for place in range(SINGLES)]
        micros = []
        for single in singles:
            with Clock() as clock:
                transform(single)
            micros.append(clock.seconds * 1e6)
        micros.sort()
        told["single_us_p50"], told["single_us_p99"] = micros[SINGLES // 2], micros[SINGLES * 99 // 100]
    answer(**told)


if __name__ == "__main__":
    main()
