"""Precision, recall and F1 from three sums a label: right, predicted, gold. The sums of batches may be added.

A ratio whose denominator is 0 is 0. F1 is 2 right / (predicted + gold), the harmonic mean of precision and recall
(van Rijsbergen, Information Retrieval, 1979).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparkml.measures.arrays import F64, Flags, Numbers, ratio


@dataclass(frozen=True)
class Averages:
    """Precision, recall and F1 over all labels; each has the counts' leading axes (none: 0-dimensional)."""

    precision: F64
    recall: F64
    f1: F64


@dataclass(frozen=True)
class LabelCounts:
    """What was right, what was predicted and what is gold, a label.

    Each array is [..., n_labels]: leading axes are resamples, batches or whatever is computed at once.
    """

    hits: Numbers
    predicted: Numbers
    gold: Numbers

    def __add__(self, other: LabelCounts) -> LabelCounts:
        """The counts of both, for the same labels."""
        return LabelCounts(self.hits + other.hits, self.predicted + other.predicted, self.gold + other.gold)

    @property
    def precision(self) -> F64:
        """Share of the predicted that is right, [..., n_labels]."""
        return ratio(self.hits, self.predicted)

    @property
    def recall(self) -> F64:
        """Share of the gold that was found, [..., n_labels]."""
        return ratio(self.hits, self.gold)

    @property
    def f1(self) -> F64:
        """Harmonic mean of precision and recall, [..., n_labels]."""
        return ratio(2 * self.hits, self.predicted + self.gold)

    @property
    def occurring(self) -> Flags:
        """Labels that are gold or predicted at least once, [..., n_labels]."""
        return np.asarray(self.predicted + self.gold > 0)

    def micro(self) -> Averages:
        """Over the sums of all labels: every row, or span, weighs the same."""
        hits, predicted, gold = self.hits.sum(-1), self.predicted.sum(-1), self.gold.sum(-1)
        return Averages(ratio(hits, predicted), ratio(hits, gold), ratio(2 * hits, predicted + gold))

    def macro(self, *, every_label: bool = False) -> Averages:
        """Every label weighs the same.

        Labels that are neither gold nor predicted stay out, as in scikit-learn and seqeval; with `every_label` they
        count as 0, which is what scikit-learn does with the columns of several labels a row.
        """
        among = np.ones(self.hits.shape, bool) if every_label else self.occurring
        return self._weighted_by(among)

    def weighted(self) -> Averages:
        """Every label weighs as much as it has gold."""
        return self._weighted_by(self.gold)

    def _weighted_by(self, weights: Numbers) -> Averages:
        total = weights.sum(-1)
        mean_of = [ratio((figure * weights).sum(-1), total) for figure in self._figures()]
        return Averages(*mean_of)

    def _figures(self) -> tuple[F64, F64, F64]:
        return self.precision, self.recall, self.f1
