"""What a chart shows: small, aggregated numbers. `report.plots` draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Bars:
    """Vertical bars over categories."""

    labels: Sequence[str]
    values: Sequence[int]
    x_label: str
    y_label: str
    description: str


@dataclass(frozen=True)
class Histogram:
    """Counts between `edges` (one more than the values), with a vertical mark such as a threshold."""

    edges: Sequence[float]
    values: Sequence[int]
    x_label: str
    y_label: str
    description: str
    mark: float | None = None
    mark_label: str = ""


@dataclass(frozen=True)
class Curve:
    """One line: its name, points (x, y) and look (`accent`, `contrast` or `quiet`; dots)."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: str = "accent"
    dots: bool = False
    detail: int = 300  # points at most: of more, the means of neighbours


@dataclass(frozen=True)
class Lines:
    """Curves over one axis, with a legend where there are several."""

    curves: Sequence[Curve]
    x_label: str
    y_label: str
    description: str
    from_zero: bool = False


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix: rows are true labels, columns predicted ones."""

    labels: Sequence[str]
    matrix: Sequence[Sequence[float]]
    description: str


@dataclass(frozen=True)
class Point:
    """A thing of two figures: its name and look (`accent`, `contrast` or `quiet`)."""

    name: str
    x: float
    y: float
    colour: str = "accent"


@dataclass(frozen=True)
class Scatter:
    """Named points, and a line through the best of them."""

    points: Sequence[Point]
    line: Sequence[tuple[float, float]]
    x_label: str
    y_label: str
    description: str


Chart = Bars | Histogram | Lines | Confusion | Scatter
