"""Two models on the same rows: the main figure, flipped answers, and by how much one leads."""

from __future__ import annotations

import numpy as np
import pytest

from sparkml.errors import InputError
from sparkml.measures.judged import explained_variance, f1_of_spans, share_right


def test_accuracy_flips_and_lead() -> None:
    said = np.array(["a", "b", "a", "a"], object)
    other = np.array(["a", "b", "b", "a"], object)
    right = share_right(np.array([True, True, True, False]), said)
    wrong = share_right(np.array([True, True, False, False]), other)
    assert (right.metric, right.value, wrong.value) == ("accuracy", 0.75, 0.5)
    assert right.flips(wrong).tolist() == [False, False, True, False]
    lead = right.lead(wrong, seed=3)
    assert lead.value == 0.25
    assert lead.interval.low == 0.0
    assert 0.5 <= lead.interval.high <= 1.0
    with pytest.raises(InputError, match="other rows"):
        right.flips(share_right(np.array([True]), said[:1]))


def test_f1_is_that_of_all_spans_together() -> None:
    counts = np.array([[1.0, 2, 1], [0, 0, 3], [2, 2, 2]])
    found = f1_of_spans(counts, np.array(["B-a", "O", "B-b"], object))
    assert found.value == pytest.approx(2 * 3 / (4 + 6))
    assert np.isnan(f1_of_spans(counts * 0, found.said).value)


def test_explained_variance_and_moves_beyond_a_twentieth_of_the_deviation() -> None:
    gold = np.array([0.0, 1.0, 2.0, 3.0])
    found = explained_variance(gold, gold + np.array([0.1, -0.1, 0.1, -0.1]))
    assert found.value == pytest.approx(1 - 0.04 / 5)
    moved = explained_variance(gold, found.said + np.array([0.0, 0.05, 0.06, np.nan]))
    assert found.tolerance == pytest.approx(0.05 * gold.std())
    assert found.flips(moved).tolist() == [False, False, True, True]
