"""Compression: the int8 classifier compared with the float one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sparkml.frame import storage
from sparkml.report import formats
from sparkml.report.lake import number, part
from sparkml.report.section import Section
from sparkml.report.view import StepView

REPORT_FILE = "report.json"


@dataclass(frozen=True)
class Measure:
    """One line of the table: float, int8, and how they compare."""

    name: str
    before: str
    after: str
    change: str


@dataclass(frozen=True)
class Compression:
    """Everything the section shows."""

    model: str
    parent: str
    measures: tuple[Measure, ...]
    flipped: float | None
    documents: float | None
    largest_difference: float | None  # of a score
    smaller: float | None  # times
    faster: float | None  # times


def _difference(before: float, after: float) -> str:
    shown = f"{after - before:+.3f}".replace("-", "−")
    return "0.000" if shown[1:] == "0.000" else shown


def _times(before: float, after: float) -> str:
    return f"× {after / before:.2f}" if before else formats.NOTHING


def _milliseconds(value: float | None) -> str:
    return formats.NOTHING if value is None else f"{value:.1f} ms"


_Line = tuple[str, str, Callable[[float | None], str], Callable[[float, float], str]]
_SPEED, _SIZE = "documents_per_second", "size_bytes"
_LINES: tuple[_Line, ...] = (
    ("accuracy", "accuracy", formats.score, _difference),
    ("macro F1", "macro_f1", formats.score, _difference),
    ("size", _SIZE, formats.size, _times),
    ("latency p50, one document", "latency_p50_ms", _milliseconds, _times),
    ("latency p95, one document", "latency_p95_ms", _milliseconds, _times),
    ("documents a second", _SPEED, formats.measured, _times),
)


def gather(view: StepView) -> Compression | None:
    """What one compression measured; None where it made no model."""
    model = view.model("model_id")
    if model is None:
        return None
    report, metrics = model.object(REPORT_FILE), model.record.metrics
    before = part(report, "float32")
    after = {**metrics, **part(report, "int8")}
    measures = [
        Measure(
            name,
            show(old),
            show(new),
            change(old, new) if old is not None and new is not None else formats.NOTHING,
        )
        for name, key, show, change in _LINES
        for old, new in ((number(before, key), number(after, key)),)
        if old is not None or new is not None
    ]
    return Compression(
        model.name,
        storage.redacted(model.record.parent or ""),
        tuple(measures),
        number({**metrics, **report}, "flipped"),
        number(report, "documents"),
        number(report, "largest_score_difference"),
        formats.ratio(number(before, _SIZE), number(after, _SIZE)),
        formats.ratio(number(after, _SPEED), number(before, _SPEED)),
    )


COMPRESSION = Section("Compression", gather, template="compression")
