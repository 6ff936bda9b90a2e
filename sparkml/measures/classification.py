"""Figures of a classifier: one label a row from counts and probabilities, several labels a row from Boolean matrices.

What is a function of `LabelCounts` works on leading axes too, so that a thousand resamples are measured at once.
"""

from __future__ import annotations

import numpy as np

from sparkml.measures.arrays import F64, I64, Flags, Numbers, check_labels, check_lengths, ratio, row_blocks
from sparkml.measures.confusion import confusion
from sparkml.measures.counts import LabelCounts


def label_counts(gold: I64, predicted: I64, n_labels: int) -> LabelCounts:
    """Right, predicted and gold rows of every label; gold and predicted are int64[n_rows]."""
    return confusion(gold, predicted, n_labels).label_counts()


def accuracy(counts: LabelCounts) -> F64:
    """Share of the rows whose one label is right, [...]."""
    return ratio(counts.hits.sum(-1), counts.gold.sum(-1))


def balanced_accuracy(counts: LabelCounts) -> F64:
    """Mean recall of the labels that have gold rows, [...] (Brodersen et al. 2010)."""
    return ratio(counts.recall.sum(-1), (counts.gold > 0).sum(-1))


def matthews(counts: LabelCounts) -> F64:
    """Correlation between gold and predicted labels, [...], -1 to 1 (Matthews 1975; R_K of Gorodkin 2004)."""
    gold, predicted = counts.gold.astype(np.float64), counts.predicted.astype(np.float64)
    rows = gold.sum(-1)
    covariance = counts.hits.sum(-1) * rows - (gold * predicted).sum(-1)
    spread = (rows**2 - (gold**2).sum(-1)) * (rows**2 - (predicted**2).sum(-1))
    return ratio(covariance, np.sqrt(spread))


def row_log_loss(gold: I64, probabilities: Numbers) -> F64:
    """-ln of the probability of each row's gold label, float64[n_rows]; probabilities are [n_rows, n_labels].

    Probabilities are kept one rounding unit of their type away from 0 and 1, as in scikit-learn.
    """
    check_lengths(gold=len(gold), probabilities=len(probabilities))
    check_labels("gold", gold, probabilities.shape[1])
    of_gold = probabilities[np.arange(len(gold)), gold]
    unit = float(np.finfo(probabilities.dtype).eps)
    return np.asarray(-np.log(np.clip(of_gold.astype(np.float64), unit, 1 - unit)))


def log_loss(gold: I64, probabilities: Numbers) -> float:
    """Mean of `row_log_loss` in nats; 0 without rows."""
    losses = row_log_loss(gold, probabilities)
    return float(losses.mean()) if len(losses) else 0.0


def in_top_k(gold: I64, scores: Numbers, k: int) -> Flags:
    """Whether a row's gold label is among the k with the highest scores, bool[n_rows]; scores are [n_rows, n_labels].

    Of equal scores the label that comes first wins, as with argmax: the top 1 are exactly the right predictions.
    """
    check_lengths(gold=len(gold), scores=len(scores))
    n_labels = scores.shape[1]
    check_labels("gold", gold, n_labels)
    among = np.empty(len(gold), bool)
    columns = np.arange(n_labels)
    for block in row_blocks(len(gold), n_labels):
        of_gold = scores[block][np.arange(block.stop - block.start), gold[block]][:, None]
        before = (scores[block] == of_gold) & (columns < gold[block][:, None])
        among[block] = np.count_nonzero((scores[block] > of_gold) | before, axis=1) < k
    return among


def top_k_accuracy(gold: I64, scores: Numbers, k: int) -> float:
    """Share of the rows whose gold label is among the k highest scores; 0 without rows."""
    among = in_top_k(gold, scores, k)
    return float(among.mean()) if len(among) else 0.0


def multilabel_counts(gold: Flags, predicted: Flags) -> LabelCounts:
    """Right, predicted and gold rows of every label; gold and predicted are bool[n_rows, n_labels]."""
    check_lengths(gold=len(gold), predicted=len(predicted))
    hits = np.count_nonzero(gold & predicted, axis=0)
    return LabelCounts(hits, np.count_nonzero(predicted, axis=0), np.count_nonzero(gold, axis=0))


def subset_accuracy(gold: Flags, predicted: Flags) -> float:
    """Share of the rows whose whole set of labels is right; 0 without rows."""
    check_lengths(gold=len(gold), predicted=len(predicted))
    return float((gold == predicted).all(axis=1).mean()) if len(gold) else 0.0


def hamming_loss(gold: Flags, predicted: Flags) -> float:
    """Share of the cells (a row's yes or no to a label) that are wrong; 0 without cells."""
    check_lengths(gold=len(gold), predicted=len(predicted))
    return float((gold != predicted).mean()) if gold.size else 0.0
