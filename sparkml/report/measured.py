"""What the directory of a model says of how it was trained and how well it answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sparkml.errors import SparkmlError
from sparkml.frame import storage
from sparkml.measures.evaluation import Evaluation
from sparkml.report import formats
from sparkml.report.lake import Model, numbers
from sparkml.report.training import CURVE_FILE
from sparkml.report.view import StepView, last_views

EVALUATION_FILE = "evaluation.json"
MODEL, BASELINE = "model", "baseline"


@dataclass(frozen=True)
class Measured:
    """What the section shows."""

    model: str
    parent: str
    path: str
    evaluation: Evaluation | None
    baseline: Evaluation | None
    curves: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    training: Sequence[tuple[str, object]] = ()


def gather(view: StepView) -> Measured | None:
    """The figures of the model that the step made; None where it made none."""
    model = view.model("model_id")
    if model is None:
        return None
    found = model.object(EVALUATION_FILE)
    rows = model.lines(CURVE_FILE)
    curves = {
        "training loss": tuple(sorted(numbers(rows, "step", "train_loss"))),
        "held-out loss": tuple(sorted(numbers(rows, "step", "validation_loss"))),
        "held-out accuracy": tuple(sorted(numbers(rows, "step", "validation_accuracy"))),
    }
    return Measured(
        model.name,
        storage.redacted(model.record.parent or ""),
        model.path,
        _evaluation(found.get(MODEL)),
        _evaluation(found.get(BASELINE)),
        curves,
        _training(model),
    )


def gather_run(view: StepView) -> Measured | None:
    """The figures of the model that the step measured; None where they are gone."""
    evaluation = _evaluation(view.lake.evaluation(view.step, view.run.fingerprint))
    model = view.model("model")
    if evaluation is None or model is None:
        return None
    return Measured(model.name, storage.redacted(model.record.parent or ""), model.path, evaluation, None)


def _evaluation(found: object) -> Evaluation | None:
    if not isinstance(found, Mapping):
        return None
    try:
        return Evaluation.from_json(json.dumps(found))
    except SparkmlError:  # a gap on the page, never an error
        return None


def _training(model: Model) -> list[tuple[str, object]]:
    metrics = model.record.metrics
    names = {
        "steps": "optimiser steps",
        "train_rows": "training examples",
        "trainable_parameters": "trained parameters",
        "total_parameters": "parameters",
        "tokens_per_second": "tokens a second",
        "ranks": "ranks",
    }
    return [(text, formats.measured(metrics[name])) for name, text in names.items() if name in metrics]


def measured_alike(view: StepView, found: Measured) -> list[Measured]:
    """What the models of other steps say of the same held-out examples, in the order of the steps.

    The same: of one table at one version, and as many of every label.
    """
    others = [
        other
        for other in last_views(view.lake)
        if other.step != view.step and other.place("source") == view.place("source")
    ]
    measured = [one for other in others if (one := _gather_other(other)) is not None]
    mine = _examples(found)
    return [one for one in measured if mine is not None and _examples(one) == mine]


def _gather_other(view: StepView) -> Measured | None:
    """As `gather`; None where the model of that step is gone: that is its own section's gap."""
    try:
        return gather(view)
    except SparkmlError:
        return None


def _examples(found: Measured) -> object:
    """What tells held-out examples of one table from others; None where nothing was measured."""
    if found.evaluation is None:
        return None
    support = tuple(sorted((one.label, one.support) for one in found.evaluation.labels))
    return found.evaluation.n, support
