"""The temperature that makes a classifier's probabilities honest: softmax(logits / T) (Guo et al. 2017).

One number, fitted on held-out rows; predictions stay what they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparkml.errors import InputError
from sparkml.measures.arrays import I64, Numbers, check_finite, check_labels, check_lengths, row_blocks

LOWEST, HIGHEST = 0.05, 20.0
_STEPS = 60
_CLOSE = 1e-9  # relative width of the bracket at which the search ends


@dataclass(frozen=True)
class Temperature:
    """The fitted temperature, and the mean log loss in nats without and with it.

    A value at a bound means that the rows do not determine it: none is wrong, or the logits say nothing.
    """

    value: float
    loss_before: float
    loss: float


def fit_temperature(
    gold: I64, logits: Numbers, lowest: float = LOWEST, highest: float = HIGHEST
) -> Temperature:
    """The temperature between `lowest` and `highest` that minimises the log loss.

    gold: int64[n_rows]; logits: [n_rows, n_labels]. The loss is convex in 1 / T, so that Newton's steps, kept inside a
    bracket that shrinks by halves where they leave it, cannot miss the minimum.
    """
    check_lengths(gold=len(gold), logits=len(logits))
    check_labels("gold", gold, logits.shape[1])
    check_finite("logits", logits)
    if not len(gold) or not 0 < lowest < highest:
        raise InputError(
            "no temperature can be fitted",
            got=f"{len(gold)} rows, bounds {lowest} and {highest}",
            expected="held-out rows, and 0 < lowest < highest",
        )
    inverse = _minimum(gold, logits, 1 / highest, 1 / lowest)
    return Temperature(1 / inverse, _loss_at(1.0, gold, logits)[0], _loss_at(inverse, gold, logits)[0])


def _minimum(gold: I64, logits: Numbers, low: float, high: float) -> float:
    """Where the slope of the loss is 0 between two values of 1 / T, or the bound that is nearest to it."""
    for bound, sign in ((low, 1), (high, -1)):
        if sign * _loss_at(bound, gold, logits)[1] >= 0:
            return bound
    inverse = min(max(1.0, low), high)
    for _ in range(_STEPS):
        _, slope, curvature = _loss_at(inverse, gold, logits)
        low, high = (low, inverse) if slope > 0 else (inverse, high)
        step = slope / curvature if curvature > 0 else np.inf
        if abs(step) <= _CLOSE * inverse or high - low <= _CLOSE * high:
            break
        # Outside the bracket Newton's step is of no use: its middle by ratio, since temperatures differ by factors.
        inverse = inverse - step if low < inverse - step < high else float(np.sqrt(low * high))
    return inverse


def _loss_at(inverse: float, gold: I64, logits: Numbers) -> tuple[float, float, float]:
    """Mean log loss at 1 / T, and its first and second derivatives: gaps of means, and variances, of the logits."""
    totals = np.zeros(3)
    for block in row_blocks(len(gold), logits.shape[1]):
        values = logits[block].astype(np.float64)
        values -= values.max(axis=1, keepdims=True)
        of_gold = values[np.arange(len(values)), gold[block]]
        weights = np.exp(inverse * values)
        norm = weights.sum(axis=1)
        mean = np.einsum("ij,ij->i", weights, values) / norm
        square = np.einsum("ij,ij,ij->i", weights, values, values) / norm
        totals += (
            (np.log(norm) - inverse * of_gold).sum(),
            (mean - of_gold).sum(),
            (square - mean**2).sum(),
        )
    loss, slope, curvature = totals / len(gold)
    return float(loss), float(slope), float(curvature)
