"""Rejected documents: reasons per stage, measured values against their thresholds, examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from sparkml.report.config import ReportConfig
from sparkml.report.formats import excerpt, ratio
from sparkml.report.lake import Excerpt, Lake
from sparkml.report.stages import ORDER


@dataclass(frozen=True)
class Example:
    """A rejected document: its measured value and the beginning of its text as it was read."""

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
    share: float  # of the documents that the stage read
    bar: float  # of the stage's most frequent reason
    median: float | None
    low: float | None
    high: float | None
    thresholds: tuple[float, ...]
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class StageRejects:
    """The rejects of one stage."""

    stage: str
    documents: int
    rows_in: int | None
    reasons: tuple[Reason, ...]
    more: int  # reasons that are not shown


@dataclass(frozen=True)
class Rejects:
    """All rejects, in the order of the stages."""

    documents: int
    stages: tuple[StageRejects, ...]


def gather(lake: Lake, config: ReportConfig) -> Rejects | None:
    """None where no stage has written rejects yet."""
    rejects = lake.table(config.rejects)
    if rejects is None:
        return None
    reasons = _reasons(rejects)
    shown = [row for row in reasons if row["rank"] <= config.reasons_per_stage]
    examples = _examples(rejects, shown, config)
    texts = lake.documents(config.bronze, (row["doc_id"] for row in examples), 3 * config.excerpt_characters)
    by_reason: dict[tuple[str, str], list[Example]] = {}
    for row in examples:
        found = _example(row, texts.get(row["doc_id"]), config.excerpt_characters)
        by_reason.setdefault((row["stage"], row["drop_reason"]), []).append(found)
    names = [name for name in ORDER if any(row["stage"] == name for row in reasons)]
    names += sorted({row["stage"] for row in reasons} - set(names))
    stages = tuple(_stage(lake, name, reasons, by_reason, config) for name in names)
    return Rejects(sum(stage.documents for stage in stages), stages)


def _reasons(rejects: DataFrame) -> list[dict[str, Any]]:
    """One row a stage and reason, the most frequent first: as few as there are rules."""
    quantiles = F.percentile_approx("value", [0.05, 0.5, 0.95], 1000).alias("quantiles")
    grouped = rejects.groupBy("stage", "drop_reason").agg(
        F.count(F.lit(1)).alias("documents"),
        quantiles,
        F.slice(F.sort_array(F.collect_set("threshold")), 1, 4).alias("thresholds"),
    )
    rows = [row.asDict() for row in grouped.collect()]
    rows.sort(key=lambda row: (row["stage"], -row["documents"], row["drop_reason"] or ""))
    ranks: dict[str, int] = {}
    for row in rows:
        row["rank"] = ranks[row["stage"]] = ranks.get(row["stage"], 0) + 1
    return rows


def _examples(rejects: DataFrame, shown: list[dict[str, Any]], config: ReportConfig) -> list[dict[str, Any]]:
    """The first documents of every shown reason in the order of a hash: the same ones on every run."""
    if not shown or not config.examples_per_reason:
        return []
    order = Window.partitionBy("stage", "drop_reason").orderBy(F.xxhash64("doc_id"), "doc_id")
    ranked = rejects.withColumn("_rank", F.row_number().over(order))
    few = ranked.where(F.col("_rank") <= config.examples_per_reason).drop("run_id")
    wanted = {(row["stage"], row["drop_reason"]) for row in shown}
    rows = [row.asDict() for row in few.collect()]  # bounded: rules x examples
    rows.sort(key=lambda row: row["_rank"])
    return [row for row in rows if (row["stage"], row["drop_reason"]) in wanted]


def _example(row: Mapping[str, Any], document: Excerpt | None, characters: int) -> Example:
    source = row["source"] or (document.source if document else "") or ""
    place = f"{source}#{row['locator']}" if source and row["locator"] else source
    return Example(
        row["doc_id"],
        document.name if document else source.rsplit("/", 1)[-1] or row["doc_id"],
        place,
        row["value"],
        row["threshold"],
        excerpt(row["detail"], characters),
        excerpt(document.text, characters) if document else "",
    )


def _stage(
    lake: Lake,
    name: str,
    reasons: list[dict[str, Any]],
    examples: Mapping[tuple[str, str], list[Example]],
    config: ReportConfig,
) -> StageRejects:
    mine = [row for row in reasons if row["stage"] == name]
    rows_in = (lake.last_succeeded(name) or {}).get("rows_in")
    total = sum(row["documents"] for row in mine)
    found = []
    for row in mine[: config.reasons_per_stage]:
        low, median, high = row["quantiles"] or (None, None, None)
        found.append(
            Reason(
                row["drop_reason"] or "(no reason)",
                row["documents"],
                ratio(row["documents"], rows_in or total) or 0.0,
                row["documents"] / mine[0]["documents"],
                median,
                low,
                high,
                tuple(row["thresholds"] or ()),
                tuple(examples.get((name, row["drop_reason"]), ())),
            )
        )
    return StageRejects(name, total, rows_in, tuple(found), len(mine) - len(found))
