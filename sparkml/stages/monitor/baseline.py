"""The reference, measured once and kept: bins, slices, vocabulary, counts by window, a sample of its rows."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkml.errors import InputError
from sparkml.frame import storage
from sparkml.frame.effects import effect
from sparkml.frame.fingerprint import digest
from sparkml.frame.registry import ModelRecord
from sparkml.frame.run import StageRun
from sparkml.hosting.samples import kept_on_disk
from sparkml.monitoring.content import tell_apart
from sparkml.monitoring.profile import Profile, Signal, Span
from sparkml.stages.monitor.config import MonitorConfig, seconds_of
from sparkml.stages.monitor.measures import counted, in_utc, measures_of, signals_of, slices_of
from sparkml.stages.monitor.rows import TEACHES_WORDS, Bits, vocabulary_of, watched, with_text_facts
from sparkml.stages.monitor.sample import Sample, sample_of

# Another one where what is kept of a reference, or how it is measured, is not what it was.
_FORM = 1
REFERENCE_ROWS = 1_000  # that a classifier sees beside a window
# What decides what a reference is; all else is asked of it.
_FIELDS = (
    *("source", "query", "reference", "reference_query", "reference_rows", "scores", "columns", "numbers"),
    *("categories", "slices", "text_language", "window", "max_values", "sample_rows", "labels", "min_rows"),
)


class Area(NamedTuple):
    """How well a classifier tells so many rows of a window from so many of the reference."""

    value: float
    rows: int
    reference_rows: int


@dataclass(frozen=True)
class Baseline:
    """A reference. `end`: where the windows begin that are judged; None: they have no time."""

    profile: Profile
    vocabulary: Bits | None
    sample: Sample | None
    areas: tuple[Area, ...]
    end: datetime | None
    version: int


def baseline_of(job: StageRun, config: MonitorConfig, model: ModelRecord | None) -> Baseline:
    """The reference as it was when it was first measured, else measured now."""
    chosen = config.model_dump(mode="json", include=set(_FIELDS))
    of_model = f"{model.model_id}/v{model.version}" if model else None
    name = f"{job.step}-{digest({'config': chosen, 'model': of_model, 'form': _FORM})}.npz"
    place = storage.join(job.artifacts, "monitor", name)
    if storage.exists(place):
        return _read(storage.read_bytes(place))
    found = _measured(job, config, model)
    storage.write_bytes(place, _written(found))
    effect(f"reference written: {place}")
    return found


def _measured(job: StageRun, config: MonitorConfig, model: ModelRecord | None) -> Baseline:
    rows = watched(job, config, of_reference=True, model=model)
    rows, end = _of_reference(rows, config)
    has_text = "text" in rows.columns
    vocabulary = vocabulary_of(rows.where(TEACHES_WORDS)) if has_text else None
    facts = kept_on_disk(with_text_facts(rows, vocabulary, languages=config.text_language))
    try:
        measures = measures_of(facts, config, is_reference=True)
        slices = slices_of(facts, config.max_values)
        if not slices:
            raise InputError("the reference has no rows", where=f"step `{job.step}`")
        signals = signals_of(facts, measures, config.max_values)
        found = counted(facts, measures, signals)
    finally:
        facts.unpersist()
    starts = sorted({row[0] for row in found})
    profile = Profile(spans_of(starts, config), signals, slices).fill(found)
    sizes = dict(zip(starts, profile.rows[slices[0]].tolist(), strict=True))
    sample = sample_of(rows, sizes, config.sample_rows)
    ref = config.reference or config.source
    pinned = config.reference_rows.version
    areas = _areas(sample, len(starts), config.min_rows, job.seed) if sample is not None else ()
    version = job.input_version(ref) if pinned is None else pinned
    return Baseline(profile, vocabulary, sample, areas, end, version)


def _areas(sample: Sample, windows: int, min_rows: int, seed: int) -> tuple[Area, ...]:
    """How well each window of the reference can be told from the others."""
    found = []
    for number in range(windows) if windows > 1 else ():
        mine, others = sample.of_window(number), sample.beside(number)[:REFERENCE_ROWS]
        if min(len(mine), len(others)) >= min_rows:
            found.append(Area(tell_apart(mine, others, seed).area, len(mine), len(others)))
    return tuple(found)


def _of_reference(rows: DataFrame, config: MonitorConfig) -> tuple[DataFrame, datetime | None]:
    """The rows of the reference's time, and where it ends; another table's rows all count where no time is named."""
    if config.columns.time is None:
        return rows, None
    asked = config.reference_rows
    if asked.start is not None:
        rows = rows.where(F.col("at") >= F.lit(asked.start))
    if asked.end is not None:
        return rows.where(F.col("at") < F.lit(asked.end)), asked.end
    if config.reference is not None:
        return rows, None
    first = rows.agg(F.min("start")).collect()[0][0]
    if first is None:
        raise InputError("no row has a time", where=f"columns.time = {config.columns.time}")
    end = in_utc(first) + asked.windows * timedelta(seconds=seconds_of(config.window))
    return rows.where(F.col("at") < F.lit(end)), end


def spans_of(starts: Sequence[datetime], config: MonitorConfig) -> list[Span]:
    """The windows that begin then."""
    length = timedelta(seconds=seconds_of(config.window))
    return [Span(start, start + length) for start in starts]


def _written(baseline: Baseline) -> bytes:
    profile = baseline.profile
    about = {
        "spans": [[span.start.isoformat(), span.end.isoformat()] for span in profile.spans],
        "signals": [asdict(signal) for signal in profile.signals],
        "slices": profile.slices,
        "end": baseline.end.isoformat() if baseline.end else None,
        "version": baseline.version,
        "areas": baseline.areas,
    }
    arrays: dict[str, Any] = {"about": np.frombuffer(json.dumps(about).encode(), np.uint8)}
    for at, name in enumerate(profile.slices):
        arrays[f"rows-{at}"] = profile.rows[name]
        for number, signal in enumerate(profile.signals):
            arrays[f"counts-{at}-{number}"] = profile.counts[name, signal.name]
    if baseline.vocabulary is not None:
        arrays["vocabulary"] = baseline.vocabulary
    if baseline.sample is not None:
        arrays["sample"], arrays["sample_windows"] = baseline.sample.vectors, baseline.sample.windows
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def _read(content: bytes) -> Baseline:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        about = json.loads(arrays["about"].tobytes())
        spans = [Span(*(datetime.fromisoformat(moment) for moment in pair)) for pair in about["spans"]]
        signals = [_signal(one) for one in about["signals"]]
        profile = Profile(spans, signals, about["slices"])
        for at, name in enumerate(profile.slices):
            profile.rows[name] = arrays[f"rows-{at}"]
            for number, signal in enumerate(signals):
                profile.counts[name, signal.name] = arrays[f"counts-{at}-{number}"]
        has_sample = "sample" in arrays
        return Baseline(
            profile,
            arrays.get("vocabulary"),
            Sample(arrays["sample"], arrays["sample_windows"]) if has_sample else None,
            tuple(Area(*area) for area in about["areas"]),
            datetime.fromisoformat(about["end"]) if about["end"] else None,
            about["version"],
        )


def _signal(one: Mapping[str, Any]) -> Signal:
    edges = None if one["edges"] is None else tuple(one["edges"])
    return Signal(one["name"], one["kind"], edges, tuple(one["values"]))
