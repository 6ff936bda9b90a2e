"""How well a model answers: figures with intervals beside the simple model's, labels, slices, calibration, mistakes.

Reads `evaluation.json` of the model's directory, whatever the task: it knows of none by name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sparkml.measures.evaluation import Evaluation
from sparkml.report import formats
from sparkml.report.charts import Chart, Confusion, Curve, Lines
from sparkml.report.measured import Measured, gather, gather_run, measured_alike
from sparkml.report.section import Facts, KeyFigure, Rows, Section
from sparkml.report.view import StepView

# What a summary names first, of the metrics that a task has.
_HEADLINES = ("accuracy", "micro_f1", "f1", "subset_accuracy", "rmse", "chrf")
_ERRORS = ("rmse",)  # less is better
_LABELS_SHOWN, _PAIRS_SHOWN = 40, 20
_MATRIX_LABELS = 20  # more cannot be read


@dataclass(frozen=True)
class EvaluationFacts(Facts):
    """What the section shows, and the figure that goes into the summary."""

    figure: KeyFigure | None = None


def facts(view: StepView) -> EvaluationFacts | None:
    """The section of a fine-tuning."""
    found = gather(view)
    return None if found is None else facts_of(found, measured_alike(view, found))


def facts_of(found: Measured, others: Sequence[Measured] = ()) -> EvaluationFacts:
    """Sentence, values, tables and charts; `others` are models that were measured on the same examples."""
    values: dict[str, object] = {"model": found.model, "made from": found.parent or formats.NOTHING}
    values |= dict(found.training)
    evaluation = found.evaluation
    if evaluation is None:
        lead = "The loss is the only figure of this model: there are no answers that could be compared."
        return EvaluationFacts(lead, values, (), _curve_charts(found))
    values["measured examples"] = f"{evaluation.n:,}"
    tables = [
        *([_model_table(found, others)] if others else []),
        _metric_table(evaluation, found.baseline),
        _label_table(evaluation),
        _slice_table(evaluation),
        _pair_table(evaluation),
        _mistake_table(evaluation),
    ]
    charts = {**_curve_charts(found), **_evaluation_charts(evaluation)}
    shown = tuple(table for table in tables if table.rows)
    return EvaluationFacts(_lead(found), values, shown, charts, _figure(found, evaluation))


def _figure(found: Measured, evaluation: Evaluation) -> KeyFigure | None:
    first = headline(evaluation)
    if first is None:
        return None
    name, value = first
    other = found.baseline.metrics.get(name) if found.baseline else None
    note = f"model {found.model}" if other is None else f"against {formats.score(other)} of the simple model"
    return KeyFigure(_named(name).capitalize(), formats.score(value), note)


def figures(found: EvaluationFacts) -> list[KeyFigure]:
    """The metric that is named first."""
    return [found.figure] if found.figure else []


def headline(evaluation: Evaluation) -> tuple[str, float] | None:
    """The metric that is named first."""
    for name in _HEADLINES:
        if name in evaluation.metrics:
            return name, evaluation.metrics[name]
    return next(iter(evaluation.metrics.items()), None)


def _lead(found: Measured) -> str:
    evaluation = found.evaluation
    if evaluation is None or (first := headline(evaluation)) is None:
        return ""
    name, value = first
    interval = evaluation.intervals.get(name)
    text = f"{_named(name).capitalize()} {formats.score(value)}"
    if interval is not None and math.isfinite(interval.low):
        text += f" ({interval.level:.0%} of resamples: {formats.score(interval.low)} to {formats.score(interval.high)})"
    other = found.baseline.metrics.get(name) if found.baseline else None
    return f"{text} on {evaluation.n:,} examples" + (
        f"; the simple model reaches {formats.score(other)}." if other is not None else "."
    )


def _named(metric: str) -> str:
    return metric.replace("_", " ")


def _model_table(found: Measured, others: Sequence[Measured]) -> Rows:
    """Models and simple models by the metric that is named first, this step's among them."""
    first = headline(found.evaluation) if found.evaluation else None
    name = first[0] if first else ""
    rows: list[tuple[float, list[object]]] = []
    for one in (found, *others):
        trained = dict(one.training).get("training examples")
        for who, start, evaluation in (
            (one.model, one.parent or formats.NOTHING, one.evaluation),
            (f"simple model of {one.model}", formats.NOTHING, one.baseline),
        ):
            if evaluation is not None and name in evaluation.metrics:
                value, interval = evaluation.metrics[name], evaluation.intervals.get(name)
                ends = (_rounded(interval.low), _rounded(interval.high)) if interval else (None, None)
                rows.append((value, [who, start, trained, _rounded(value), *ends]))
    rows.sort(key=lambda row: row[0], reverse=name not in _ERRORS)
    columns = ("model", "made from", "training examples", _named(name), "from", "to")
    return Rows("Models on the same held-out examples", columns, [row for _, row in rows])


def _metric_table(evaluation: Evaluation, baseline: Evaluation | None) -> Rows:
    columns = ["metric", "model", "from", "to", *(["simple model"] if baseline else [])]
    rows = []
    for name, value in evaluation.metrics.items():
        interval = evaluation.intervals.get(name)
        row: list[object] = [_named(name), _rounded(value)]
        row += [_rounded(interval.low), _rounded(interval.high)] if interval else [None, None]
        rows.append([*row, *([_rounded(baseline.metrics.get(name))] if baseline else [])])
    return Rows("Metrics with 95 % intervals by bootstrap", columns, rows)


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 4)


def _label_table(evaluation: Evaluation) -> Rows:
    ranked = sorted(evaluation.labels, key=lambda one: (-one.support, one.label))[:_LABELS_SHOWN]
    rows = [
        [one.label, _rounded(one.precision), _rounded(one.recall), _rounded(one.f1), one.support]
        for one in ranked
    ]
    return Rows("By label", ("label", "precision", "recall", "F1", "support"), rows)


def _slice_table(evaluation: Evaluation) -> Rows:
    first = headline(evaluation)
    name = first[0] if first else ""
    rows = [[one.slice, one.n, _rounded(one.metrics.get(name))] for one in evaluation.slices if not one.small]
    return Rows(
        f"By slice (of 30 examples or more): {_named(name)}", ("slice", "examples", _named(name)), rows
    )


def _pair_table(evaluation: Evaluation) -> Rows:
    wrong = [cell for cell in evaluation.confusion if cell.gold != cell.predicted]
    ranked = sorted(wrong, key=lambda cell: (-cell.n, cell.gold, cell.predicted))[:_PAIRS_SHOWN]
    rows = [[cell.gold, cell.predicted, cell.n] for cell in ranked]
    return Rows("Most frequent confusions", ("label", "taken for", "examples"), rows)


def _mistake_table(evaluation: Evaluation) -> Rows:
    rows = [[one.id, one.gold, one.predicted, _rounded(one.confidence)] for one in evaluation.worst]
    return Rows("Worst mistakes: wrong, and sure of it", ("document", "right", "answer", "confidence"), rows)


def _curve_charts(found: Measured) -> dict[str, Chart]:
    made: dict[str, Chart] = {}
    for caption, names in (
        ("Loss", ("training loss", "held-out loss")),
        ("Held-out accuracy", ("held-out accuracy",)),
    ):
        curves = [
            Curve(name, found.curves[name], colour, dots=len(found.curves[name]) < 30, detail=60)
            for name, colour in zip(names, ("quiet", "accent"), strict=False)
            if found.curves.get(name)
        ]
        if curves:
            ends = "; ".join(f"{curve.name} ends at {curve.points[-1][1]:.3f}" for curve in curves)
            made[caption] = Lines(
                curves, x_label="step", y_label=caption.lower(), description=f"{caption}: {ends}."
            )
    return made


def _evaluation_charts(evaluation: Evaluation) -> dict[str, Chart]:
    made: dict[str, Chart] = {}
    points = [(one.confidence, one.accuracy) for one in evaluation.calibration if one.n]
    if points:
        made["Calibration"] = Lines(
            [
                Curve("as sure as it is right", ((0.0, 0.0), (1.0, 1.0)), "quiet"),
                Curve("model", tuple(points), "accent", dots=True),
            ],
            x_label="confidence",
            y_label="share that is right",
            description=f"Reliability of {len(points)} bins of confidence.",
        )
    labels = sorted(
        {cell.gold for cell in evaluation.confusion} | {cell.predicted for cell in evaluation.confusion}
    )
    if 1 < len(labels) <= _MATRIX_LABELS:
        place = {label: number for number, label in enumerate(labels)}
        matrix = [[0.0] * len(labels) for _ in labels]
        for cell in evaluation.confusion:
            matrix[place[cell.gold]][place[cell.predicted]] = float(cell.n)
        right = sum(matrix[number][number] for number in range(len(labels)))
        made["Confusion matrix"] = Confusion(
            [formats.label(text, 18) for text in labels],
            matrix,
            description=f"{right:,.0f} of {evaluation.n:,} held-out examples lie on the diagonal.",
        )
    return made


def measured_facts(view: StepView) -> EvaluationFacts | None:
    """The section of the stage evaluate: what its run found of a model on a table."""
    found, place = gather_run(view), view.place("source")
    if found is None:
        return None
    facts = facts_of(found)
    table = {"table": f"{place.ref} version {place.version}"} if place else {}
    return replace(facts, values={**facts.values, **table, "split": view.config.get("split", "all")})


EVALUATION = Section("Evaluation", facts, figures=figures)
MEASURED = Section("Evaluation", measured_facts, figures=figures)
