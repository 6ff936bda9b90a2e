"""The evaluation of a classifier that gives every row one label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from sparkml.errors import InputError
from sparkml.measures.arrays import (
    F64,
    I64,
    Flags,
    Numbers,
    as_floats,
    check_finite,
    check_labels,
    check_lengths,
    ratio,
    row_blocks,
)
from sparkml.measures.calibration import (
    ReliabilityBin,
    calibration_error,
    expected_calibration_error,
    reliability_bins,
    row_brier,
)
from sparkml.measures.classification import accuracy, balanced_accuracy, in_top_k, matthews, row_log_loss
from sparkml.measures.confusion import Confusion, confusion
from sparkml.measures.counts import LabelCounts
from sparkml.measures.evaluation import (
    ConfusionCell,
    Evaluation,
    Mistake,
    Settings,
    average_metrics,
    label_figures,
    slice_figures,
)
from sparkml.measures.intervals import Interval, bootstrap_labels, percentile_interval
from sparkml.measures.mistakes import worst_rows
from sparkml.measures.ranking import average_precision, roc_auc
from sparkml.measures.resampling import resampled_sums
from sparkml.measures.slices import Columns

_OF_COUNTS: dict[str, Callable[[LabelCounts], F64]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": lambda counts: counts.macro().f1,
    "weighted_f1": lambda counts: counts.weighted().f1,
    "matthews": matthews,
}


@dataclass(frozen=True)
class _Answers:
    """Rows of a classifier: gold and predicted labels, the confidence in the latter, losses; all [n_rows]."""

    gold: I64
    predicted: I64
    confidence: F64
    log_loss: F64
    brier: F64
    in_top: F64

    @property
    def right(self) -> Flags:
        return np.asarray(self.gold == self.predicted)


def evaluate_labels(
    gold: I64,
    probabilities: Numbers,
    labels: Sequence[str],
    ids: Sequence[str],
    *,
    slices: Columns | None = None,
    settings: Settings | None = None,
) -> Evaluation:
    """Measure a classifier of one label a row.

    gold: int64[n_rows] indices of `labels`. probabilities: [n_rows, n_labels], float32 or float64; the prediction is
    the highest one, the first of equal ones. ids: of the rows. slices: columns of n_rows values. With two labels the
    second one is the positive of ROC AUC and average precision.
    """
    settings = settings or Settings()
    gold, probabilities = np.asarray(gold, np.int64), as_floats(probabilities)
    _check(gold, probabilities, labels, ids)
    top_k = settings.top_k if len(labels) > settings.top_k else 0
    answers = _answers(gold, probabilities, top_k)
    pairs = confusion(gold, answers.predicted, len(labels))
    bins = reliability_bins(answers.confidence, answers.right, settings.bins)
    metrics = _metrics(pairs.label_counts(), answers, top_k) | _calibration_errors(
        bins, answers, settings.bins
    )
    if len(labels) == 2:
        metrics["roc_auc"] = roc_auc(gold == 1, probabilities[:, 1])
        metrics["average_precision"] = average_precision(gold == 1, probabilities[:, 1])
    return Evaluation(
        n=len(gold),
        metrics=metrics,
        intervals=_intervals(pairs, answers, top_k, settings),
        slices=slice_figures(slices, len(gold), partial(_slice_metrics, answers, len(labels)), settings),
        labels=label_figures(tuple(labels), pairs.label_counts()),
        confusion=confusion_cells(pairs, labels, settings.confusion_cells),
        calibration=bins,
        worst=_worst(answers, labels, ids, settings.worst_rows),
    )


def confusion_cells(pairs: Confusion, labels: Sequence[str], most: int) -> tuple[ConfusionCell, ...]:
    """All pairs by name, or the `most` largest wrong ones where there are more."""
    kept = pairs if len(pairs.count) <= most else pairs.most_confused(most)
    columns = (kept.gold.tolist(), kept.predicted.tolist(), kept.count.tolist())
    return tuple(
        ConfusionCell(labels[gold], labels[predicted], n) for gold, predicted, n in zip(*columns, strict=True)
    )


def _check(gold: I64, probabilities: Numbers, labels: Sequence[str], ids: Sequence[str]) -> None:
    check_lengths(gold=len(gold), probabilities=len(probabilities), ids=len(ids))
    if probabilities.ndim != 2 or probabilities.shape[1] != len(labels):
        raise InputError(
            "probabilities do not fit the labels",
            got=f"an array {list(probabilities.shape)}",
            expected=f"[rows, {len(labels)}]: a column for every label",
        )
    check_labels("gold", gold, len(labels))
    check_finite("probabilities", probabilities)


def _answers(gold: I64, probabilities: Numbers, top_k: int) -> _Answers:
    predicted = np.empty(len(gold), np.int64)
    for block in row_blocks(len(gold), probabilities.shape[1]):
        predicted[block] = probabilities[block].argmax(axis=1)
    in_top = in_top_k(gold, probabilities, top_k) if top_k else np.zeros(len(gold))
    return _Answers(
        gold=gold,
        predicted=predicted,
        confidence=probabilities[np.arange(len(gold)), predicted].astype(np.float64),
        log_loss=row_log_loss(gold, probabilities),
        brier=row_brier(gold, probabilities),
        in_top=in_top.astype(np.float64),
    )


def _metrics(counts: LabelCounts, answers: _Answers, top_k: int) -> dict[str, float]:
    metrics = {
        "accuracy": float(accuracy(counts)),
        "balanced_accuracy": float(balanced_accuracy(counts)),
        "matthews": float(matthews(counts)),
        **average_metrics(counts),
    }
    means = _row_columns(answers, top_k).sum(axis=0)
    return metrics | {name: float(of) for name, of in _row_means(means, top_k).items()}


def _calibration_errors(bins: tuple[ReliabilityBin, ...], answers: _Answers, n_bins: int) -> dict[str, float]:
    equal_mass = expected_calibration_error(answers.confidence, answers.right, n_bins, "equal_mass")
    return {"ece": calibration_error(bins), "ece_equal_mass": equal_mass}


def _worst(answers: _Answers, labels: Sequence[str], ids: Sequence[str], k: int) -> tuple[Mistake, ...]:
    gold, predicted, confidence = answers.gold, answers.predicted, answers.confidence
    return tuple(
        Mistake(str(ids[row]), labels[gold[row]], labels[predicted[row]], float(confidence[row]))
        for row in worst_rows(~answers.right, confidence, ids, k)
    )


def _row_columns(answers: _Answers, top_k: int) -> F64:
    """[n_rows, 3 or 4]: 1, log loss, Brier score, and whether the gold label is among the top k."""
    columns = [np.ones(len(answers.gold)), answers.log_loss, answers.brier]
    return np.stack([*columns, answers.in_top] if top_k else columns, axis=1)


def _row_means(sums: F64, top_k: int) -> dict[str, F64]:
    """Means by name from sums [..., 3 or 4] of `_row_columns`."""
    names = ["log_loss", "brier", *([f"top_{top_k}_accuracy"] if top_k else [])]
    return {name: ratio(sums[..., place], sums[..., 0]) for place, name in enumerate(names, start=1)}


def _intervals(pairs: Confusion, answers: _Answers, top_k: int, settings: Settings) -> dict[str, Interval]:
    if not settings.resamples or not len(answers.gold):
        return {}
    how = {"resamples": settings.resamples, "seed": settings.seed}
    of_counts = bootstrap_labels(pairs, _OF_COUNTS, level=settings.level, **how)
    sums = resampled_sums(_row_columns(answers, top_k), **how)
    means = _row_means(sums, top_k).items()
    return of_counts | {name: percentile_interval(figures, settings.level) for name, figures in means}


def _slice_metrics(answers: _Answers, n_labels: int, rows: I64) -> dict[str, float]:
    counts = confusion(answers.gold[rows], answers.predicted[rows], n_labels).label_counts()
    return {
        "accuracy": float(accuracy(counts)),
        "macro_f1": float(counts.macro().f1),
        "weighted_f1": float(counts.weighted().f1),
        "log_loss": float(answers.log_loss[rows].mean()),
        "brier": float(answers.brier[rows].mean()),
        "ece": expected_calibration_error(answers.confidence[rows], answers.right[rows]),
    }
