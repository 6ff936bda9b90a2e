"""Compression: every form of a model beside the model itself, what the gate said, and the one that was published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sparkml.frame import storage
from sparkml.report import formats
from sparkml.report.charts import Point, Scatter
from sparkml.report.lake import number
from sparkml.report.section import Facts, Rows, Section
from sparkml.report.view import StepView

REPORT_FILE = "report.json"
_COLUMNS = (
    "form", "engine", "quality", "loss (interval)", "answers that differ", "size", "memory", "p50, one document",
    "p95", "documents a second", "core seconds a 1,000", "gate",
)  # fmt: skip
_SPEED, _SIZE = "documents_per_second", "size_bytes"


def gather(view: StepView) -> Facts | None:
    """What one compression measured; None where it made no model."""
    model = view.model("model_id")
    if model is None:
        return None
    report = model.object(REPORT_FILE)
    forms = [one for one in report.get("forms") or () if isinstance(one, Mapping)]
    if not forms:
        return Facts(f"{model.name}: this version has no report of its measurements.")
    picked = next((one for one in forms if one.get("name") == report.get("picked")), forms[0])
    metric = _metric(forms)
    return Facts(
        lead=_lead(model.name, storage.redacted(model.record.parent or ""), report, forms[0], picked),
        tables=(Rows(_caption(metric, number(report, "documents")), _COLUMNS, _rows(forms, metric)),),
        charts={
            "Quality against speed; the line joins the forms that no other one beats in both": _pareto(
                forms, picked, metric
            )
        },
    )


def _metric(forms: Sequence[Mapping[str, Any]]) -> str:
    return next((str(one["gate"]["metric"]) for one in forms if one.get("gate")), "accuracy")


def _lead(
    name: str, parent: str, report: Mapping[str, Any], before: Mapping[str, Any], picked: Mapping[str, Any]
) -> str:
    smaller = formats.ratio(_figure(before, _SIZE), _figure(picked, _SIZE))
    faster = formats.ratio(_figure(picked, _SPEED), _figure(before, _SPEED))
    said = [f"{name} is {parent} after {picked.get('name')} ({report.get('why')})"]
    if smaller and faster:
        said.append(f"{smaller:.1f} times smaller and {faster:.2f} times as many documents a second")
    flips = (picked.get("gate") or {}).get("flips")
    if flips:
        said.append(f"{formats.percent(flips[0])} of the answers differ")
    return "; ".join(said) + "."


def _caption(metric: str, documents: float | None) -> str:
    on = f"{formats.count(documents)} held-out documents" if documents else "the held-out documents"
    return f"All forms on {on} and one machine; quality is {metric}, each form under the engine that runs it fastest"


def _rows(forms: Sequence[Mapping[str, Any]], metric: str) -> list[list[str]]:
    return [_row(one, metric) for one in forms]


def _row(form: Mapping[str, Any], metric: str) -> list[str]:
    gate = form.get("gate")
    floats = form.get("stayed_float") or ()
    name = f"{form.get('name')}" + (f", {len(floats)} groups of layers in float" if floats else "")
    return [
        name,
        str(form.get("engine")),
        formats.score(_figure(form, metric)),
        "{:+.2%} ({:+.2%} to {:+.2%})".format(*gate["loss"]) if gate else formats.NOTHING,
        "{:.2%} (to {:.2%})".format(gate["flips"][0], gate["flips"][2]) if gate else formats.NOTHING,
        formats.size(_figure(form, _SIZE)),
        formats.size(_figure(form, "memory_bytes")),
        _milliseconds(_figure(form, "latency_p50_ms")),
        _milliseconds(_figure(form, "latency_p95_ms")),
        formats.measured(_figure(form, _SPEED)),
        formats.measured(_figure(form, "core_seconds_per_1000")),
        (str(gate["reason"]) or "passes") if gate else "the model itself",
    ]


def _figure(form: Mapping[str, Any], name: str) -> float | None:
    return number(form.get("figures") or {}, name)


def _milliseconds(value: float | None) -> str:
    return formats.NOTHING if value is None else f"{value:.1f} ms"


def _pareto(forms: Sequence[Mapping[str, Any]], picked: Mapping[str, Any], metric: str) -> Scatter:
    points = [
        Point(str(one.get("name")), speed, value, "contrast" if one is picked else "accent")
        for one in forms
        if (speed := _figure(one, _SPEED)) is not None and (value := _figure(one, metric)) is not None
    ]
    beaten = {
        point for point in points for other in points
        if other.x >= point.x and other.y >= point.y and (other.x, other.y) != (point.x, point.y)
    }  # fmt: skip
    best = sorted({(point.x, point.y) for point in points if point not in beaten})
    return Scatter(
        points,
        best,
        "documents a second",
        metric,
        f"{metric} against documents a second of {len(points)} forms of a model",
    )


COMPRESSION = Section("Compression", gather)
