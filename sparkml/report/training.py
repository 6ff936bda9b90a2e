"""Pretraining: loss curves and throughput, from the folder of the encoder's latest version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sparkml.report.config import ReportConfig
from sparkml.report.lake import Lake, number, numbers, read_lines

Points = tuple[tuple[float, float], ...]
CURVE_FILE = "curve.jsonl"


@dataclass(frozen=True)
class Training:
    """Curves over optimizer steps. A curve that was not recorded is empty."""

    model: str
    path: str
    parent: str | None
    trained_on: str
    metrics: tuple[tuple[str, float], ...]
    loss: Points
    validation: Points
    learning_rate: Points
    tokens_per_second: Points
    mean_tokens_per_second: float | None

    @property
    def last_validation(self) -> float | None:
        """Validation loss at the end."""
        return self.validation[-1][1] if self.validation else dict(self.metrics).get("validation_loss")


def gather(lake: Lake, config: ReportConfig) -> Training | None:
    """None where no encoder is registered yet."""
    model = lake.model(config.encoder_id)
    if model is None:
        return None
    rows = read_lines(model.path, CURVE_FILE)
    speed = numbers(rows, "step", "tokens_per_second")
    mean = number(model.metrics, "tokens_per_second") or _mean(speed)
    return Training(
        model.name,
        model.path,
        model.parent,
        model.trained_on,
        tuple(sorted(model.metrics.items())),
        _curve(rows, "train_loss", "loss"),
        _curve(rows, "validation_loss"),
        _curve(rows, "learning_rate", "lr"),
        tuple(speed),
        mean,
    )


def _curve(rows: list[dict[str, Any]], *names: str) -> Points:
    return tuple(sorted(numbers(rows, "step", *names)))


def _mean(points: list[tuple[float, float]]) -> float | None:
    return sum(value for _, value in points) / len(points) if points else None
