"""Rejected documents: reasons by step, measured values against their thresholds, examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from sparkml.frame import storage
from sparkml.frame.pipeline import MODEL_MARK
from sparkml.frame.schemas import REJECTS
from sparkml.report.config import ReportConfig
from sparkml.report.formats import cell, excerpt, ratio
from sparkml.report.lake import Excerpt, Lake, Place
from sparkml.report.view import StepView


@dataclass(frozen=True)
class Example:
    """A rejected document: its measured value and the beginning of its text as the step read it."""

    doc_id: str
    name: str
    source: str
    value: float | None
    threshold: float | None
    detail: str
    text: str


@dataclass(frozen=True)
class Reason:
    """One drop reason: documents, the middle of what was measured, the threshold."""

    name: str
    documents: int
    share: float  # of the documents that the step read
    bar: float  # of the step's most frequent reason
    median: float | None
    low: float | None
    high: float | None
    thresholds: tuple[float, ...]
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class StepRejects:
    """The rejects of one step."""

    step: str
    stage: str
    documents: int
    rows_in: int | None
    reasons: tuple[Reason, ...]
    more: int  # reasons that are not shown


@dataclass(frozen=True)
class Rejects:
    """All rejects, in the order of the steps."""

    documents: int
    steps: tuple[StepRejects, ...]


def gather(lake: Lake, views: Sequence[StepView]) -> Rejects | None:
    """None where no step has written rejects yet."""
    limits = lake.limits
    places = {view.step: place for view in views if (place := _table_of_rejects(lake, view))}
    if not places:
        return None
    # A step whose account says that it rejected nothing has nothing in the table.
    rejecting = [view for view in views if view.step in places and view.run.rows_rejected != 0]
    if not rejecting:
        return Rejects(0, ())
    rejects = reduce(DataFrame.unionByName, (_rows(lake, view.step, places[view.step]) for view in rejecting))
    reasons = _reasons(rejects)
    shown = [row for row in reasons if row["rank"] <= limits.reasons_per_step]
    examples = _with_texts(lake, rejecting, _examples(rejects, shown, limits), limits)
    found = [_step(view, reasons, examples, limits) for view in rejecting]
    steps = tuple(step for step in found if step.documents)
    return Rejects(sum(step.documents for step in steps), steps)


def _table_of_rejects(lake: Lake, view: StepView) -> Place | None:
    """The table that the step shares with others and that names reasons."""
    for ref, version in view.run.outputs.items():
        place = Place(ref, version)
        may_be = ref in view.shared or (view.stage is None and not ref.startswith(MODEL_MARK))
        if may_be and lake.has_columns(place, "step", "doc_id", "drop_reason"):
            return place
    return None


def _rows(lake: Lake, step: str, place: Place) -> DataFrame:
    rows = lake.table(place).where(F.col("step") == step)
    return rows.select(*(name for name in REJECTS.names if name != "run_id"))


def _reasons(rejects: DataFrame) -> list[dict[str, Any]]:
    """One row for each step and reason, the most frequent first: no more than there are rules."""
    quantiles = F.percentile_approx("value", [0.05, 0.5, 0.95], 1000).alias("quantiles")
    grouped = rejects.groupBy("step", "drop_reason").agg(
        F.count(F.lit(1)).alias("documents"),
        quantiles,
        F.slice(F.sort_array(F.collect_set("threshold")), 1, 4).alias("thresholds"),
    )
    rows = [row.asDict() for row in grouped.collect()]
    rows.sort(key=lambda row: (row["step"], -row["documents"], row["drop_reason"] or ""))
    ranks: dict[str, int] = {}
    for row in rows:
        row["rank"] = ranks[row["step"]] = ranks.get(row["step"], 0) + 1
    return rows


def _examples(rejects: DataFrame, shown: list[dict[str, Any]], limits: ReportConfig) -> list[dict[str, Any]]:
    """The first documents of every shown reason in the order of a hash: the same ones on every run."""
    if not shown or not limits.examples_per_reason:
        return []
    order = Window.partitionBy("step", "drop_reason").orderBy(F.xxhash64("doc_id"), "doc_id")
    few = rejects.withColumn("_rank", F.row_number().over(order)).where(
        F.col("_rank") <= limits.examples_per_reason
    )
    wanted = {(row["step"], row["drop_reason"]) for row in shown}
    rows = [row.asDict() for row in few.collect()]  # bounded: rules x examples
    rows.sort(key=lambda row: row["_rank"])
    return [row for row in rows if (row["step"], row["drop_reason"]) in wanted]


def _with_texts(
    lake: Lake, views: Sequence[StepView], rows: list[dict[str, Any]], limits: ReportConfig
) -> dict[tuple[str, str], list[Example]]:
    """Examples by step and reason, each with its text from the table that its step read."""
    sources = {view.step: place for view in views if (place := _source(lake, view))}
    wanted: dict[Place, set[str]] = {}
    for row in rows:
        if row["step"] in sources and row["doc_id"] is not None:
            wanted.setdefault(sources[row["step"]], set()).add(row["doc_id"])
    texts = lake.documents(wanted, 3 * limits.excerpt_characters)
    found: dict[tuple[str, str], list[Example]] = {}
    for row in rows:
        place = sources.get(row["step"])
        document = texts.get(place, {}).get(row["doc_id"]) if place is not None else None
        example = _example(row, document, limits.excerpt_characters)
        found.setdefault((row["step"], row["drop_reason"]), []).append(example)
    return found


def _source(lake: Lake, view: StepView) -> Place | None:
    return next((place for place in view.tables_in if lake.has_columns(place, "doc_id", "text")), None)


def _example(row: Mapping[str, Any], document: Excerpt | None, characters: int) -> Example:
    source = storage.redacted(row["source"] or (document.source if document else "") or "")
    place = f"{source}#{row['locator']}" if source and row["locator"] else source
    return Example(
        row["doc_id"] or "",
        document.name if document else source.rsplit("/", 1)[-1] or row["doc_id"] or "",
        place,
        row["value"],
        row["threshold"],
        cell(row["detail"] or "", characters),
        excerpt(document.text, characters) if document else "",
    )


def _step(
    view: StepView,
    reasons: list[dict[str, Any]],
    examples: Mapping[tuple[str, str], list[Example]],
    limits: ReportConfig,
) -> StepRejects:
    mine = [row for row in reasons if row["step"] == view.step]
    total = sum(row["documents"] for row in mine)
    found = []
    for row in mine[: limits.reasons_per_step]:
        low, median, high = row["quantiles"] or (None, None, None)
        found.append(
            Reason(
                row["drop_reason"] or "(no reason)",
                row["documents"],
                ratio(row["documents"], view.run.rows_in or total) or 0.0,
                row["documents"] / mine[0]["documents"],
                median,
                low,
                high,
                tuple(row["thresholds"] or ()),
                tuple(examples.get((view.step, row["drop_reason"]), ())),
            )
        )
    return StepRejects(
        view.step, view.run.stage, total, view.run.rows_in, tuple(found), len(mine) - len(found)
    )
