"""Whether a confidence of 0.8 is right in 80 of 100 cases: reliability bins, calibration errors, Brier score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from sparkml.errors import InputError
from sparkml.measures.arrays import (
    F64,
    I64,
    Flags,
    Numbers,
    check_labels,
    check_lengths,
    mass_edges,
    row_blocks,
)

Binning = Literal["equal_width", "equal_mass"]

_ROUNDING = 1e-5  # a mean of float32 probabilities may end so far outside 0 and 1


@dataclass(frozen=True)
class ReliabilityBin:
    """Rows whose confidence is above `low` and up to `high`: their mean confidence, the share that is right, and n."""

    low: float
    high: float
    confidence: float
    accuracy: float
    n: int


def reliability_bins(
    confidences: Numbers, right: Flags, n_bins: int = 15, binning: Binning = "equal_width"
) -> tuple[ReliabilityBin, ...]:
    """Rows by confidence, for a reliability diagram (DeGroot and Fienberg 1983); empty bins are left out.

    confidences: [n_rows], 0 to 1; right: bool[n_rows]. Equal width: each bin spans 1 / n_bins. Equal mass: each holds
    about n_rows / n_bins rows, and rows of the same confidence are never parted.
    """
    check_lengths(confidences=len(confidences), right=len(right))
    if len(confidences) and not (np.min(confidences) >= -_ROUNDING and np.max(confidences) <= 1 + _ROUNDING):
        raise InputError(
            "a confidence outside 0 and 1",
            got=f"{np.min(confidences)} to {np.max(confidences)}",
            expected="probabilities",
            next_action="apply a softmax or a sigmoid to logits first",
        )
    if not len(confidences):
        return ()
    confidences = np.clip(confidences, 0, 1)
    edges = _edges(confidences, n_bins, binning)
    which = np.searchsorted(edges[1:-1], confidences, side="left")
    n = np.bincount(which, minlength=n_bins)
    confidence = np.bincount(which, weights=confidences, minlength=n_bins)
    hits = np.bincount(which, weights=right, minlength=n_bins)
    return tuple(
        ReliabilityBin(
            low=float(edges[index]),
            high=float(edges[index + 1]),
            confidence=float(confidence[index] / n[index]),
            accuracy=float(hits[index] / n[index]),
            n=int(n[index]),
        )
        for index in np.flatnonzero(n)
    )


def calibration_error(bins: tuple[ReliabilityBin, ...]) -> float:
    """Expected calibration error: mean |accuracy - confidence| over rows (Naeini et al. 2015; Guo et al. 2017)."""
    rows = sum(one.n for one in bins)
    gaps = sum(one.n * abs(one.accuracy - one.confidence) for one in bins)
    return gaps / rows if rows else 0.0


def expected_calibration_error(
    confidences: Numbers, right: Flags, n_bins: int = 15, binning: Binning = "equal_width"
) -> float:
    """`calibration_error` of the bins of confidences [n_rows] and right answers bool[n_rows]; 0 without rows."""
    return calibration_error(reliability_bins(confidences, right, n_bins, binning))


def row_brier(gold: I64, probabilities: Numbers) -> F64:
    """Squared distance of each row's probabilities [n_rows, n_labels] from its gold label, float64[n_rows], 0 to 2."""
    check_lengths(gold=len(gold), probabilities=len(probabilities))
    check_labels("gold", gold, probabilities.shape[1])
    squares = np.empty(len(gold))
    for block in row_blocks(len(gold), probabilities.shape[1]):
        wide = probabilities[block].astype(np.float64)
        wide[np.arange(len(wide)), gold[block]] -= 1
        squares[block] = np.einsum("ij,ij->i", wide, wide)
    return squares


def brier_score(gold: I64, probabilities: Numbers) -> float:
    """Mean of `row_brier` over the rows (Brier 1950; for two labels twice the binary score); 0 without rows."""
    squares = row_brier(gold, probabilities)
    return float(squares.mean()) if len(squares) else 0.0


def _edges(confidences: Numbers, n_bins: int, binning: Binning) -> F64:
    if binning == "equal_width":
        return np.linspace(0, 1, n_bins + 1)
    inner = mass_edges(confidences, n_bins)
    return np.concatenate([[confidences.min()], inner, [confidences.max()]]).astype(np.float64)
