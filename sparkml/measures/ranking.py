"""How well scores put the positive rows before the negative ones, whatever the threshold. Ties count as half."""

from __future__ import annotations

import numpy as np

from sparkml.measures.arrays import F64, Flags, Numbers, check_lengths


def mean_ranks(values: Numbers) -> F64:
    """Ranks 1 to n by increasing value, float64[n]; equal values share the mean of their ranks."""
    order = np.argsort(values, kind="stable")
    in_order = values[order]
    first = np.flatnonzero(np.r_[True, in_order[1:] != in_order[:-1]][: len(values)])
    sizes = np.diff(np.r_[first, len(values)])
    ranks = np.empty(len(values))
    ranks[order] = np.repeat(first + (sizes + 1) / 2, sizes)
    return ranks


def roc_auc(positive: Flags, scores: Numbers) -> float:
    """Probability that a positive row scores higher than a negative one, ties counted as half.

    positive is bool[n], scores [n]. The area under the ROC curve equals the statistic of Mann and Whitney (Hanley and
    McNeil 1982). NaN where one of the two kinds is missing: the area is then not defined.
    """
    check_lengths(positive=len(positive), scores=len(scores))
    n_positive = int(np.count_nonzero(positive))
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        return float("nan")
    rank_sum = mean_ranks(scores)[positive].sum()
    return float((rank_sum - n_positive * (n_positive + 1) / 2) / n_positive / n_negative)


def average_precision(positive: Flags, scores: Numbers) -> float:
    """Precision at every threshold, weighted by the recall that it adds; 0 without positive rows.

    positive is bool[n], scores [n]. Not interpolated; rows of equal score enter together, as in scikit-learn.
    """
    check_lengths(positive=len(positive), scores=len(scores))
    if not np.any(positive):
        return 0.0
    order = np.argsort(scores, kind="stable")[::-1]
    in_order = scores[order]
    last = np.flatnonzero(np.r_[in_order[1:] != in_order[:-1], True])
    found = np.cumsum(positive[order])[last]
    added = np.diff(np.r_[0, found])
    return float((added * found / (last + 1)).sum() / found[-1])
