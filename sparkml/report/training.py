"""Pretraining: loss curves and throughput, from the folder of the encoder's latest version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sparkml.report.config import ReportConfig
from sparkml.report.lake import Lake, number, numbers, read_lines

Points = tuple[tuple[float, float], ...]
CURVE_FILE = "curve.jsonl"
VALIDATION_KEYS = ("validation_loss", "val_loss", "eval_loss")
_VALIDATION_METRICS = ("validation_loss", "val_loss", "final_validation_loss")


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
        if self.validation:
            return self.validation[-1][1]
        return next(
            (dict(self.metrics)[key] for key in _VALIDATION_METRICS if key in dict(self.metrics)), None
        )


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
        _curve(rows, "loss", "train_loss", "training_loss"),
        _curve(rows, *VALIDATION_KEYS),
        _curve(rows, "lr", "learning_rate"),
        tuple(speed),
        mean,
    )


def _curve(rows: list[dict[str, Any]], *names: str) -> Points:
    return tuple(sorted(numbers(rows, "step", *names)))


def _mean(points: list[tuple[float, float]]) -> float | None:
    return sum(value for _, value in points) / len(points) if points else None
