"""What is known of a model on one set of rows, as one value that goes into JSON and back."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from sparkml.errors import InputError
from sparkml.measures.arrays import I64
from sparkml.measures.calibration import ReliabilityBin
from sparkml.measures.counts import LabelCounts
from sparkml.measures.intervals import Interval
from sparkml.measures.slices import Columns, SliceFigures, measure_slices

ALL_ROWS = "all"
CHANGE = "change="  # before what one model said and what another one says: a slice of a comparison

_T = TypeVar("_T")


@dataclass(frozen=True)
class LabelFigures:
    """Precision, recall and F1 of one label or type of span; `support` is how much of it is gold."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class ConfusionCell:
    """`n` times `gold` was taken for `predicted`."""

    gold: str
    predicted: str
    n: int


@dataclass(frozen=True)
class Mistake:
    """A row that was answered wrongly; `confidence` is NaN where the model gives none."""

    id: str
    gold: str
    predicted: str
    confidence: float


@dataclass(frozen=True)
class Settings:
    """How an evaluation is made. `resamples` 0: without intervals of the metrics."""

    resamples: int = 1000
    level: float = 0.95
    seed: int = 0
    worst_rows: int = 20
    top_k: int = 5
    bins: int = 15
    max_slice_values: int = 20
    small_slice_rows: int = 30
    confusion_cells: int = 2500


@dataclass(frozen=True)
class Evaluation:
    """Figures of a model on `n` rows.

    metrics, intervals: by name. labels: figures of every label or type of span. confusion: pairs of labels; the
    largest wrong ones where not all are kept. calibration: bins of a reliability diagram. worst: the mistakes in which
    the model was most confident.
    """

    n: int
    metrics: dict[str, float]
    intervals: dict[str, Interval] = field(default_factory=dict)
    slices: tuple[SliceFigures, ...] = ()
    labels: tuple[LabelFigures, ...] = ()
    confusion: tuple[ConfusionCell, ...] = ()
    calibration: tuple[ReliabilityBin, ...] = ()
    worst: tuple[Mistake, ...] = ()

    def metric_rows(self) -> list[tuple[str, dict[str, float], int]]:
        """(slice, metrics, n) of all rows (`all`), of every slice and of every label: rows of the table `evaluations`.

        With `all` stand the ends of the intervals: `accuracy_low`, `accuracy_high`.
        """
        ends = {
            f"{name}_{end}": value
            for name, interval in self.intervals.items()
            for end, value in (("low", interval.low), ("high", interval.high))
        }
        labels = (
            (
                f"label={one.label}",
                {"precision": one.precision, "recall": one.recall, "f1": one.f1},
                one.support,
            )
            for one in self.labels
        )
        return [
            (ALL_ROWS, {**self.metrics, **ends}, self.n),
            *((one.slice, dict(one.metrics), one.n) for one in self.slices),
            *labels,
        ]

    def to_json(self) -> str:
        """JSON, in which null stands for NaN, and "Infinity" and "-Infinity" for what JSON has no number for."""
        return json.dumps(_to_plain(asdict(self)), allow_nan=False, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Evaluation:
        """What `to_json` wrote; InputError for anything else."""
        try:
            found = json.loads(text)
            return cls(
                n=int(found["n"]),
                metrics=_numbers(found["metrics"]),
                intervals={name: _one(Interval, value) for name, value in found["intervals"].items()},
                slices=tuple(_one(SliceFigures, value) for value in found["slices"]),
                labels=tuple(_one(LabelFigures, value) for value in found["labels"]),
                confusion=tuple(_one(ConfusionCell, value) for value in found["confusion"]),
                calibration=tuple(_one(ReliabilityBin, value) for value in found["calibration"]),
                worst=tuple(_one(Mistake, value) for value in found["worst"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as reason:
            raise InputError(
                "this is no evaluation",
                got=f"{type(reason).__name__}: {reason}",
                expected="JSON as Evaluation.to_json writes it",
                next_action="evaluate the model again",
            ) from reason


def label_figures(labels: tuple[str, ...], counts: LabelCounts) -> tuple[LabelFigures, ...]:
    """The figures of every label, in the order of the labels; counts are [n_labels]."""
    columns = (counts.precision.tolist(), counts.recall.tolist(), counts.f1.tolist(), counts.gold.tolist())
    return tuple(LabelFigures(*row) for row in zip(labels, *columns, strict=True))


def slice_figures(
    slices: Columns | None, n_rows: int, measure: Callable[[I64], dict[str, float]], settings: Settings
) -> tuple[SliceFigures, ...]:
    """The figures of every slice as the settings ask for them; `measure` gets row indices."""
    return measure_slices(
        slices or {},
        n_rows,
        measure,
        max_values=settings.max_slice_values,
        small_rows=settings.small_slice_rows,
    )


def average_metrics(counts: LabelCounts, *, every_label: bool = False) -> dict[str, float]:
    """Macro and weighted precision, recall and F1 by name; counts are [n_labels]."""
    averages = {"macro": counts.macro(every_label=every_label), "weighted": counts.weighted()}
    return {
        f"{kind}_{name}": float(getattr(average, name))
        for kind, average in averages.items()
        for name in ("precision", "recall", "f1")
    }


def micro_metrics(counts: LabelCounts) -> dict[str, float]:
    """Micro precision, recall and F1 by name; counts are [n_labels]."""
    micro = counts.micro()
    return {
        "micro_precision": float(micro.precision),
        "micro_recall": float(micro.recall),
        "micro_f1": float(micro.f1),
    }


def _to_plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, Mapping):
        return {key: _to_plain(one) for key, one in value.items()}
    return [_to_plain(one) for one in value] if isinstance(value, (list, tuple)) else value


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: _number(value) for name, value in values.items()}


def _one(kind: type[_T], found: Mapping[str, Any]) -> _T:
    """A dataclass of this module from its JSON object; its annotations say which fields are numbers."""
    read: dict[str, Callable[[Any], Any]] = {
        "float": _number,
        "int": int,
        "str": str,
        "bool": bool,
        "dict[str, float]": _numbers,
    }
    return kind(**{one.name: read[str(one.type)](found[one.name]) for one in fields(kind)})  # type: ignore[arg-type]
