"""Places of right passages among all, and the figures that follow."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sparkml.errors import InputError
from sparkml.measures.evaluation import Evaluation, Settings
from sparkml.measures.retrieval import (
    METRICS,
    evaluate_retrieval,
    figures_of,
    judged_retrieval,
    nearest,
    rank_passages,
)

SCORES = np.array(
    [
        [0.9, 0.1, 0.2, 0.3],  # the right one first
        [0.9, 0.5, 0.7, 0.1],  # third
        [0.5, 0.5, 0.5, 0.5],  # all alike: the last
    ],
    np.float32,
)
GOLD = np.array([0, 1, 2])


def test_a_place_counts_what_is_as_near_as_the_right_passage() -> None:
    ranked = rank_passages(lambda rows: SCORES[rows], GOLD, 4)
    assert ranked.places.tolist() == [1, 3, 4]
    assert ranked.first.tolist() == [0, 0, 0]
    assert ranked.score.tolist() == pytest.approx([0.9, 0.9, 0.5])


def test_figures_follow_from_places() -> None:
    found = dict(zip(METRICS, figures_of(np.array([1, 3, 10, 11])).T.tolist(), strict=True))
    assert found["recall_at_1"] == [1, 0, 0, 0]
    assert found["recall_at_5"] == [1, 1, 0, 0]
    assert found["recall_at_10"] == [1, 1, 1, 0]
    assert found["mrr_at_10"] == pytest.approx([1, 1 / 3, 1 / 10, 0])
    assert found["ndcg_at_10"] == pytest.approx([1, 1 / 2, 1 / math.log2(11), 0])


def test_an_evaluation_has_intervals_slices_and_the_worst_mistakes() -> None:
    ranked = rank_passages(lambda rows: SCORES[rows], GOLD, 4)
    names = ["p0", "p1", "p2", "p3"]
    found = evaluate_retrieval(
        ranked, GOLD, ["a", "b", "c"], names, slices={"lang": ["en", "en", "de"]}, settings=Settings(seed=1)
    )
    assert found.n == 3
    assert found.metrics["recall_at_1"] == pytest.approx(1 / 3)
    assert found.metrics["mrr_at_10"] == pytest.approx((1 + 1 / 3 + 1 / 4) / 3)
    interval = found.intervals["mrr_at_10"]
    assert 0.25 <= interval.low < found.metrics["mrr_at_10"] < interval.high <= 1
    assert {one.slice: one.metrics["recall_at_5"] for one in found.slices} == {"lang=en": 1.0, "lang=de": 1.0}
    worst = [(one.id, one.gold, one.predicted) for one in found.worst]
    assert worst == [("b", "p1", "p0"), ("c", "p2", "p0")]
    assert Evaluation.from_json(found.to_json()) == found


def test_blocks_of_queries_change_nothing() -> None:
    rng = np.random.default_rng(3)
    queries, passages = (rng.normal(size=(n, 8)).astype(np.float32) for n in (50, 7))
    gold = rng.integers(0, 7, 50)
    exact = queries @ passages.T
    by_hand = [1 + int((row > row[right]).sum()) for row, right in zip(exact, gold, strict=True)]
    assert rank_passages(nearest(queries, passages), gold, 7).places.tolist() == by_hand
    # So many passages that a block has one query.
    assert rank_passages(nearest(queries, passages), gold, 1 << 30).places.tolist() == by_hand


def test_a_model_is_judged_by_mrr_and_by_what_it_puts_first() -> None:
    ranked = rank_passages(lambda rows: SCORES[rows], GOLD, 4)
    other = rank_passages(lambda rows: SCORES[rows][:, [1, 0, 2, 3]], GOLD, 4)
    before, after = judged_retrieval(ranked), judged_retrieval(other)
    assert (before.metric, before.value) == ("mrr_at_10", pytest.approx((1 + 1 / 3 + 1 / 4) / 3))
    assert before.flips(after).tolist() == [True, True, False]


def test_scores_that_are_no_numbers_are_an_error() -> None:
    with pytest.raises(InputError, match="not a finite number"):
        rank_passages(lambda rows: np.full((1, 2), np.nan), np.array([0]), 2)
