"""The evaluation of a model that gives every row a number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sparkml.measures.arrays import F64, I64, check_finite, check_lengths
from sparkml.measures.evaluation import Evaluation, Mistake, Settings, slice_figures
from sparkml.measures.intervals import Interval, percentile_interval
from sparkml.measures.mistakes import worst_rows
from sparkml.measures.regression import mae_of, number_sums, pearson_of, r2_of, rmse_of, spearman
from sparkml.measures.resampling import resampled_sums
from sparkml.measures.slices import Columns

_OF_SUMS = {"rmse": rmse_of, "mae": mae_of, "r2": r2_of, "pearson": pearson_of}


def evaluate_numbers(
    gold: F64,
    predicted: F64,
    ids: Sequence[str],
    *,
    slices: Columns | None = None,
    settings: Settings | None = None,
) -> Evaluation:
    """Measure a regression; gold and predicted are float64[n_rows].

    The worst rows are those with the largest errors; a number comes without a confidence. Spearman's correlation has
    no interval, because ranks are not sums over rows.
    """
    settings = settings or Settings()
    gold, predicted = np.asarray(gold, np.float64), np.asarray(predicted, np.float64)
    check_lengths(gold=len(gold), predicted=len(predicted), ids=len(ids))
    check_finite("gold", gold)
    check_finite("predicted", predicted)
    error = np.abs(predicted - gold)

    def measure(rows: I64) -> dict[str, float]:
        return _metrics(gold[rows], predicted[rows])

    return Evaluation(
        n=len(gold),
        metrics=_metrics(gold, predicted),
        intervals=_intervals(gold, predicted, settings),
        slices=slice_figures(slices, len(gold), measure, settings),
        worst=tuple(
            Mistake(str(ids[row]), repr(float(gold[row])), repr(float(predicted[row])), float("nan"))
            for row in worst_rows(error > 0, error, ids, settings.worst_rows)
        ),
    )


def _metrics(gold: F64, predicted: F64) -> dict[str, float]:
    sums = number_sums(gold, predicted).sum(axis=0)
    figures = {name: float(figure(sums)) for name, figure in _OF_SUMS.items()}
    return figures | {"spearman": spearman(gold, predicted)}


def _intervals(gold: F64, predicted: F64, settings: Settings) -> dict[str, Interval]:
    if not settings.resamples or not len(gold):
        return {}
    sums = resampled_sums(number_sums(gold, predicted), settings.resamples, settings.seed)
    return {name: percentile_interval(figure(sums), settings.level) for name, figure in _OF_SUMS.items()}
