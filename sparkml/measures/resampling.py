"""How often each row is drawn in each resample, and the sums of rows under these counts.

The bootstrap (Efron 1979) draws n of n rows with replacement. A statistic that is a function of sums over rows needs
the counts alone, so resamples are matrix products: counts [resamples, rows] times rows [rows, k], block by block.

Up to `EXACT_ROWS` rows the counts are multinomial, that is, exactly n draws a resample. Above, every row's count is an
independent Poisson(1) number (Chamandy et al. 2012, Estimating uncertainty for massive data streams; Hanley and
MacGibbon 2006): the number of draws then varies by sqrt(n), so that a mean has to divide by the sum of a column of
ones, as all means here do. What differs in the result is of the order 1/n.

The same number of rows, resamples and seed give the same counts: models that are measured on the same rows are
compared on the same resamples.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from sparkml.measures.arrays import F64, I64, Numbers, check_lengths, row_blocks
from sparkml.measures.confusion import Confusion
from sparkml.measures.counts import LabelCounts

EXACT_ROWS = 10_000
_AT_ONCE = 1000  # resamples drawn together
_BLOCK_CELLS = 1 << 18  # counts of a block: 2 MiB of float64, what a processor's cache holds
_DRAW_COST = 12  # a multinomial draw of a cell costs as much as drawing so many rows
# How many of 65,536 equally probable numbers stand for 0, 1, 2, ... draws: Poisson(1) rounded so that mean and variance
# are exactly 1.
_POISSON = (24109, 24109, 12056, 4018, 1005, 200, 33, 5, 1)


class Rows(Protocol):
    """Rows of k numbers that are made when a block of them is asked for; an array [n_rows, k] is one too."""

    def __len__(self) -> int: ...

    def __getitem__(self, block: slice, /) -> Numbers: ...


class Together:
    """Rows of two models on the same documents, side by side: [n_rows, k + l]."""

    def __init__(self, left: Rows, right: Rows) -> None:
        check_lengths(left=len(left), right=len(right))
        self.left, self.right = left, right

    def __len__(self) -> int:
        return len(self.left)

    def __getitem__(self, block: slice, /) -> Numbers:
        return np.concatenate([self.left[block], self.right[block]], axis=1)


def resample_counts(n_rows: int, resamples: int, seed: int) -> Iterator[tuple[slice, slice, F64]]:
    """Blocks (resamples, rows, counts): counts is float64[resamples of the block, rows of the block].

    The array is used again for the next block; who keeps it, copies it.
    """
    for number, first in enumerate(range(0, resamples, _AT_ONCE)):
        which = slice(first, min(first + _AT_ONCE, resamples))
        generator = np.random.SFC64(np.random.SeedSequence(seed, spawn_key=(number,)))
        draw = _exact_counts if n_rows <= EXACT_ROWS else _poisson_counts
        for rows, counts in draw(n_rows, which.stop - which.start, generator):
            yield which, rows, counts


def resampled_sums(rows: Rows, resamples: int, seed: int) -> F64:
    """Sums of the rows under every resample, float64[resamples, k]; rows is an array [n_rows, k] or makes one."""
    width = rows[0:0].shape[1]
    sums = np.zeros((resamples, width))
    for which, block, counts in resample_counts(len(rows), resamples, seed):
        sums[which] += counts @ np.asarray(rows[block], np.float64)
    return sums


def resampled_label_counts(pairs: Confusion, resamples: int, seed: int) -> Iterator[LabelCounts]:
    """Right, predicted and gold rows of every label under resamples, in chunks [chunk, labels that occur].

    Rows of the same gold and predicted label are alike, so that the counts of the pairs are multinomial: a million
    rows of ten labels cost a hundred draws a resample. Labels that never occur are left out.
    """
    occurring = np.unique(np.concatenate([pairs.gold, pairs.predicted]))
    gold, predicted = (np.searchsorted(occurring, labels) for labels in (pairs.gold, pairs.predicted))
    right = gold == predicted
    rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed)))
    for chunk in row_blocks(resamples, len(gold) + 3 * len(occurring)):
        counts = _draw_pairs(rng, pairs.count, chunk.stop - chunk.start)
        yield LabelCounts(
            _by_label(counts[:, right], gold[right], len(occurring)),
            _by_label(counts, predicted, len(occurring)),
            _by_label(counts, gold, len(occurring)),
        )


def _exact_counts(n_rows: int, resamples: int, source: np.random.SFC64) -> Iterator[tuple[slice, F64]]:
    rng = np.random.Generator(source)
    counts = np.empty((resamples, n_rows), np.int16)
    for row in counts:
        row[:] = np.bincount(rng.integers(0, n_rows, n_rows), minlength=n_rows) if n_rows else 0
    for block in row_blocks(n_rows, resamples, _BLOCK_CELLS):
        yield block, counts[:, block].astype(np.float64)


def _poisson_counts(n_rows: int, resamples: int, source: np.random.SFC64) -> Iterator[tuple[slice, F64]]:
    table = np.repeat(np.arange(len(_POISSON), dtype=np.float64), _POISSON)
    buffer = np.empty(max(_BLOCK_CELLS, resamples))
    for block in row_blocks(n_rows, resamples, _BLOCK_CELLS):
        cells = resamples * (block.stop - block.start)
        numbers = np.asarray(source.random_raw((cells + 3) // 4), np.uint64).view(np.uint16)[:cells]
        drawn = np.take(
            table, numbers, out=buffer[:cells], mode="clip"
        )  # "clip": without a check of every number
        yield block, drawn.reshape(resamples, -1)


def _draw_pairs(rng: np.random.Generator, count: I64, resamples: int) -> I64:
    """Counts of the pairs in resamples, int64[resamples, m]: by pair or by row, whichever takes fewer draws."""
    n_rows = int(count.sum())
    if len(count) * _DRAW_COST <= n_rows:
        return rng.multinomial(n_rows, count / n_rows, size=resamples)
    pair_of_row = np.repeat(np.arange(len(count)), count)
    drawn = np.empty((resamples, len(count)), np.int64)
    for row in drawn:
        row[:] = np.bincount(pair_of_row[rng.integers(0, n_rows, n_rows)], minlength=len(count))
    return drawn


def _by_label(counts: I64, labels: I64, n_labels: int) -> I64:
    """Sums over the pairs of a label: [resamples, m] with the pairs' labels [m] to [resamples, n_labels]."""
    sums = np.zeros((len(counts), n_labels), np.int64)
    if len(labels):
        order = np.argsort(labels, kind="stable")
        present, first = np.unique(labels[order], return_index=True)
        sums[:, present] = np.add.reduceat(counts[:, order], first, axis=1)
    return sums
