"""Calibration errors, Brier score and temperature: by hand, against slow oracles, against scikit-learn."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss

from sparkml.errors import InputError
from sparkml.measures.calibration import (
    ReliabilityBin,
    brier_score,
    expected_calibration_error,
    reliability_bins,
)
from sparkml.measures.classification import log_loss
from sparkml.measures.temperature import fit_temperature

ANSWERS = st.lists(st.tuples(st.integers(0, 100).map(lambda share: share / 100), st.booleans()), min_size=1)


def _softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def test_bins_worked_out_by_hand() -> None:
    confidences = np.array([0.2, 0.5, 0.6, 0.9, 1.0])
    right = np.array([False, True, False, True, True])
    assert reliability_bins(confidences, right, 2) == (
        ReliabilityBin(0.0, 0.5, pytest.approx(0.35), 0.5, 2),
        ReliabilityBin(0.5, 1.0, pytest.approx(2.5 / 3), pytest.approx(2 / 3), 3),
    )
    error = expected_calibration_error(confidences, right, 2)
    assert error == pytest.approx((2 * 0.15 + 3 * (2.5 / 3 - 2 / 3)) / 5)


@given(ANSWERS, st.integers(1, 20))
@settings(deadline=None)
def test_equal_width_bins_are_those_of_a_slow_oracle(answers: list[tuple[float, bool]], n_bins: int) -> None:
    confidences, right = np.array([row[0] for row in answers]), np.array([row[1] for row in answers])
    edges = np.linspace(0, 1, n_bins + 1)
    expected = 0.0
    for low, high in pairwise(edges):
        among = (confidences > low) & (confidences <= high)
        among |= (confidences == 0) & (low == 0)
        if among.any():
            gap = abs(right[among].mean() - confidences[among].mean())
            expected += among.mean() * gap
    assert expected_calibration_error(confidences, right, n_bins) == pytest.approx(expected)


@given(ANSWERS, st.integers(1, 20))
@settings(deadline=None)
def test_bins_of_equal_mass_hold_all_rows_and_part_no_ties(
    answers: list[tuple[float, bool]], n_bins: int
) -> None:
    confidences, right = np.array([row[0] for row in answers]), np.array([row[1] for row in answers])
    bins = reliability_bins(confidences, right, n_bins, "equal_mass")
    first = True
    counted = 0
    for one in bins:
        among = (confidences > one.low) & (confidences <= one.high)
        among |= first & (confidences == one.low)
        first = False
        assert among.sum() == one.n
        assert confidences[among].mean() == pytest.approx(one.confidence)
        assert right[among].mean() == pytest.approx(one.accuracy)
        counted += one.n
    assert counted == len(answers)


def test_bins_of_equal_mass_are_equally_full() -> None:
    confidences = np.random.default_rng(0).beta(8, 1, 1000)
    bins = reliability_bins(confidences, confidences > 0.5, 10, "equal_mass")
    assert [one.n for one in bins] == [100] * 10


def test_calibrated_answers_have_a_small_error_and_others_a_large_one() -> None:
    rng = np.random.default_rng(1)
    confidences = rng.uniform(0.3, 1, 200_000)
    honest = rng.random(200_000) < confidences
    assert expected_calibration_error(confidences, honest) < 0.01
    assert expected_calibration_error(np.minimum(confidences + 0.2, 1), honest) == pytest.approx(
        0.17, abs=0.02
    )


def test_no_rows_have_no_bins() -> None:
    assert reliability_bins(np.empty(0), np.empty(0, bool)) == ()
    assert expected_calibration_error(np.empty(0), np.empty(0, bool), binning="equal_mass") == 0


def test_a_mean_of_probabilities_may_be_a_rounding_above_1() -> None:
    confidences = np.array([1.0000002, 0.5], np.float32)
    (low, high) = reliability_bins(confidences, np.array([True, False]), 2)
    assert (low.n, high.n, high.confidence) == (1, 1, 1.0)


@pytest.mark.parametrize("confidences", [[0.2, 1.5], [-0.1, 0.2], [0.1, float("nan")]])
def test_logits_are_no_confidences(confidences: list[float]) -> None:
    with pytest.raises(InputError, match="outside 0 and 1"):
        reliability_bins(np.array(confidences), np.array([True, False]))


@given(st.integers(2, 6), st.integers(1, 50), st.integers(0, 2**32))
@settings(deadline=None)
def test_brier_score_is_sklearns(n_labels: int, n_rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    gold, probabilities = rng.integers(0, n_labels, n_rows), rng.dirichlet(np.ones(n_labels), n_rows)
    expected = brier_score_loss(gold, probabilities, labels=range(n_labels), scale_by_half=False)
    assert brier_score(gold, probabilities) == pytest.approx(expected)


@pytest.mark.parametrize("true_temperature", [0.4, 1.0, 3.0])
def test_the_temperature_that_made_the_answers_comes_back(true_temperature: float) -> None:
    rng = np.random.default_rng(2)
    honest = rng.normal(0, 2, (40_000, 5))
    gold = (honest + rng.gumbel(size=honest.shape)).argmax(axis=1)
    logits = honest * true_temperature
    fitted = fit_temperature(gold, logits)
    assert fitted.value == pytest.approx(true_temperature, rel=0.03)
    assert fitted.loss == pytest.approx(log_loss(gold, _softmax(logits / fitted.value)))
    assert fitted.loss_before == pytest.approx(log_loss(gold, _softmax(logits)))


@given(st.integers(2, 4), st.integers(1, 20), st.integers(0, 2**32), st.floats(0.01, 40))
@settings(deadline=None)
def test_no_other_temperature_within_the_bounds_loses_less(
    n_labels: int, n_rows: int, seed: int, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    gold, logits = rng.integers(0, n_labels, n_rows), rng.normal(0, scale, (n_rows, n_labels))
    fitted = fit_temperature(gold, logits)
    assert 0.05 <= fitted.value <= 20 * (1 + 1e-12)
    for other in np.geomspace(0.05, 20, 60):
        scaled = logits / other
        shifted = scaled - scaled.max(axis=1, keepdims=True)
        loss = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(n_rows), gold]
        assert fitted.loss <= loss.mean() + 1e-9


def test_rows_without_a_mistake_end_at_the_bound() -> None:
    assert fit_temperature(np.array([0, 1]), np.array([[3.0, 0.0], [0.0, 2.0]])).value == pytest.approx(0.05)
    assert fit_temperature(np.array([1, 0]), np.array([[3.0, 0.0], [0.0, 2.0]])).value == pytest.approx(20)


def test_logits_that_are_no_numbers_are_told() -> None:
    with pytest.raises(InputError, match="logits, row 1"):
        fit_temperature(np.array([0, 1]), np.array([[1.0, 0.0], [np.nan, 0.0]]))
    with pytest.raises(InputError, match="no temperature can be fitted"):
        fit_temperature(np.empty(0, np.int64), np.empty((0, 2)))
