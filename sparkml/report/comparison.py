"""Comparison: how often two models answer differently, on which slices, and what becomes what."""

from __future__ import annotations

from typing import Any

from pyspark.sql import functions as F

from sparkml.measures.evaluation import ALL_ROWS, CHANGE
from sparkml.report import formats
from sparkml.report.section import Facts, Rows, Section
from sparkml.report.view import StepView

_COLUMNS = ("slice", "documents", "differ", "share", "score moves by", "accuracy before", "accuracy after")


def gather(view: StepView) -> Facts | None:
    """What the step's run wrote; None where it wrote nothing."""
    table = view.table("target")
    if table is None:
        return None
    rows = [row.asDict() for row in table.where(F.col("run_id") == view.run.run_id).collect()]
    every = next((row for row in rows if row["slice"] == ALL_ROWS), None)
    if every is None:
        return None
    figures = every["metrics"]
    lead = (
        f"{every['model_id']}/v{every['model_version']} answers {formats.percent(figures['flips'])} of "
        f"{every['n']:,} documents otherwise than {view.config.get('first')} "
        f"({formats.percent(figures['flips_low'])} to {formats.percent(figures['flips_high'])})."
    )
    slices = [row for row in rows if not row["slice"].startswith(CHANGE)]
    changes = sorted((row for row in rows if row not in slices), key=lambda row: (-row["n"], row["slice"]))
    slices.sort(key=lambda row: (row is not every, -row["metrics"]["flips"], row["slice"]))
    tables = [Rows("By slice, those with the most changes first", _COLUMNS, [_row(one) for one in slices])]
    if changes:
        told = [[*one["slice"].removeprefix(CHANGE).split(" > ", 1), one["n"]] for one in changes]
        tables.append(Rows("What became what", ("before", "after", "documents"), told))
    return Facts(lead=lead, tables=tables)


def _row(row: dict[str, Any]) -> list[object]:
    figures = row["metrics"]
    accuracies = [_rounded(figures.get(f"{which}_accuracy")) for which in ("first", "second")]
    change = _rounded(figures.get("score_change"))
    return [
        row["slice"],
        row["n"],
        int(figures["flipped"]),
        formats.percent(figures["flips"]),
        change,
        *accuracies,
    ]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


COMPARISON = Section("Comparison", gather)
