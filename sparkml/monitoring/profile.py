"""What is known of windows of rows: for each slice and signal, how many rows are in each bin."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["quality", "input", "score", "performance"]
Counts = NDArray[np.int64]
# The slice of all rows, and bins that every signal can have.
ALL_ROWS, NULL, OTHER = "all", "(null)", "(other)"
# The signal that is no property of rows: how many there are.
ROWS = "rows"
_FEW_VALUES = 10


@dataclass(frozen=True)
class Signal:
    """Something that every row has: a number in ordered bins, or one of some values.

    `edges`: bin i of a number holds those from `edges[i - 1]` on and below `edges[i]`. `values`: the frequent ones; all
    others are in the bin `(other)`. Nulls have a bin of their own, the last one.
    """

    name: str
    kind: Kind
    edges: tuple[float, ...] | None = None
    values: tuple[str, ...] = ()

    @property
    def is_ordered(self) -> bool:
        """Whether its bins have an order."""
        return self.edges is not None

    @property
    def bins(self) -> tuple[str, ...]:
        """The names of the bins."""
        if self.edges is None:
            return (*self.values, OTHER, NULL)
        if not self.edges:
            return ("any", NULL)
        between = [_between(low, high) for low, high in itertools.pairwise(self.edges)]
        return (f"below {self.edges[0]:g}", *between, f"from {self.edges[-1]:g}", NULL)


def _between(low: float, high: float) -> str:
    return f"{low:g}" if high == math.nextafter(low, math.inf) else f"{low:g} to {high:g}"


@dataclass(frozen=True)
class Span:
    """A window of time: from `start` on, before `end`."""

    start: datetime
    end: datetime


class Profile:
    """Counts of windows in order: `counts[slice, signal]` is int64[windows, bins], `rows[slice]` int64[windows]."""

    def __init__(self, spans: Sequence[Span], signals: Sequence[Signal], slices: Sequence[str]) -> None:
        self.spans = tuple(spans)
        self.signals = tuple(signals)
        self.slices = tuple(slices)
        self.counts: dict[tuple[str, str], Counts] = {
            (name, signal.name): np.zeros((len(spans), len(signal.bins)), np.int64)
            for name in slices
            for signal in signals
        }
        self.rows: dict[str, Counts] = {name: np.zeros(len(spans), np.int64) for name in slices}

    def fill(self, found: Iterable[tuple[datetime, str, str, int, int]]) -> Profile:
        """Set counts: window's start, slice, signal (`rows`: its rows), bin's number, rows. Others are left out."""
        places = {span.start: at for at, span in enumerate(self.spans)}
        for start, name, signal, place, n in found:
            at = places.get(start)
            if at is None or name not in self.rows:
                continue
            if signal == ROWS:
                self.rows[name][at] = n
            elif (name, signal) in self.counts:
                self.counts[name, signal][at, place] = n
        return self


def largest_move(signal: Signal, counts: Counts, reference: Counts) -> str:
    """The bin whose share has moved most, in words."""
    now, before = (part / max(part.sum(), 1) for part in (counts, reference))
    at = int(np.argmax(np.abs(now - before)))
    return f"{signal.bins[at]}: {100 * now[at]:.1f} % of the rows, {100 * before[at]:.1f} % in the reference"


def shares(signal: Signal, counts: Counts) -> dict[str, float]:
    """The share of each of a signal's first values, where these are few: `share VALUE`."""
    total = max(int(counts.sum()), 1)
    few = signal.values if len(signal.values) <= _FEW_VALUES else ()
    return {f"share {value}": float(counts[at] / total) for at, value in enumerate(few)}


def calibration(counts: Counts, deciles: int) -> Mapping[str, float]:
    """Accuracy, mean score and expected calibration error from counts of (decile of the score, wrong or right)."""
    pairs = counts[: 2 * deciles].reshape(deciles, 2).astype(float)
    n = pairs.sum(1)
    total = n.sum()
    if not total:
        return {}
    middles = (np.arange(deciles) + 0.5) / deciles
    right = np.divide(pairs[:, 1], n, out=np.zeros(deciles), where=n > 0)
    return {
        "accuracy": float(pairs[:, 1].sum() / total),
        "mean_score": float((n * middles).sum() / total),
        "calibration_error": float((n * np.abs(right - middles)).sum() / total),
    }
