"""Monitor: count the windows of a table on Spark, judge them on the driver, write what was found, tell who should know.

What is written, in this order: `alerts` (a window's alarms, states of alerts), `labelling` (rows to label), `monitored`
(every signal beside its limit; it says which windows were judged), `notifications` (each message behind its sending),
and the page. A run that dies between any two is made good by the next: ids follow from what they are about.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkml.errors import InputError
from sparkml.frame import storage
from sparkml.frame.effects import effect
from sparkml.frame.registry import ModelRecord
from sparkml.frame.run import StageRun
from sparkml.frame.stage import RunReport, Stage
from sparkml.hosting.samples import kept_on_disk
from sparkml.log import get_logger
from sparkml.monitoring.alerts import Silence, advance
from sparkml.monitoring.content import area_of, scaled_area, tell_apart
from sparkml.monitoring.judging import Judge, Rules, Verdict
from sparkml.monitoring.profile import ALL_ROWS, Profile, Span, calibration
from sparkml.monitoring.statistics import effective_rows
from sparkml.monitoring.thresholds import Norm, learn
from sparkml.stages.monitor.baseline import REFERENCE_ROWS, Area, Baseline, baseline_of, spans_of
from sparkml.stages.monitor.config import MonitorConfig, seconds_of
from sparkml.stages.monitor.measures import CALIBRATION, DECILES, NO_TIME, counted, in_utc, measures_of
from sparkml.stages.monitor.messages import send_messages
from sparkml.stages.monitor.queue import Wanted, queue_rows
from sparkml.stages.monitor.rows import watched, with_text_facts
from sparkml.stages.monitor.sample import Sample, sample_of
from sparkml.stages.monitor.written import judged_before, put_events, put_verdicts

_log = get_logger(__name__)
_CONTENT = "content"
UNTOLD = "untold"


@dataclass(frozen=True)
class Windows:
    """What is judged: the rows, their counts, and a sample of them."""

    rows: DataFrame
    profile: Profile
    sample: Sample | None


def run(job: StageRun, config: MonitorConfig) -> RunReport:
    """Judge what is new, and say so."""
    model = job.model(config.model) if config.model else None
    baseline = baseline_of(job, config, model)
    windows = _windows(job, config, baseline, model)
    rules = Rules(
        config.false_alarms, config.ordered, config.unordered, config.min_rows, config.smallest_js, job.seed
    )
    judge = Judge(baseline.profile, rules, extra=int(baseline.sample is not None))
    verdicts = [_explained(one, windows.profile) for one in judge.verdicts(windows.profile)]
    content, ranks = _content(baseline, windows, judge, rules)
    verdicts = [one for one in [*verdicts, *content] if not _is_early(one, job.started_at, config)]
    before = judged_before(job, config)
    new = [one for one in verdicts if before.is_new(one)]
    silences = [Silence(one.signal, one.slice, one.until) for one in config.silences]
    events = advance(job.step, new, dict(before.open), silences)
    put_events(job, config, events)
    queued = queue_rows(job, config, windows.rows, _wanted(windows, new, ranks))
    put_verdicts(job, config, verdicts)
    untold = send_messages(job, config)
    _write_page(job, config, judge, baseline.version)
    return RunReport(
        bytes_in=job.input_bytes(config.source),
        metrics={
            "windows": float(len(windows.profile.spans)),
            "new_windows": float(len({one.span for one in new})),
            "rows": float(windows.profile.rows[ALL_ROWS].sum()),
            "alarms": float(sum(one.is_alarm for one in new)),
            "raised": float(sum(event.state == "raised" for event in events)),
            "recovered": float(sum(event.state == "recovered" for event in events)),
            "queued": float(queued),
            UNTOLD: float(untold),
        },
    )


def _windows(job: StageRun, config: MonitorConfig, baseline: Baseline, model: ModelRecord | None) -> Windows:
    """The rows behind the reference, of windows that are over."""
    rows = watched(job, config, of_reference=False, model=model)
    if config.columns.time is None:
        starts = [NO_TIME]
    else:
        starts = _starts(rows, job.started_at, config, baseline)
        last = F.lit(starts[-1]) if starts else F.lit(NO_TIME)
        rows = rows.where(F.col("start").between(F.lit(starts[0]) if starts else last, last))
    facts = kept_on_disk(with_text_facts(rows, baseline.vocabulary, languages=config.text_language))
    try:
        measures = measures_of(facts, config, is_reference=False)
        found = counted(facts, measures, baseline.profile.signals)
    finally:
        facts.unpersist()
    profile = Profile(spans_of(starts, config), baseline.profile.signals, baseline.profile.slices).fill(found)
    sizes = dict(zip(starts, profile.rows[ALL_ROWS].tolist(), strict=True))
    sample = sample_of(rows, sizes, config.sample_rows) if baseline.sample is not None else None
    if config.columns.time is None:
        # A version of the table is a window: it is known by when it was written.
        at = _written_at(job, config.source)
        profile.spans = tuple(replace(span, start=at, end=at) for span in profile.spans)
    return Windows(rows, profile, sample)


def _starts(rows: DataFrame, now: datetime, config: MonitorConfig, baseline: Baseline) -> list[datetime]:
    """The windows that are judged, those without rows between others included."""
    length = timedelta(seconds=seconds_of(config.window))
    over = now - timedelta(seconds=seconds_of(config.wait)) - length
    behind = rows.where(F.col("start") <= F.lit(over))
    if baseline.end is not None:
        behind = behind.where(F.col("start") >= F.lit(baseline.end))
    first, last = behind.agg(F.min("start"), F.max("start")).collect()[0]
    if first is None:
        return []
    first, last = in_utc(first), in_utc(last)
    if config.live:
        last += (over - last) // length * length
    first = max(first, last - (config.last_windows - 1) * length)
    return [first + at * length for at in range((last - first) // length + 1)]


def _written_at(job: StageRun, ref: str) -> datetime:
    version = job.input_version(ref)
    for commit in job.tables.log(ref).commits():
        if commit.version == version and commit.at is not None:
            return in_utc(commit.at)
    raise InputError(
        "the log does not say when a version was written", where=f"table `{ref}`, version {version}"
    )


def _is_early(verdict: Verdict, now: datetime, config: MonitorConfig) -> bool:
    """Whether labels of the window may still come."""
    return (
        verdict.kind == "performance"
        and verdict.span.end + timedelta(seconds=seconds_of(config.label_wait)) > now
    )


def _explained(verdict: Verdict, profile: Profile) -> Verdict:
    """Calibration with its figures: accuracy, mean score, expected calibration error."""
    if verdict.signal != CALIBRATION:
        return verdict
    counts = profile.counts[verdict.slice, CALIBRATION][profile.spans.index(verdict.span)]
    figures = calibration(counts, DECILES)
    said = f"accuracy {figures['accuracy']:.3f} at a mean score of {figures['mean_score']:.3f}"
    return replace(verdict, statistics={**verdict.statistics, **figures}, detail=said)


def _content(
    baseline: Baseline, windows: Windows, judge: Judge, rules: Rules
) -> tuple[list[Verdict], dict[str, float]]:
    """Whether a classifier tells the windows from the reference; and how sure it is of each row, by its key."""
    reference, sample = baseline.sample, windows.sample
    if reference is None or sample is None:
        return [], {}
    scaled = [scaled_area(*area) for area in baseline.areas]
    sizes = [effective_rows(area.rows, area.reference_rows) for area in baseline.areas]
    # Chi-square with one degree, but twice as wide: the classifiers of the two halves have seen each other's rows.
    norm = learn(scaled, sizes, mean=2.0, shape=0.5)
    found: list[Verdict] = []
    ranks: dict[str, float] = {}
    step = max(1, -(-len(reference.vectors) // REFERENCE_ROWS))
    pooled = reference.vectors[::step]
    keys = sample.doc_ids
    for number, span in enumerate(windows.profile.spans):
        mine = sample.of_window(number)
        if min(len(mine), len(pooled)) < rules.min_rows:
            continue
        told = tell_apart(mine, pooled, rules.seed)
        ranks |= dict(
            zip([keys[at] for at in (sample.windows == number).nonzero()[0]], told.ranks, strict=True)
        )
        found.append(_of_area(span, Area(told.area, len(mine), len(pooled)), norm, judge.p_limit(ALL_ROWS)))
    return found, ranks


def _of_area(span: Span, area: Area, norm: Norm, p_limit: float) -> Verdict:
    rows = float(effective_rows(area.rows, area.reference_rows))
    # Only rows that can be told apart are drift: one side of the distribution.
    half = norm.p_value(scaled_area(*area), rows) / 2
    p_value = half if area.value > 0.5 else 1 - half
    return Verdict(
        span,
        ALL_ROWS,
        _CONTENT,
        "input",
        area.rows,
        "area",
        area.value,
        area_of(norm.limit(2 * p_limit, rows), area.rows, area.reference_rows),
        p_value,
        is_alarm=p_value < p_limit,
        statistics={"area": area.value},
        detail=f"a classifier tells rows from those of the reference with an area under the curve of {area.value:.3f}",
    )


def _wanted(windows: Windows, new: list[Verdict], ranks: dict[str, float]) -> Wanted:
    """Of new windows rows that are uncertain; of those with an alarm about all rows, rows unlike the reference."""
    # What is judged later of a window, as its labels come, finds it queued.
    at_once = [one for one in new if one.kind != "performance"]
    spans = {one.span for one in at_once}
    alarmed = {one.span for one in at_once if one.is_alarm and one.slice == ALL_ROWS}
    unlike: dict[str, float] = {}
    if windows.sample is not None:
        for number, doc_id in zip(windows.sample.windows.tolist(), windows.sample.doc_ids, strict=True):
            if windows.profile.spans[number] in alarmed and doc_id in ranks:
                unlike[doc_id] = ranks[doc_id]
    return Wanted(tuple(span.start for span in windows.profile.spans if span in spans), unlike)


def _write_page(job: StageRun, config: MonitorConfig, judge: Judge, version: int) -> None:
    from sparkml.monitoring.dashboard import Shown, page  # matplotlib takes a second to import

    own = F.col("step") == job.step
    verdicts = job.tables.read(config.target).where(own)
    oldest = (
        verdicts.select("window_start").distinct().orderBy(F.desc("window_start")).limit(config.last_windows)
    )
    first = oldest.agg(F.min("window_start")).collect()[0][0]
    rows = verdicts.where(F.col("window_start") >= first).toArrow().to_pylist() if first is not None else []
    events: list[dict[str, object]] = []
    if job.tables.exists(config.alerts):
        events = (
            job.tables.read(config.alerts)
            .where(own)
            .orderBy(F.desc("window_start"))
            .limit(1000)
            .toArrow()
            .to_pylist()
        )
    place = storage.join(job.artifacts, "monitor", f"{job.step}.html")
    shown = Shown(
        job.step,
        config.source,
        f"{config.reference or config.source}@{version}",
        job.started_at,
        config.false_alarms,
        judge.tests,
        judge.learnt_windows,
    )
    storage.write_bytes(place, page(shown, rows, events).encode())
    effect("page written")
    _log.info("monitor: %s", storage.redacted(place))


def source_state(config: MonitorConfig) -> str:
    """Of a live table: the window that is the last one over, so that the step runs again when another is."""
    if not config.live:
        return ""
    return str(int((time.time() - seconds_of(config.wait)) // seconds_of(config.window)))


def again(report: RunReport) -> str:
    """Messages that could not be sent are sent with the next run."""
    return "messages could not be sent" if report.metrics.get(UNTOLD) else ""


def sections() -> tuple[object, ...]:
    """What the report says of a monitor."""
    from sparkml.report.monitored import MONITORED

    return (MONITORED,)


STAGE = Stage(
    MonitorConfig,
    run,
    "windows of a table beside a reference -> drift, alerts, rows to label",
    source_state=source_state,
    again=again,
    whole_commits=True,
    sections=sections,
)
