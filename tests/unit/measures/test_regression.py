"""Errors and correlations of numbers against scikit-learn and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from sparkml.measures import regression

NUMBERS = st.integers(-1000, 1000).map(lambda number: number / 8)
PAIRS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=50)


@pytest.mark.filterwarnings("ignore")
@given(PAIRS, st.sampled_from([0.0, 1e6]))
@settings(deadline=None)
def test_every_figure_is_the_peers(rows: list[tuple[float, float]], shift: float) -> None:
    gold, predicted = np.array(rows).T + shift
    assert regression.rmse(gold, predicted) == pytest.approx(sk.root_mean_squared_error(gold, predicted))
    assert regression.mae(gold, predicted) == pytest.approx(sk.mean_absolute_error(gold, predicted))
    assert regression.r2(gold, predicted) == pytest.approx(sk.r2_score(gold, predicted), abs=1e-9)
    for ours, theirs in ((regression.pearson, stats.pearsonr), (regression.spearman, stats.spearmanr)):
        expected = theirs(gold, predicted).statistic
        assert ours(gold, predicted) == pytest.approx(np.nan_to_num(expected), abs=1e-9)


def test_a_constant_correlates_with_nothing() -> None:
    constant, rising = np.full(3, 0.1), np.array([1.0, 2.0, 3.0])
    assert regression.pearson(constant, rising) == 0
    assert regression.spearman(rising, constant) == 0
    assert regression.r2(constant, rising) == 0
    assert regression.r2(constant, constant) == 1


def test_figures_worked_out_by_hand() -> None:
    gold, predicted = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 2.0, 3.0, 8.0])
    assert regression.rmse(gold, predicted) == 2
    assert regression.mae(gold, predicted) == 1
    assert regression.r2(gold, predicted) == pytest.approx(1 - 16 / 5)
    assert regression.spearman(gold, predicted) == pytest.approx(1)


def test_no_rows_are_0() -> None:
    none = np.empty(0)
    assert (regression.rmse(none, none), regression.mae(none, none), regression.pearson(none, none)) == (
        0,
        0,
        0,
    )
