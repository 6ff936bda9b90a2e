"""Bootstrap and Wilson intervals: the same resamples by a slow oracle, coverage on simulated data, known values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from sparkml.errors import InputError
from sparkml.measures import intervals
from sparkml.measures.arrays import ratio
from sparkml.measures.classification import accuracy, matthews
from sparkml.measures.confusion import Confusion, confusion
from sparkml.measures.counts import LabelCounts
from sparkml.measures.resampling import (
    EXACT_ROWS,
    Together,
    resample_counts,
    resampled_label_counts,
    resampled_sums,
)

MANY = EXACT_ROWS + 2345


def _counts(n_rows: int, resamples: int, seed: int) -> np.ndarray:
    whole = np.full((resamples, n_rows), -1.0)
    for which, rows, counts in resample_counts(n_rows, resamples, seed):
        whole[which, rows] = counts
    return whole


def _mean(sums: np.ndarray) -> np.ndarray:
    return ratio(sums[..., 1], sums[..., 0])


def _with_ones(values: np.ndarray) -> np.ndarray:
    return np.stack([np.ones(len(values)), values], axis=1)


@pytest.mark.parametrize(("n_rows", "resamples"), [(1, 5), (300, 1500), (MANY, 40)])
def test_sums_are_those_of_the_rows_as_often_as_they_were_drawn(n_rows: int, resamples: int) -> None:
    rows = np.random.default_rng(0).normal(size=(n_rows, 3))
    sums = resampled_sums(rows, resamples, seed=9)
    for resample, counts in enumerate(_counts(n_rows, resamples, 9)):
        drawn = np.repeat(rows, counts.astype(int), axis=0)
        assert sums[resample] == pytest.approx(drawn.sum(axis=0), abs=1e-9)


def test_f1_of_resamples_is_sklearns_of_the_drawn_rows() -> None:
    rng = np.random.default_rng(1)
    gold = rng.integers(0, 2, 200)
    predicted = np.where(rng.random(200) < 0.8, gold, 1 - gold)
    rows = np.stack([gold & predicted, predicted, gold], axis=1)
    sums = resampled_sums(rows, 50, seed=2)
    for resample, counts in enumerate(_counts(200, 50, 2)):
        drawn = np.repeat(np.arange(200), counts.astype(int))
        expected = sk.f1_score(gold[drawn], predicted[drawn])
        assert float(LabelCounts(*sums[resample, :, None]).f1[0]) == pytest.approx(expected)


def test_small_inputs_draw_n_rows_of_n() -> None:
    counts = _counts(500, 1200, 3)
    assert (counts.sum(axis=1) == 500).all()
    assert counts.var() == pytest.approx(1 - 1 / 500, abs=0.02)


def test_large_inputs_draw_every_row_once_on_average() -> None:
    counts = _counts(MANY, 100, 4)
    shares = [(counts == k).mean() for k in range(6)]
    assert shares == pytest.approx([math.exp(-1) / math.factorial(k) for k in range(6)], abs=2e-3)
    assert counts.mean() == pytest.approx(1, abs=4e-3)
    assert counts.var() == pytest.approx(1, abs=1e-2)
    assert abs(np.corrcoef(counts[:, :50].T)[0, 1:]).mean() < 0.15


def test_the_seed_decides_and_resamples_differ() -> None:
    assert (_counts(50, 30, 5) == _counts(50, 30, 5)).all()
    assert (_counts(50, 30, 5) != _counts(50, 30, 6)).any()
    assert len({row.tobytes() for row in _counts(50, 2100, 5)}) == 2100


@pytest.mark.parametrize("n_rows", [150, MANY])
def test_the_interval_of_a_mean_is_that_of_its_standard_error(n_rows: int) -> None:
    values = np.random.default_rng(7).exponential(size=n_rows)
    found = intervals.bootstrap_sums(_with_ones(values), _mean, resamples=4000)
    half = 1.96 * values.std() / math.sqrt(n_rows)
    assert found.low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.15 * half)


def test_intervals_hold_the_mean_of_the_population_as_often_as_they_say() -> None:
    rng = np.random.default_rng(8)
    held = []
    for trial in range(300):
        values = (rng.random(120) < 0.7).astype(float)
        found = intervals.bootstrap_sums(_with_ones(values), _mean, resamples=300, level=0.9, seed=trial)
        held.append(found.low <= 0.7 <= found.high)
    assert 0.85 <= np.mean(held) <= 0.95


@pytest.mark.parametrize("n_rows", [60, 4000])
def test_label_counts_of_resamples_add_up_and_vary_as_they_should(n_rows: int) -> None:
    rng = np.random.default_rng(9)
    gold = rng.choice([0, 1, 4], n_rows, p=[0.6, 0.3, 0.1])
    predicted = np.where(rng.random(n_rows) < 0.75, gold, 1)
    pairs = confusion(gold, predicted, 6)  # 60 rows are drawn one by one, 4000 by pair
    chunks = list(resampled_label_counts(pairs, 3000, seed=1))
    hits, guessed, of_gold = (
        np.concatenate([getattr(chunk, name) for chunk in chunks]) for name in ("hits", "predicted", "gold")
    )
    assert hits.shape == (3000, 3)  # labels 0, 1 and 4
    assert (of_gold.sum(axis=1) == n_rows).all()
    assert (guessed.sum(axis=1) == n_rows).all()
    share = (gold == predicted).mean()
    assert hits.sum(axis=1).mean() / n_rows == pytest.approx(share, abs=4 * math.sqrt(0.25 / n_rows / 3000))
    assert hits.sum(axis=1).std() == pytest.approx(math.sqrt(n_rows * share * (1 - share)), rel=0.1)
    zeros = (gold == 0).mean()
    assert of_gold[:, 0].std() == pytest.approx(math.sqrt(n_rows * zeros * (1 - zeros)), rel=0.1)


def test_intervals_of_labels_are_those_of_a_slow_bootstrap() -> None:
    rng = np.random.default_rng(10)
    gold = rng.integers(0, 4, 800)
    predicted = np.where(rng.random(800) < 0.7, gold, rng.integers(0, 4, 800))
    figures = {"accuracy": accuracy, "f1": lambda counts: counts.macro().f1, "mcc": matthews}
    ours = intervals.bootstrap_labels(confusion(gold, predicted, 4), figures, resamples=4000)
    peers = {
        "accuracy": sk.accuracy_score,
        "f1": lambda *rows: sk.f1_score(*rows, average="macro"),
        "mcc": sk.matthews_corrcoef,
    }
    for name, peer in peers.items():
        slow = intervals.bootstrap_rows(
            800, lambda rows, peer=peer: peer(gold[rows], predicted[rows]), resamples=120
        )
        width = slow.high - slow.low
        assert ours[name].low == pytest.approx(slow.low, abs=0.2 * width)
        assert ours[name].high == pytest.approx(slow.high, abs=0.2 * width)


def test_labels_without_rows_have_no_interval() -> None:
    none = np.empty(0, np.int64)
    found = intervals.bootstrap_labels(Confusion(none, none, none, 3), {"accuracy": accuracy})
    assert math.isnan(found["accuracy"].low)


def test_a_figure_of_indices_gets_the_drawn_rows() -> None:
    seen: list[np.ndarray] = []

    def median(rows: np.ndarray) -> float:
        seen.append(rows)
        return float(np.median(rows))

    found = intervals.bootstrap_rows(101, median, resamples=300, seed=3)
    drawn = list(intervals.resampled_rows(101, 300, 3))
    assert all((one == other).all() for one, other in zip(seen, drawn, strict=True))
    low, high = np.quantile([np.median(rows) for rows in drawn], [0.025, 0.975])
    assert (found.low, found.high, found.level) == (low, high, 0.95)
    assert found.low < 50 < found.high


def test_a_paired_difference_is_that_of_the_same_resamples() -> None:
    rng = np.random.default_rng(11)
    first, second = _with_ones(rng.normal(0.3, 1, 200)), _with_ones(rng.normal(0, 1, 200))
    found = intervals.paired_bootstrap(first, second, _mean, resamples=700, seed=5)
    counts = _counts(200, 700, 5)
    expected = (counts @ (first[:, 1] - second[:, 1])) / 200
    assert found.value == pytest.approx(first[:, 1].mean() - second[:, 1].mean())
    low, high = np.quantile(expected, [0.025, 0.975])
    assert (found.interval.low, found.interval.high) == pytest.approx((low, high))
    tail = min((expected <= 0).sum(), (expected >= 0).sum())
    assert found.p_value == pytest.approx(2 * (tail + 1) / 701)


def test_equal_models_do_not_differ() -> None:
    rows = _with_ones(np.random.default_rng(0).random(50))
    found = intervals.paired_bootstrap(rows, rows, _mean)
    assert (found.value, found.interval.low, found.interval.high, found.p_value) == (0, 0, 0, 1)


def test_models_that_differ_by_chance_are_told_apart_as_often_as_the_level_allows() -> None:
    rng = np.random.default_rng(12)
    p_values = []
    for trial in range(300):
        first, second = (_with_ones((rng.random(150) < 0.8).astype(float)) for _ in range(2))
        p_values.append(intervals.paired_bootstrap(first, second, _mean, resamples=300, seed=trial).p_value)
    assert 0.02 <= (np.array(p_values) < 0.05).mean() <= 0.09
    assert 0.4 <= np.mean(p_values) <= 0.62


def test_the_same_errors_on_the_same_rows_make_a_small_difference_certain() -> None:
    right = np.random.default_rng(13).random(1000) < 0.7
    better = right.copy()
    better[np.flatnonzero(~right)[:20]] = True
    found = intervals.paired_bootstrap(_with_ones(better), _with_ones(right), _mean)
    assert found.p_value < 0.01
    rows = intervals.paired_bootstrap_rows(
        1000, lambda drawn: float(better[drawn].mean()), lambda drawn: float(right[drawn].mean())
    )
    assert rows.value == found.value == pytest.approx(0.02)
    assert rows.p_value < 0.01
    assert rows.interval.low == pytest.approx(found.interval.low, abs=0.003)


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (3, 10), (10, 10), (720, 1000), (1, 1)])
@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_wilson_is_scipys(successes: int, n: int, level: float) -> None:
    expected = stats.binomtest(successes, n).proportion_ci(level, method="wilson")
    found = intervals.wilson_interval(successes, n, level)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_without_rows_knows_nothing() -> None:
    assert intervals.wilson_interval(0, 0) == intervals.Interval(0.0, 1.0, 0.95)
    with pytest.raises(InputError, match="3 of 2"):
        intervals.wilson_interval(3, 2)


def test_resamples_without_a_figure_are_left_out() -> None:
    found = intervals.percentile_interval(np.array([np.nan, 1.0, 1.0]))
    assert (found.low, found.high) == (1, 1)
    assert math.isnan(intervals.percentile_interval(np.full(3, np.nan)).low)
    with pytest.raises(InputError, match="level"):
        intervals.percentile_interval(np.ones(3), 95)


def test_rows_of_other_documents_cannot_be_paired() -> None:
    with pytest.raises(InputError, match="left 2, right 3"):
        Together(np.ones((2, 1)), np.ones((3, 1)))
