"""Rows that somebody should label: those the model is unsure of, and those that look unlike the reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from sparkml.frame.run import StageRun
from sparkml.frame.schemas import LABELLING
from sparkml.stages.monitor.config import MonitorConfig

_SHOWN = ("text", "prediction", "score")


@dataclass(frozen=True)
class Wanted:
    """Windows that are new, and rows of those with an alarm that a classifier finds unlike the reference."""

    starts: tuple[datetime, ...]
    unlike: Mapping[str, float]


def queue_rows(job: StageRun, config: MonitorConfig, rows: DataFrame, wanted: Wanted) -> int:
    """Add up to `queue_rows` of each new window, half of them unsure ones; none that was queued or labelled before."""
    if not config.queue_rows or not wanted.starts or "text" not in rows.columns:
        return 0
    found = rows
    if config.columns.time is not None:
        found = found.where(F.col("start").isin([F.lit(start) for start in wanted.starts]))
    if "label" in found.columns:
        found = found.where(F.col("label").isNull())
    if job.tables.exists(config.queue):
        queued = job.tables.read(config.queue)
        # What a run has queued of these windows that died before it had judged them is chosen again.
        mine = (F.col("step") == job.step) & F.col("window_start").isin([F.lit(at) for at in wanted.starts])
        found = found.join(queued.where(~mine).select("doc_id"), "doc_id", "left_anti")
    found = found.where(F.length("text") > 0)
    shown = [name for name in _SHOWN if name in found.columns]
    chosen: dict[str, dict[str, object]] = {}
    if "score" in found.columns:
        chosen |= _unsure(found.where(F.col("score").isNotNull()), shown, -(-config.queue_rows // 2))
    unlike = sorted(wanted.unlike, key=lambda doc_id: (-wanted.unlike[doc_id], doc_id))
    most = len(wanted.starts) * config.queue_rows
    if unlike:
        named = found.where(F.col("doc_id").isin(unlike[:most])).select("start", "doc_id", *shown)
        for row in named.toArrow().to_pylist():
            how = {"reason": "drift", "priority": wanted.unlike[row["doc_id"]]}
            chosen.setdefault(row["doc_id"], {**row, **how})
    given = [_row(job, row) for row in chosen.values()]
    if given:
        job.put_rows(config.queue, given, "doc_id", LABELLING)
    return len(given)


def _unsure(rows: DataFrame, shown: list[str], most: int) -> dict[str, dict[str, object]]:
    place = F.row_number().over(Window.partitionBy("start").orderBy("score", "doc_id"))
    ranked = rows.withColumn("place", place).where(F.col("place") <= most)
    return {
        row["doc_id"]: {**row, "reason": "uncertain", "priority": 1 - row["score"]}
        for row in ranked.select("start", "doc_id", *shown).toArrow().to_pylist()
    }


def _row(job: StageRun, row: Mapping[str, object]) -> dict[str, object]:
    kept = {name: row[name] for name in ("doc_id", *_SHOWN, "reason", "priority") if name in row}
    return {**kept, "step": job.step, "window_start": row["start"], "queued_at": job.started_at}
