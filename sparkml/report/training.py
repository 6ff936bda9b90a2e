"""Pretraining: loss curves and throughput, from the files of the model that the step made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sparkml.report.charts import Chart, Curve, Lines
from sparkml.report.lake import number, numbers
from sparkml.report.section import Section
from sparkml.report.view import StepView

Points = tuple[tuple[float, float], ...]
CURVE_FILE = "curve.jsonl"


@dataclass(frozen=True)
class Training:
    """Curves over optimiser steps. A curve that was not recorded is empty."""

    model: str
    path: str
    trained_on: str
    metrics: tuple[tuple[str, float], ...]
    loss: Points
    validation: Points
    tokens_per_second: Points
    mean_tokens_per_second: float | None

    @property
    def last_validation(self) -> float | None:
        """Validation loss at the end."""
        return self.validation[-1][1] if self.validation else dict(self.metrics).get("validation_loss")


def gather(view: StepView) -> Training | None:
    """The curves of one training; None where it made no model."""
    model = view.model("model_id")
    if model is None:
        return None
    rows, metrics = model.lines(CURVE_FILE), model.record.metrics
    speed = numbers(rows, "step", "tokens_per_second")
    mean = number(metrics, "tokens_per_second") or _mean(speed)
    return Training(
        model.name,
        model.path,
        model.trained_on,
        tuple(sorted(metrics.items())),
        _curve(rows, "train_loss", "loss"),
        _curve(rows, "validation_loss"),
        tuple(speed),
        mean,
    )


def _curve(rows: list[dict[str, Any]], *names: str) -> Points:
    return tuple(sorted(numbers(rows, "step", *names)))


def _mean(points: list[tuple[float, float]]) -> float | None:
    return sum(value for _, value in points) / len(points) if points else None


def charts(found: Training) -> dict[str, Chart]:
    """Loss and speed over the steps."""
    made: dict[str, Chart] = {}
    curves = [
        Curve("training loss", found.loss, "quiet"),
        Curve("validation loss", found.validation, "accent", dots=len(found.validation) < 30),
    ]
    curves = [curve for curve in curves if curve.points]
    if curves:
        made["loss"] = Lines(
            curves,
            x_label="step",
            y_label="masked-LM loss (nats)",
            description=f"Loss over {curves[0].points[-1][0]:,.0f} steps: "
            + "; ".join(f"{c.name} from {c.points[0][1]:.2f} to {c.points[-1][1]:.2f}" for c in curves)
            + ".",
        )
    if found.tokens_per_second:
        made["speed"] = Lines(
            [Curve("tokens a second", found.tokens_per_second)],
            x_label="step",
            y_label="tokens a second",
            description="Tokens a second over the steps of the training.",
            from_zero=True,
        )
    return made


TRAINING = Section("Training", gather, template="training", charts=charts)
