"""How near predicted numbers are to gold ones: errors, explained variance, correlations.

Everything but Spearman's is a function of the sums of eight columns (`number_sums`), so that resamples are cheap. A
correlation with a constant is 0; R2 of a constant gold is 1 where it is met exactly and 0 otherwise.
"""

from __future__ import annotations

import numpy as np

from sparkml.measures.arrays import F64, check_lengths, ratio
from sparkml.measures.ranking import mean_ranks

ROWS, ABSOLUTE, SQUARED, GOLD, PREDICTED, GOLD_2, PREDICTED_2, PRODUCT = range(8)


def number_sums(gold: F64, predicted: F64) -> F64:
    """[n_rows, 8]: 1, |error|, error^2, gold, predicted, gold^2, predicted^2, gold x predicted.

    The last five are of numbers less their means over these rows, because squares of large numbers leave nothing of a
    small variance. So rows of one call may be summed in any choice, but not with those of another call.
    """
    check_lengths(gold=len(gold), predicted=len(predicted))
    error = predicted - gold
    near = gold - gold.mean() if len(gold) else gold
    guess = predicted - predicted.mean() if len(gold) else predicted
    columns = (np.ones(len(gold)), np.abs(error), error**2, near, guess, near**2, guess**2, near * guess)
    return np.stack(columns, axis=1)


def rmse_of(sums: F64) -> F64:
    """Root of the mean squared error, [...]; sums are [..., 8]."""
    return np.sqrt(ratio(sums[..., SQUARED], sums[..., ROWS]))


def mae_of(sums: F64) -> F64:
    """Mean absolute error, [...]; sums are [..., 8]."""
    return ratio(sums[..., ABSOLUTE], sums[..., ROWS])


def r2_of(sums: F64) -> F64:
    """1 - squared error / squared distance of gold from its mean, [...]; sums are [..., 8]."""
    spread = _spread(sums, GOLD, GOLD_2)
    explained = 1 - ratio(sums[..., SQUARED], spread)
    of_constant = ((sums[..., SQUARED] == 0) & (sums[..., ROWS] > 0)).astype(np.float64)
    return np.where(spread > 0, explained, of_constant)


def pearson_of(sums: F64) -> F64:
    """Linear correlation, [...], -1 to 1; sums are [..., 8]."""
    both = _spread(sums, GOLD, GOLD_2) * _spread(sums, PREDICTED, PREDICTED_2)
    return np.clip(ratio(_covariation(sums), np.sqrt(both)), -1, 1)


def rmse(gold: F64, predicted: F64) -> float:
    """Root of the mean squared error; gold and predicted are float64[n]."""
    return float(rmse_of(number_sums(gold, predicted).sum(axis=0)))


def mae(gold: F64, predicted: F64) -> float:
    """Mean absolute error; gold and predicted are float64[n]."""
    return float(mae_of(number_sums(gold, predicted).sum(axis=0)))


def r2(gold: F64, predicted: F64) -> float:
    """Coefficient of determination; gold and predicted are float64[n]."""
    return float(r2_of(number_sums(gold, predicted).sum(axis=0)))


def pearson(gold: F64, predicted: F64) -> float:
    """Linear correlation of float64[n] and float64[n]."""
    return float(pearson_of(number_sums(gold, predicted).sum(axis=0)))


def spearman(gold: F64, predicted: F64) -> float:
    """Linear correlation of the ranks, ties by mean ranks (Spearman 1904)."""
    return pearson(mean_ranks(gold), mean_ranks(predicted))


def _covariation(sums: F64) -> F64:
    return sums[..., PRODUCT] - ratio(sums[..., GOLD] * sums[..., PREDICTED], sums[..., ROWS])


def _spread(sums: F64, value: int, square: int) -> F64:
    """Sum of squared distances from the mean; what rounding leaves of a constant is 0."""
    spread = sums[..., square] - ratio(sums[..., value] ** 2, sums[..., ROWS])
    return np.where(spread > 1e-14 * sums[..., square], spread, 0.0)
