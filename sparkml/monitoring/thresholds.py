"""What a statistic does without drift, learnt from windows in which there was none, and how rare a value is then.

Rows of a window are no independent draws: days differ, customers send ten texts at once. A statistic that grows with
the rows (`statistics.in_rows`) is without drift on average

    mean (1 + excess rows)

`mean` is what drawing rows at random gives, which is tried (`sampling`); `excess` is what windows of the past had more
than that, for each row. What remains after the division varies as a gamma distribution of the `shape` of either,
the wider one. `mean` and `excess` come from few windows themselves: so its quantiles are those of F, as the ratio of
two estimates has them (the quasi-likelihood test of McCullagh and Nelder 1989, section 9.2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

# Windows of the past that tell something of how windows differ; with fewer, rows count as drawn at random.
FEWEST_WINDOWS = 8
_DRAWS = 400
# Shape of chi-square with one degree of freedom.
_ONE_DEGREE = 0.5


@dataclass(frozen=True)
class Norm:
    """How large a statistic is without drift."""

    mean: float
    shape: float
    excess: float = 0.0
    windows: int = 0
    relative: tuple[float, ...] = ()  # of each window of the past the value beside its mean

    @property
    def is_learnt(self) -> bool:
        """Whether it follows from enough windows of the past, not from random draws alone."""
        return self.windows >= FEWEST_WINDOWS

    def p_value(self, scaled: float, rows: float) -> float:
        """How often a window of so many rows has this value or more without drift."""
        relative, degrees = scaled / self._size(rows), 2 * self.shape
        if self.is_learnt:
            return float(special.fdtrc(degrees, degrees * self.windows, relative))
        return float(special.gammaincc(self.shape, self.shape * relative))

    def limit(self, p_value: float, rows: float) -> float:
        """The value that a window of so many rows reaches with this probability without drift."""
        return _quantile(self.shape, self.windows if self.is_learnt else 0, p_value) * self._size(rows)

    def _size(self, rows: float) -> float:
        return self.mean * (1 + self.excess * rows)


@lru_cache(maxsize=4096)
def _quantile(shape: float, windows: int, p_value: float) -> float:
    if windows:
        return float(stats.f.isf(p_value, 2 * shape, 2 * shape * windows))
    return float(special.gammainccinv(shape, p_value) / shape)


def learn(scaled: ArrayLike, rows: ArrayLike, *, mean: float, shape: float) -> Norm:
    """The norm from windows of the past: a statistic's values in them and their rows.

    `mean` and `shape` are what random draws give.
    """
    values, sizes = np.asarray(scaled, float), np.asarray(rows, float)
    if len(values) < FEWEST_WINDOWS:
        return Norm(mean, shape, windows=len(values))
    more = float(np.mean(values)) / mean - 1
    excess = max(0.0, more / float(np.mean(sizes)))
    relative = values / (mean * (1 + excess * sizes))
    # The variance of so few values is itself uncertain: only what is more than its standard error counts.
    error = np.sqrt(2 / (len(values) - 1) + 6 / (shape * len(values)))
    variance = max(1 / shape, float(np.var(relative, ddof=1)) / (1 + error))
    return Norm(mean, 1 / variance, excess, len(values), tuple(relative.tolist()))


def independent_tests(norms: Sequence[Norm]) -> float:
    """How many independent tests these are worth (Galwey 2009): texts of more words have more characters, too.

    From the eigenvalues of the correlations of their values in the windows of the past.
    """
    most = max((len(norm.relative) for norm in norms), default=0)
    if most < FEWEST_WINDOWS:
        return float(len(norms))
    known = [norm.relative for norm in norms if len(norm.relative) == most and np.ptp(norm.relative) > 0]
    if len(known) < 2:
        return float(len(norms))
    values = np.maximum(np.linalg.eigvalsh(np.corrcoef(known)), 0.0)
    together = float(np.sqrt(values).sum() ** 2 / values.sum())
    return together + len(norms) - len(known)


def sampling(
    statistic: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]],
    shares: ArrayLike,
    rows: int,
    reference_rows: int,
    seed: int,
) -> tuple[float, float]:
    """Mean and shape of a statistic of two samples that are drawn at random from the same `shares` of bins.

    Of bins that are all but one nearly empty it is 0 mostly, and says nothing of how often there are a few rows: no
    less is taken than of two bins of half of the rows each (one degree of freedom).
    """
    chance = np.random.Generator(np.random.PCG64(seed))
    least, _ = _moments(statistic, [0.5, 0.5], rows, reference_rows, chance)
    mean, variance = _moments(statistic, shares, rows, reference_rows, chance)
    shape = mean**2 / variance if variance > 0 else 0.0
    return max(mean, least), max(shape, _ONE_DEGREE)


def _moments(
    statistic: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]],
    shares: ArrayLike,
    rows: int,
    reference_rows: int,
    chance: np.random.Generator,
) -> tuple[float, float]:
    p = np.asarray(shares, float)
    drawn = [chance.multinomial(max(1, n), p, size=_DRAWS) for n in (rows, reference_rows)]
    found = statistic(drawn[0], drawn[1])
    return float(np.mean(found)), float(np.var(found))
