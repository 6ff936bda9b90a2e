"""Fine-tuning: the classifier from pretrained weights compared with the same network from random ones.

Reads `report.json` and `curve.jsonl` of the model, as the stage finetune writes them. A key that is missing leaves a
gap on the page, never an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sparkml.frame import storage
from sparkml.report import formats
from sparkml.report.charts import Chart, Confusion, Curve, Lines
from sparkml.report.lake import number, numbers, objects, part
from sparkml.report.section import KeyFigure, Section
from sparkml.report.training import CURVE_FILE, Points
from sparkml.report.view import StepView

REPORT_FILE = "report.json"
PRETRAINED, RANDOM = "pretrained", "random"
_LABELS_SHOWN = 40
_MATRIX_LABELS = 20  # more cannot be read


@dataclass(frozen=True)
class LabelResult:
    """Precision, recall and F1 of one label, from pretrained weights and (F1) from random ones."""

    label: str
    precision: float | None
    recall: float | None
    f1: float | None
    random_f1: float | None
    support: float | None


@dataclass(frozen=True)
class Start:
    """Results on held-out documents from one kind of starting weights; both curves are over steps."""

    accuracy: float | None
    macro_f1: float | None
    loss: Points
    held_out_accuracy: Points


@dataclass(frozen=True)
class Finetuning:
    """Everything the section shows. What the model folder does not hold is empty."""

    model: str
    parent: str
    pretrained: Start
    random: Start | None
    labels: tuple[LabelResult, ...]
    more_labels: int
    documents: float | None  # held out
    train_documents: float | None
    matrix_labels: tuple[str, ...]
    matrix: tuple[tuple[float, ...], ...]
    majority: float | None  # accuracy of always predicting the most frequent label


def gather(view: StepView) -> Finetuning | None:
    """The results of one fine-tuning; None where it made no model."""
    model = view.model("model_id")
    if model is None:
        return None
    report, curve = model.object(REPORT_FILE), model.lines(CURVE_FILE)
    pretrained, random = part(report, PRETRAINED), part(report, RANDOM)
    labels = _labels(pretrained, random)
    supports = [one.support for one in labels if one.support is not None]
    matrix_labels, matrix = confusion_of(pretrained, [one.label for one in labels])
    return Finetuning(
        model.name,
        storage.redacted(model.record.parent or ""),
        _start(PRETRAINED, {**model.record.metrics, **pretrained}, curve),
        _start(RANDOM, random, curve) if random else None,
        tuple(labels[:_LABELS_SHOWN]),
        max(0, len(labels) - _LABELS_SHOWN),
        number(report, "held_out_documents"),
        number(report, "train_documents"),
        matrix_labels,
        matrix,
        max(supports) / sum(supports) if sum(supports) else None,
    )


def _start(name: str, result: Mapping[str, Any], curve: list[dict[str, Any]]) -> Start:
    rows = [row for row in curve if row.get("weights", PRETRAINED) == name]
    return Start(
        number(result, "accuracy"),
        number(result, "macro_f1"),
        tuple(sorted(numbers(rows, "step", "loss"))),
        tuple(sorted(numbers(rows, "step", "held_out_accuracy"))),
    )


def _labels(pretrained: Mapping[str, Any], random: Mapping[str, Any]) -> list[LabelResult]:
    """The labels, most support first."""
    other = {str(row.get("label")): row for row in objects(random.get("classes"))}
    results = [
        LabelResult(
            str(row.get("label")),
            number(row, "precision"),
            number(row, "recall"),
            number(row, "f1"),
            number(other.get(str(row.get("label")), {}), "f1"),
            number(row, "support"),
        )
        for row in objects(pretrained.get("classes"))
    ]
    return sorted(results, key=lambda one: (-(one.support or 0), one.label))


def confusion_of(
    result: Mapping[str, Any], by_support: list[str]
) -> tuple[tuple[str, ...], tuple[tuple[float, ...], ...]]:
    """`confusion` = {labels, counts}, labels with most support first; empty where it is not square or too large."""
    confusion = part(result, "confusion")
    names, rows = confusion.get("labels"), confusion.get("counts")
    if not isinstance(names, list) or not isinstance(rows, list) or not 0 < len(names) <= _MATRIX_LABELS:
        return (), ()
    square = len(rows) == len(names) and all(
        isinstance(row, list)
        and len(row) == len(names)
        and all(isinstance(value, (int, float)) for value in row)
        for row in rows
    )
    if not square:
        return (), ()
    rank = {label: place for place, label in enumerate(by_support)}
    order = sorted(range(len(names)), key=lambda at: (rank.get(str(names[at]), len(rank)), at))
    return tuple(str(names[at]) for at in order), tuple(
        tuple(float(rows[r][c]) for c in order) for r in order
    )


def charts(found: Finetuning) -> dict[str, Chart]:
    """Both trainings' curves, and the confusion matrix."""
    starts = [("from pretrained", found.pretrained, "accent")]
    if found.random is not None:
        starts.append(("from random", found.random, "contrast"))
    made: dict[str, Chart] = {}
    for name, field, y_label in (
        ("loss", "loss", "training loss"),
        ("accuracy", "held_out_accuracy", "held-out accuracy"),
    ):
        curves = [
            Curve(text, getattr(start, field), colour, dots=len(getattr(start, field)) < 30, detail=60)
            for text, start, colour in starts
            if getattr(start, field)
        ]
        if curves:
            made[name] = Lines(
                curves,
                x_label="step",
                y_label=y_label,
                description=f"{y_label.capitalize()}: "
                + "; ".join(f"{c.name} ends at {c.points[-1][1]:.3f}" for c in curves)
                + ".",
            )
    if found.matrix:
        right = sum(row[at] for at, row in enumerate(found.matrix))
        total = sum(sum(row) for row in found.matrix)
        made["confusion"] = Confusion(
            [formats.label(text, 18) for text in found.matrix_labels],
            found.matrix,
            description=f"Confusion matrix of {len(found.matrix)} labels: {right:,.0f} of {total:,.0f} "
            "held-out documents lie on the diagonal.",
        )
    return made


def figures(found: Finetuning) -> list[KeyFigure]:
    """The accuracy on held-out documents."""
    other = found.random.accuracy if found.random is not None else None
    note = f"model {found.model}" if other is None else f"against {formats.score(other)} from random weights"
    return [KeyFigure("Accuracy", formats.score(found.pretrained.accuracy), note)]


FINETUNING = Section("Fine-tuning", gather, template="finetuning", charts=charts, figures=figures)
