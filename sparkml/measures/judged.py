"""What answers are worth, row by row: enough to compare two models that answered the same rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sparkml.errors import InputError
from sparkml.measures.arrays import F64
from sparkml.measures.intervals import Difference, OfSums, paired_bootstrap
from sparkml.measures.regression import number_sums, r2_of


@dataclass(frozen=True)
class Judged:
    """The answers of one model.

    sums: [rows, k], of which `figure` makes the task's main figure, called `metric`; more is better. said: what was
    answered, [rows]; numbers that lie `tolerance` apart at most count as the same answer.
    """

    metric: str
    sums: F64
    figure: OfSums
    said: npt.NDArray[Any]
    tolerance: float = 0.0

    @property
    def value(self) -> float:
        """The figure of all rows."""
        return float(self.figure(self.sums.sum(axis=0)))

    def flips(self, other: Judged) -> npt.NDArray[np.bool_]:
        """Where the other answer is another one, [rows]."""
        if len(self.said) != len(other.said):
            raise InputError(
                "answers to other rows", got=f"{len(other.said)} answers", expected=f"{len(self.said)}"
            )
        if self.said.dtype.kind == "f":
            return np.asarray(~(np.abs(self.said - other.said) <= self.tolerance))
        return np.asarray(self.said != other.said)

    def lead(self, other: Judged, *, level: float = 0.95, seed: int = 0) -> Difference:
        """By how much the figure is above the other's, with a paired bootstrap interval."""
        return paired_bootstrap(self.sums, other.sums, self.figure, level=level, seed=seed)


def share_right(right: npt.NDArray[np.bool_], said: npt.NDArray[Any]) -> Judged:
    """Accuracy of answers that are right or wrong, bool [rows]."""
    return Judged("accuracy", np.column_stack([right, np.ones(len(right))]).astype(np.float64), _mean, said)


def f1_of_spans(counts: F64, said: npt.NDArray[Any]) -> Judged:
    """Micro F1 of counts [rows, 3]: right, predicted and gold spans."""
    return Judged("micro_f1", counts, _f1, said)


def explained_variance(gold: F64, predicted: F64) -> Judged:
    """R2 of numbers [rows]; an answer is another one where it moved by a twentieth of the gold's deviation."""
    sums = number_sums(gold, predicted)
    return Judged("r2", sums, r2_of, predicted.astype(np.float64), 0.05 * float(gold.std()))


def _mean(sums: F64) -> F64:
    return np.asarray(_ratio(sums[..., 0], sums[..., 1]))


def _f1(sums: F64) -> F64:
    return np.asarray(_ratio(2 * sums[..., 0], sums[..., 1] + sums[..., 2]))


def _ratio(above: F64, below: F64) -> F64:
    """NaN where there is nothing to divide by."""
    above, below = np.asarray(above, np.float64), np.asarray(below, np.float64)
    return np.asarray(np.divide(above, below, out=np.full(below.shape, np.nan), where=below > 0))
