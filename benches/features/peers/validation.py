"""The flights contract's expectations by its peers: no nulls where they are forbidden, ranges, closed sets of categories.

Types are settled before a clock starts, for all. `broken` counts cells that break an expectation, which must agree.
"""

import argparse
import json

from common import WORK, Clock, answer


def expectations():
    """Column, least, most, categories, whether nulls are forbidden."""
    for one in json.loads((WORK / "contract.json").read_text())["column"]:
        least, most = one.get("range", (None, None))
        yield one["name"], least, most, one["categories"] if one.get("closed") else None, one.get("nulls") == "forbid"


def pandera_checks(pa):
    made = {}
    for name, least, most, categories, forbidden in expectations():
        checks = []
        if least is not None:
            checks.append(pa.Check.in_range(least, most))
        if categories:
            checks.append(pa.Check.isin(categories))
        made[name] = pa.Column(checks=checks, nullable=not forbidden)
    return made


def pandera():
    import pandas as pd
    import pandera.pandas as pa

    rows = pd.read_parquet(WORK / "flights.parquet")

    def validate():
        schema = pa.DataFrameSchema(pandera_checks(pa))
        try:
            schema.validate(rows, lazy=True)
        except pa.errors.SchemaErrors as errors:
            return len(errors.failure_cases)
        return 0

    return rows, validate


def pandera_polars():
    import pandera.polars as pa
    import polars as pl

    rows = pl.read_parquet(WORK / "flights.parquet")

    def validate():
        schema = pa.DataFrameSchema(pandera_checks(pa))
        try:
            schema.validate(rows, lazy=True)
        except pa.errors.SchemaErrors as errors:
            return len(errors.failure_cases)
        return 0

    return rows, validate


def great_expectations():
    import great_expectations as gx
    import pandas as pd
    from great_expectations import expectations as gxe

    rows = pd.read_parquet(WORK / "flights.parquet")
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    batches = context.data_sources.add_pandas("pandas").add_dataframe_asset("flights").add_batch_definition_whole_dataframe("all")

    def validate():
        suite = gx.ExpectationSuite(name="flights")
        for name, least, most, categories, forbidden in expectations():
            if forbidden:
                suite.add_expectation(gxe.ExpectColumnValuesToNotBeNull(column=name))
            if least is not None:
                suite.add_expectation(gxe.ExpectColumnValuesToBeBetween(column=name, min_value=least, max_value=most))
            if categories:
                suite.add_expectation(gxe.ExpectColumnValuesToBeInSet(column=name, value_set=categories))
        found = batches.get_batch({"dataframe": rows}).validate(suite, result_format="BASIC")
        return sum(one.result["unexpected_count"] for one in found.results)

    return rows, validate


def main():
    peers = {"pandera": pandera, "pandera-polars": pandera_polars, "great_expectations": great_expectations}
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer", required=True, choices=peers)
    rows, validate = peers[parser.parse_args().peer]()
    # The first call also loads what the library loads late.
    validate()
    with Clock() as clock:
        broken = validate()
    answer(rows=len(rows), seconds=clock.seconds, cpu_seconds=clock.cpu_seconds, broken=broken)


if __name__ == "__main__":
    main()
