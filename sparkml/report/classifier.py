"""Fine-tuning: the classifier from pretrained weights beside the same network from random ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sparkml.report.config import ReportConfig
from sparkml.report.lake import Lake, number, numbers, part, read_lines, read_object
from sparkml.report.training import CURVE_FILE, VALIDATION_KEYS, Points

REPORT_FILE = "report.json"
_STARTS = ("pretrained", "random")
_AVERAGES = ("macro avg", "weighted avg", "micro avg", "accuracy", "macro_avg", "weighted_avg")
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
    """Results on held-out documents from one kind of starting weights."""

    name: str
    accuracy: float | None
    macro_f1: float | None
    loss: Points
    accuracy_curve: Points


@dataclass(frozen=True)
class Finetuning:
    """Everything the section shows. What the model folder does not hold is empty."""

    model: str
    path: str
    parent: str | None
    pretrained: Start
    random: Start | None
    labels: tuple[LabelResult, ...]
    more_labels: int
    documents: float | None  # held out
    matrix_labels: tuple[str, ...]
    matrix: tuple[tuple[float, ...], ...]
    majority: float | None  # accuracy of always saying the most frequent label


def gather(lake: Lake, config: ReportConfig) -> Finetuning | None:
    """None where no classifier is registered yet."""
    model = lake.model(config.classifier_id)
    if model is None:
        return None
    report = read_object(model.path, REPORT_FILE)
    curve = read_lines(model.path, CURVE_FILE)
    pretrained = part(report, "pretrained") or report
    random = part(report, "random", "random_weights", "scratch")
    labels = _labels(report, pretrained, random)
    matrix_labels, matrix = _matrix(report, pretrained, [one.label for one in labels])
    supports = [one.support for one in labels if one.support is not None]
    held_out = sum(supports) or number(report, "n_validation", "documents")
    return Finetuning(
        model.name,
        model.path,
        model.parent,
        _start("pretrained", {**model.metrics, **pretrained}, curve),
        _start("random", random, curve) if random else None,
        tuple(labels[:_LABELS_SHOWN]),
        max(0, len(labels) - _LABELS_SHOWN),
        held_out,
        matrix_labels,
        matrix,
        max(supports) / sum(supports) if sum(supports) else None,
    )


def _start(name: str, result: Mapping[str, Any], curve: list[dict[str, Any]]) -> Start:
    rows = part_rows(result.get("curve")) or [row for row in curve if _start_of(row) == name]
    averages = part(
        part(result, "classification_report", "report") or result, "macro avg", "macro_avg", "macro"
    )
    return Start(
        name,
        number(result, "accuracy", "validation_accuracy"),
        number(result, "macro_f1", "f1_macro") or number(averages, "f1", "f1-score", "f1_score"),
        tuple(sorted(numbers(rows, "step", *VALIDATION_KEYS, "loss"))),
        tuple(sorted(numbers(rows, "step", "validation_accuracy", "accuracy", "macro_f1"))),
    )


def part_rows(value: object) -> list[dict[str, Any]]:
    """The objects of a list; empty where it is none."""
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _start_of(row: Mapping[str, Any]) -> str:
    """Which of the two trainings a line of the curve belongs to; a line that does not say is of the first."""
    said = next(
        (row[key] for key in ("start", "init", "weights", "run", "model", "variant", "name") if key in row),
        "",
    )
    return next((name for name in _STARTS if name in str(said)), _STARTS[0])


def _labels(
    report: Mapping[str, Any], pretrained: Mapping[str, Any], random: Mapping[str, Any]
) -> list[LabelResult]:
    """The labels by falling support."""
    mine, other = per_label(pretrained), per_label(random)
    if not mine:
        mine = per_label(report)
    results = [
        LabelResult(
            label,
            number(row, "precision"),
            number(row, "recall"),
            number(row, "f1", "f1-score", "f1_score"),
            number(other.get(label, {}), "f1", "f1-score", "f1_score"),
            number(row, "support"),
        )
        for label, row in mine.items()
    ]
    return sorted(results, key=lambda one: (-(one.support or 0), one.label))


def per_label(result: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Label -> {precision, recall, f1, support}: a list of objects, an object by label, or scikit-learn's."""
    for key in ("per_label", "per_class", "classes", "labels", "classification_report", "report"):
        found = result.get(key)
        rows = part_rows(found)
        if rows:
            return {str(row.get("label", row.get("name", place))): row for place, row in enumerate(rows)}
        if isinstance(found, dict):
            return {
                str(label): row
                for label, row in found.items()
                if isinstance(row, dict) and label not in _AVERAGES
            }
    return {}


def _matrix(
    report: Mapping[str, Any], pretrained: Mapping[str, Any], by_support: Sequence[str]
) -> tuple[tuple[str, ...], tuple[tuple[float, ...], ...]]:
    """The confusion matrix, labels by falling support; empty where it is not square or does not fit."""
    raw = next(
        (
            found
            for holder in (pretrained, report)
            for key in ("confusion", "confusion_matrix")
            if (found := holder.get(key)) is not None
        ),
        None,
    )
    names = _matrix_names(report, pretrained, raw) or list(by_support)
    rows = raw.get("matrix", raw.get("counts")) if isinstance(raw, dict) else raw
    square = (
        isinstance(rows, list)
        and len(rows) == len(names)
        and all(
            isinstance(row, list) and len(row) == len(names) and all(isinstance(v, (int, float)) for v in row)
            for row in rows
        )
    )
    if not square or not rows or len(names) > _MATRIX_LABELS:
        return (), ()
    rank = {label: place for place, label in enumerate(by_support)}
    order = sorted(range(len(names)), key=lambda at: (rank.get(names[at], len(rank)), at))
    return tuple(names[at] for at in order), tuple(tuple(float(rows[r][c]) for c in order) for r in order)


def _matrix_names(report: Mapping[str, Any], pretrained: Mapping[str, Any], raw: object) -> list[str]:
    for holder in (raw, pretrained, report):
        names = holder.get("labels", holder.get("label_names")) if isinstance(holder, dict) else None
        if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
            return names
    return []
