"""How far a figure may be off because other rows could have been drawn: bootstrap and Wilson intervals.

Rows are the units (documents, not their tokens). Statistics that are functions of sums over rows take the sums
[resamples, k] and return [resamples]; every other one takes row indices, which is slower by orders of magnitude.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from sparkml.errors import InputError
from sparkml.measures.arrays import F64, I64
from sparkml.measures.confusion import Confusion
from sparkml.measures.counts import LabelCounts
from sparkml.measures.resampling import Rows, Together, resampled_label_counts, resampled_sums

OfSums = Callable[[F64], F64]  # sums [..., k] to figures [...]
OfRows = Callable[[I64], float]  # row indices, drawn with replacement, to a figure


@dataclass(frozen=True)
class Interval:
    """Bounds that hold the figure of the whole population with probability `level`; NaN where there is no figure."""

    low: float
    high: float
    level: float


@dataclass(frozen=True)
class Difference:
    """Figure of the first model less that of the second on the same rows.

    `p_value` is two-sided: how often a difference as far on the other side of 0 comes from resampling alone.
    """

    value: float
    interval: Interval
    p_value: float


def percentile_interval(figures: F64, level: float = 0.95) -> Interval:
    """The percentile interval of a figure's resamples, float64[resamples] (Efron and Tibshirani 1993, chapter 13).

    Resamples without a figure (NaN) are left out.
    """
    if not 0 < level < 1:
        raise InputError("a level outside 0 and 1", got=str(level), expected="for example 0.95")
    known = figures[~np.isnan(figures)]
    if not len(known):
        return Interval(float("nan"), float("nan"), level)
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level)


def bootstrap_sums(
    rows: Rows, statistic: OfSums, *, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Interval of a statistic of the sums over rows.

    rows: numbers [n_rows, k], or what makes them a block at a time (`Rows`). A mean divides by the sum of a column of
    ones, because resamples of many rows do not all draw the same number (`resampling`).
    """
    return percentile_interval(statistic(resampled_sums(rows, resamples, seed)), level)


def bootstrap_labels(
    pairs: Confusion,
    statistics: Mapping[str, Callable[[LabelCounts], F64]],
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Intervals of statistics of the counts of labels, all of them on the same resamples of the pairs' rows."""
    figures: dict[str, list[F64]] = {name: [] for name in statistics}
    if len(pairs.count):
        for counts in resampled_label_counts(pairs, resamples, seed):
            for name, statistic in statistics.items():
                figures[name].append(statistic(counts))
    nothing = np.empty(0)
    return {name: percentile_interval(np.concatenate([nothing, *of]), level) for name, of in figures.items()}


def bootstrap_rows(
    n_rows: int, statistic: OfRows, *, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Interval of any figure of rows: `statistic` gets int64[n_rows] indices, drawn with replacement."""
    figures = [statistic(drawn) for drawn in resampled_rows(n_rows, resamples, seed)]
    return percentile_interval(np.array(figures, np.float64), level)


def paired_bootstrap(
    first: Rows,
    second: Rows,
    statistic: OfSums,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Difference of two models that answered the same rows, on the same resamples (Berg-Kirkpatrick et al. 2012).

    first, second: [n_rows, k] sums of the models, row by row the same documents; statistic as in `bootstrap_sums`.
    """
    both = Together(first, second)
    width = first[0:0].shape[1]
    sums = resampled_sums(both, resamples, seed)
    whole = np.zeros(sums.shape[1])
    for start in range(0, len(both), 4096):
        whole += np.asarray(both[start : start + 4096], np.float64).sum(axis=0)
    value = float(statistic(whole[:width]) - statistic(whole[width:]))
    return _difference(value, statistic(sums[:, :width]) - statistic(sums[:, width:]), level)


def paired_bootstrap_rows(
    n_rows: int,
    first: OfRows,
    second: OfRows,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Difference of any two figures of the same rows, on the same resamples; each gets int64[n_rows] indices."""
    every = np.arange(n_rows)
    drawn = resampled_rows(n_rows, resamples, seed)
    figures = np.array([first(rows) - second(rows) for rows in drawn], np.float64)
    return _difference(first(every) - second(every), figures, level)


def resampled_rows(n_rows: int, resamples: int, seed: int) -> Iterator[I64]:
    """Row indices of every resample, int64[n_rows], drawn with replacement."""
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        yield rng.integers(0, n_rows, n_rows) if n_rows else np.empty(0, np.int64)


def wilson_interval(successes: int, n: int, level: float = 0.95) -> Interval:
    """Interval of a proportion (Wilson 1927): within 0 and 1, and of use with few rows or a proportion near 0 or 1."""
    if not 0 <= successes <= n:
        raise InputError("no such proportion", got=f"{successes} of {n}", expected="0 to n successes")
    if not n:
        return Interval(0.0, 1.0, level)
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = successes / n
    middle = share + z * z / (2 * n)
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return Interval(max(0.0, float((middle - half) / scale)), min(1.0, float((middle + half) / scale)), level)


def _difference(value: float, figures: F64, level: float) -> Difference:
    """Two-sided p by inversion of the percentile interval, never 0 (Davison and Hinkley 1997, section 4.4)."""
    known = figures[~np.isnan(figures)]
    tail = min(np.count_nonzero(known <= 0), np.count_nonzero(known >= 0))
    p_value = min(1.0, 2 * (1 + tail) / (1 + len(known)))
    return Difference(value, percentile_interval(figures, level), float(p_value))
