"""Which labels are taken for which: only the pairs that occur, so that 100,000 labels need no square matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparkml.errors import InputError
from sparkml.measures.arrays import I64, check_labels, check_lengths
from sparkml.measures.counts import LabelCounts

DENSE_LABELS = 2000  # a matrix of so many labels has 32 MB
_COUNTED_CELLS = 1 << 20  # up to here counting every possible pair is faster than sorting the rows


@dataclass(frozen=True)
class Confusion:
    """Pairs of labels that occur: gold int64[m], predicted int64[m], count int64[m], sorted by gold, then predicted."""

    gold: I64
    predicted: I64
    count: I64
    n_labels: int

    def dense(self) -> I64:
        """[n_labels, n_labels] counts: rows are gold labels, columns predicted ones. InputError above 2,000 labels."""
        if self.n_labels > DENSE_LABELS:
            raise InputError(
                "too many labels for a confusion matrix",
                got=f"{self.n_labels} labels",
                expected=f"{DENSE_LABELS} at most",
                next_action="take the pairs that occur, or most_confused(k)",
            )
        matrix = np.zeros((self.n_labels, self.n_labels), np.int64)
        matrix[self.gold, self.predicted] = self.count
        return matrix

    def most_confused(self, k: int) -> Confusion:
        """The k wrong pairs with the largest counts, largest first; ties by gold, then predicted label."""
        wrong = np.flatnonzero(self.gold != self.predicted)
        order = wrong[np.argsort(-self.count[wrong], kind="stable")][:k]
        return Confusion(self.gold[order], self.predicted[order], self.count[order], self.n_labels)

    def label_counts(self) -> LabelCounts:
        """Right, predicted and gold rows of every label, int64[n_labels]."""
        right = self.gold == self.predicted
        return LabelCounts(
            _sums(self.gold[right], self.count[right], self.n_labels),
            _sums(self.predicted, self.count, self.n_labels),
            _sums(self.gold, self.count, self.n_labels),
        )


def confusion(gold: I64, predicted: I64, n_labels: int) -> Confusion:
    """Count the pairs (gold, predicted), both int64[n_rows] of indices below n_labels."""
    check_lengths(gold=len(gold), predicted=len(predicted))
    check_labels("gold", gold, n_labels)
    check_labels("predicted", predicted, n_labels)
    codes = gold.astype(np.int64) * n_labels + predicted
    if n_labels * n_labels <= _COUNTED_CELLS:
        every = np.bincount(codes, minlength=n_labels * n_labels)
        found = np.flatnonzero(every)
        count = every[found]
    else:
        found, count = np.unique(codes, return_counts=True)
    return Confusion(found // n_labels, found % n_labels, count.astype(np.int64), n_labels)


def _sums(labels: I64, count: I64, n_labels: int) -> I64:
    return np.bincount(labels, weights=count, minlength=n_labels).astype(np.int64)
