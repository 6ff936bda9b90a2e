"""How far two samples are apart, from their counts by bin. Several pairs at once: the last axis is that of the bins."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
# Added to every bin where a logarithm would not know an empty one.
_SMOOTHING = 0.5


def effective_rows(first: ArrayLike, second: ArrayLike) -> Floats:
    """n m / (n + m): the variance of a difference of means of n and of m rows is that of one mean of so many."""
    n, m = np.asarray(first, float), np.asarray(second, float)
    found: Floats = np.divide(n * m, n + m, out=np.zeros(np.broadcast(n, m).shape), where=n + m > 0)
    return found


def chi_square(first: ArrayLike, second: ArrayLike) -> Floats:
    """Pearson's statistic of homogeneity; without drift chi-square distributed with (bins with rows - 1) degrees."""
    a, b = np.asarray(first, float), np.asarray(second, float)
    n, m = a.sum(-1, keepdims=True), b.sum(-1, keepdims=True)
    both = a + b
    ratio = np.sqrt(np.divide(m, n, out=np.ones(np.broadcast(n, m).shape), where=(n > 0) & (m > 0)))
    difference = (a * ratio - b / ratio) ** 2
    found: Floats = np.divide(difference, both, out=np.zeros_like(difference), where=both > 0).sum(-1)
    return found


def jensen_shannon(first: ArrayLike, second: ArrayLike) -> Floats:
    """Jensen-Shannon divergence in bits, 0 to 1 (Lin 1991)."""
    p, q = _shares(first), _shares(second)
    middle = (p + q) / 2
    found: Floats = np.maximum((_relative(p, middle) + _relative(q, middle)) / (2 * np.log(2)), 0.0)
    return found


def population_stability(first: ArrayLike, second: ArrayLike) -> Floats:
    """Population stability index: sum of (p - q) ln(p / q); each bin has half a row more."""
    p, q = (_shares(np.asarray(counts, float) + _SMOOTHING) for counts in (first, second))
    found: Floats = ((p - q) * np.log(p / q)).sum(-1)
    return found


def kolmogorov_smirnov(first: ArrayLike, second: ArrayLike) -> Floats:
    """Largest distance of the distribution functions at the edges of ordered bins, 0 to 1."""
    p, q = _shares(first), _shares(second)
    found: Floats = np.abs(np.cumsum(p - q, -1)).max(-1)
    return found


def _shares(counts: ArrayLike) -> Floats:
    found = np.asarray(counts, float)
    total = found.sum(-1, keepdims=True)
    shares: Floats = np.divide(found, total, out=np.zeros_like(found), where=total > 0)
    return shares


def _relative(p: Floats, q: Floats) -> Floats:
    """Kullback-Leibler divergence in nats."""
    ratio = np.divide(p, q, out=np.ones(np.broadcast(p, q).shape), where=(p > 0) & (q > 0))
    found: Floats = (p * np.log(ratio)).sum(-1)
    return found


STATISTICS: Mapping[str, Callable[[ArrayLike, ArrayLike], Floats]] = {
    "ks": kolmogorov_smirnov,
    "js": jensen_shannon,
    "psi": population_stability,
    "chi_square": chi_square,
}
# Of which power of the value the size without drift falls as 1 / rows; chi-square has the rows in itself.
_POWERS = {"ks": 2.0, "js": 1.0, "psi": 1.0}


def in_rows(name: str, value: ArrayLike, rows: ArrayLike) -> Floats:
    """A statistic's value times the effective rows, so that what it is without drift does not depend on them."""
    found = np.asarray(value, float)
    return found if name == "chi_square" else found ** _POWERS[name] * np.asarray(rows, float)


def of_rows(name: str, scaled: float, rows: float) -> float:
    """The inverse of `in_rows`."""
    if name == "chi_square":
        return scaled
    return float((scaled / rows) ** (1 / _POWERS[name])) if rows else float("inf")
