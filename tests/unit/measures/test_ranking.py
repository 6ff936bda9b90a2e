"""ROC AUC, average precision and mean ranks against scikit-learn and SciPy, ties included."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata
from sklearn import metrics as sk

from sparkml.errors import InputError
from sparkml.measures.ranking import average_precision, mean_ranks, roc_auc

SCORED = st.lists(st.tuples(st.booleans(), st.integers(-4, 4) | st.floats(-3, 3)), min_size=1, max_size=60)


@given(SCORED)
@settings(deadline=None)
def test_both_are_sklearns(rows: list[tuple[bool, float]]) -> None:
    positive, scores = np.array([row[0] for row in rows]), np.array([float(row[1]) for row in rows])
    if positive.any():
        assert average_precision(positive, scores) == pytest.approx(
            sk.average_precision_score(positive, scores)
        )
    if positive.any() and not positive.all():
        assert roc_auc(positive, scores) == pytest.approx(sk.roc_auc_score(positive, scores))


def test_one_kind_of_rows_has_no_area() -> None:
    assert math.isnan(roc_auc(np.array([True, True]), np.array([0.1, 0.2])))
    assert math.isnan(roc_auc(np.array([False]), np.array([0.1])))
    assert average_precision(np.array([False]), np.array([0.1])) == 0


def test_a_ranking_worked_out_by_hand() -> None:
    positive, scores = np.array([True, False, True, False]), np.array([0.9, 0.8, 0.8, 0.1])
    assert roc_auc(positive, scores) == pytest.approx((1 + 1 + 0.5 + 1) / 4)
    assert average_precision(positive, scores) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


@given(st.lists(st.integers(0, 5), max_size=30))
@settings(deadline=None)
def test_ranks_share_their_mean(values: list[int]) -> None:
    assert mean_ranks(np.array(values, np.int64)).tolist() == rankdata(values).tolist()


def test_scores_of_other_rows_are_told() -> None:
    with pytest.raises(InputError, match="positive 1, scores 2"):
        roc_auc(np.array([True]), np.array([0.1, 0.2]))
