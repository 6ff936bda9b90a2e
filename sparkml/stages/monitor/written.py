"""What the stage has written, and writes: verdicts, and the events of alerts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby

from pyspark.sql import functions as F

from sparkml.frame.run import StageRun
from sparkml.frame.schemas import ALERTS, MONITORED, without_run
from sparkml.frame.tables import arrow_rows
from sparkml.monitoring.alerts import Event, Key, OpenAlert
from sparkml.monitoring.judging import Verdict
from sparkml.stages.monitor.config import MonitorConfig
from sparkml.stages.monitor.measures import in_utc


@dataclass(frozen=True)
class Judged:
    """What earlier runs have judged: the last window of each slice and signal, and alerts whose cause lasted then."""

    until: Mapping[Key, datetime] = field(default_factory=dict)
    open: Mapping[Key, OpenAlert] = field(default_factory=dict)

    def is_new(self, verdict: Verdict) -> bool:
        """Whether nobody has heard of this verdict."""
        last = self.until.get((verdict.slice, verdict.signal))
        return last is None or verdict.span.start > last


def judged_before(job: StageRun, config: MonitorConfig) -> Judged:
    """From the rows of this step. Events of windows that a run had not judged yet when it died do not count."""
    if not job.tables.exists(config.target):
        return Judged()
    rows = job.tables.read(config.target).where(F.col("step") == job.step)
    last = rows.groupBy("slice", "signal").agg(F.max("window_start").alias("until"))
    until = {(row["slice"], row["signal"]): in_utc(row["until"]) for row in last.collect()}
    if not job.tables.exists(config.alerts):
        return Judged(until)
    events = job.tables.read(config.alerts).where(F.col("step") == job.step).join(last, ["slice", "signal"])
    newest = (
        events.where(F.col("window_start") <= F.col("until"))
        .groupBy("slice", "signal")
        .agg(F.max_by(F.struct("alert_id", "state"), "window_start").alias("event"))
        .where("event.state <> 'recovered'")
    )
    return Judged(
        until, {(row["slice"], row["signal"]): OpenAlert(*row["event"]) for row in newest.collect()}
    )


def put_events(job: StageRun, config: MonitorConfig, events: Sequence[Event]) -> None:
    """Add events; those of a window that are told make one message."""
    rows = []
    for _, same in groupby(events, key=lambda event: event.verdict.span):
        window = list(same)
        told = sorted(event.event_id for event in window if event.state in config.tell)
        message = hashlib.sha256("".join(told).encode()).hexdigest()[:32] if told else None
        rows += [_event_row(job, event, message if event.event_id in told else None) for event in window]
    if rows:
        job.put_rows(config.alerts, rows, "event_id", ALERTS)


def _event_row(job: StageRun, event: Event, message: str | None) -> dict[str, object]:
    verdict = event.verdict
    return {
        "event_id": event.event_id,
        "alert_id": event.alert_id,
        "step": job.step,
        "slice": verdict.slice,
        "signal": verdict.signal,
        "state": event.state,
        "window_start": verdict.span.start,
        "window_end": verdict.span.end,
        "value": verdict.value,
        "threshold": verdict.limit,
        "p_value": verdict.p_value,
        "detail": verdict.detail,
        "message": message,
        "found_at": job.started_at,
    }


def put_verdicts(job: StageRun, config: MonitorConfig, verdicts: Sequence[Verdict]) -> None:
    """The verdicts of this run take the place of earlier ones of the same windows; those of older windows stay."""
    table = arrow_rows(without_run(MONITORED), [_verdict_row(job.step, verdict) for verdict in verdicts])
    fresh = job.spark.createDataFrame(table).withColumn("run_id", F.lit(job.run_id))
    rows = fresh
    if job.tables.exists(config.target):
        before = job.tables.read(config.target).where(F.col("step") == job.step)
        starts = sorted({verdict.span.start for verdict in verdicts})
        stays = (
            before.where(~F.col("window_start").isin([F.lit(start) for start in starts]))
            if starts
            else before
        )
        rows = stays.unionByName(fresh, allowMissingColumns=True)
    job.replace_slice(rows, config.target, {"step": job.step}, marked=True)


def _verdict_row(step: str, verdict: Verdict) -> dict[str, object]:
    return {
        "step": step,
        "window_start": verdict.span.start,
        "window_end": verdict.span.end,
        "slice": verdict.slice,
        "signal": verdict.signal,
        "kind": verdict.kind,
        "n": verdict.rows,
        "statistic": verdict.statistic,
        "value": verdict.value,
        "threshold": verdict.limit,
        "p_value": verdict.p_value,
        "alarm": verdict.is_alarm,
        "statistics": sorted(verdict.statistics.items()),
        "detail": verdict.detail,
    }
