"""The evaluation of a classifier that gives every row any number of labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sparkml.errors import InputError
from sparkml.measures.arrays import F64, I64, Flags, Numbers, as_floats, check_finite, check_lengths, ratio
from sparkml.measures.calibration import calibration_error, reliability_bins
from sparkml.measures.classification import hamming_loss, multilabel_counts, subset_accuracy
from sparkml.measures.counts import LabelCounts
from sparkml.measures.evaluation import (
    Evaluation,
    Mistake,
    Settings,
    average_metrics,
    label_figures,
    micro_metrics,
    slice_figures,
)
from sparkml.measures.intervals import Interval, percentile_interval
from sparkml.measures.mistakes import worst_rows
from sparkml.measures.resampling import resampled_sums
from sparkml.measures.slices import Columns

SEPARATOR = "|"  # between the labels of a row, as in the column `label`


def evaluate_multilabel(
    gold: Flags,
    probabilities: Numbers,
    labels: Sequence[str],
    ids: Sequence[str],
    *,
    threshold: float | F64 = 0.5,
    slices: Columns | None = None,
    settings: Settings | None = None,
) -> Evaluation:
    """Measure a classifier of several labels a row.

    gold: bool[n_rows, n_labels]. probabilities: [n_rows, n_labels], each label's own; a label is predicted from its
    threshold on, one for all or float64[n_labels]. Macro averages are over all labels. A row's confidence is the one of
    its most confident wrong label: the probability of a spurious one, 1 - probability of a missed one.
    """
    settings = settings or Settings()
    gold, probabilities = np.asarray(gold, bool), as_floats(probabilities)
    _check(gold, probabilities, labels, ids)
    predicted = probabilities >= np.asarray(threshold)
    counts = multilabel_counts(gold, predicted)
    sure = np.where(predicted, probabilities, 1 - probabilities)
    confidence = np.where(gold != predicted, sure, 0).max(axis=1, initial=0)
    bins = reliability_bins(probabilities.ravel(), gold.ravel(), settings.bins)

    def measure(rows: I64) -> dict[str, float]:
        return _metrics(gold[rows], predicted[rows])

    return Evaluation(
        n=len(gold),
        metrics=_metrics(gold, predicted) | {"ece": calibration_error(bins)},
        intervals=_intervals(gold, predicted, settings),
        slices=slice_figures(slices, len(gold), measure, settings),
        labels=label_figures(tuple(labels), counts),
        calibration=bins,
        worst=_worst(gold, predicted, confidence, labels, ids, settings.worst_rows),
    )


class _MultilabelRows:
    """[n_rows, 2 + 3 n_labels]: 1, whole set right, then right, predicted and gold of every label."""

    def __init__(self, gold: Flags, predicted: Flags) -> None:
        self.gold, self.predicted = gold, predicted

    def __len__(self) -> int:
        return len(self.gold)

    def __getitem__(self, block: slice, /) -> Flags:
        gold, predicted = self.gold[block], self.predicted[block]
        whole = (gold == predicted).all(axis=1, keepdims=True)
        return np.concatenate([np.ones_like(whole), whole, gold & predicted, predicted, gold], axis=1)


def _intervals(gold: Flags, predicted: Flags, settings: Settings) -> dict[str, Interval]:
    if not settings.resamples or not len(gold):
        return {}
    sums = resampled_sums(_MultilabelRows(gold, predicted), settings.resamples, settings.seed)
    hits, guessed, of_gold = np.split(sums[:, 2:], 3, axis=1)
    counts = LabelCounts(hits, guessed, of_gold)
    figures = {
        "micro_f1": counts.micro().f1,
        "macro_f1": counts.macro(every_label=True).f1,
        "weighted_f1": counts.weighted().f1,
        "subset_accuracy": ratio(sums[:, 1], sums[:, 0]),
    }
    return {name: percentile_interval(of, settings.level) for name, of in figures.items()}


def _metrics(gold: Flags, predicted: Flags) -> dict[str, float]:
    counts = multilabel_counts(gold, predicted)
    return {
        **micro_metrics(counts),
        **average_metrics(counts, every_label=True),
        "subset_accuracy": subset_accuracy(gold, predicted),
        "hamming_loss": hamming_loss(gold, predicted),
    }


def _worst(
    gold: Flags, predicted: Flags, confidence: Numbers, labels: Sequence[str], ids: Sequence[str], k: int
) -> tuple[Mistake, ...]:
    wrong = (gold != predicted).any(axis=1)
    return tuple(
        Mistake(
            str(ids[row]), _named(gold[row], labels), _named(predicted[row], labels), float(confidence[row])
        )
        for row in worst_rows(wrong, confidence, ids, k)
    )


def _named(flags: Flags, labels: Sequence[str]) -> str:
    return SEPARATOR.join(labels[index] for index in np.flatnonzero(flags).tolist())


def _check(gold: Flags, probabilities: Numbers, labels: Sequence[str], ids: Sequence[str]) -> None:
    check_lengths(gold=len(gold), probabilities=len(probabilities), ids=len(ids))
    if gold.shape != probabilities.shape or gold.ndim != 2 or gold.shape[1] != len(labels):
        raise InputError(
            "gold labels and probabilities do not fit the list of labels",
            got=f"arrays {list(gold.shape)} and {list(probabilities.shape)}",
            expected=f"[rows, {len(labels)}] both: a column for every label",
        )
    check_finite("probabilities", probabilities)
