"""Neighbours: how near the nearest ones are, and some of them."""

from __future__ import annotations

from pyspark.sql import functions as F

from sparkml.report import formats
from sparkml.report.section import Facts, Rows, Section
from sparkml.report.view import StepView

_NEAREST, _FARTHEST = 10, 10


def gather(view: StepView) -> Facts | None:
    """What the step's run wrote; None where it wrote nothing."""
    table = view.table("target")
    if table is None:
        return None
    mine = table.where(F.col("run_id") == view.run.run_id)
    first = mine.where(F.col("rank") == 1)
    quantiles = first.agg(F.percentile("similarity", F.array(*map(F.lit, (0.05, 0.5, 0.95))))).collect()[0][0]
    if quantiles is None:
        return Facts(lead="No query has a neighbour.")
    metrics = view.run.metrics
    low, middle, high = (f"{value:.3f}" for value in quantiles)
    answered, queries, corpus = (
        formats.count(metrics.get(name)) for name in ("answered", "queries", "corpus")
    )
    lead = (
        f"{answered} of {queries} queries have a neighbour among {corpus}; the nearest one has a cosine of {low} to"
        f" {high} for 90 % of them, and of more than {middle} for half of them."
    )
    ordered = first.select("doc_id", "neighbour_id", "similarity")
    tables = [
        Rows(title, ("query", "nearest", "similarity"), [_row(*row) for row in rows])
        for title, rows in (
            ("The nearest pairs", ordered.orderBy(F.desc("similarity"), "doc_id").limit(_NEAREST).collect()),
            (
                "The queries that are farthest from all",
                ordered.orderBy("similarity", "doc_id").limit(_FARTHEST).collect(),
            ),
        )
    ]
    return Facts(lead=lead, tables=tables)


def _row(query: str, nearest: str, similarity: float) -> list[object]:
    return [query, nearest, round(similarity, 4)]


NEIGHBOURS = Section("Neighbours", gather)
