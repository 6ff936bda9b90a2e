"""Figures of classifiers against scikit-learn, and against figures worked out by hand."""

from __future__ import annotations

import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as sk

from sparkml.errors import InputError
from sparkml.measures import classification
from sparkml.measures.classification import label_counts, multilabel_counts
from sparkml.measures.confusion import confusion
from sparkml.measures.counts import LabelCounts

pytestmark = pytest.mark.filterwarnings("ignore")
AVERAGES = ("micro", "macro", "weighted")


@st.composite
def labelled(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    n_labels = draw(st.integers(2, 7))
    rows = draw(st.lists(st.tuples(*[st.integers(0, n_labels - 1)] * 2), min_size=1, max_size=60))
    gold, predicted = np.array(rows, np.int64).T
    return gold, predicted, n_labels


@st.composite
def flags(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(st.tuples(st.integers(1, 30), st.integers(2, 5)))
    return draw(arrays(bool, shape)), draw(arrays(bool, shape))


@given(labelled())
@settings(max_examples=40, deadline=None)
def test_every_figure_of_one_label_a_row_is_sklearns(rows: tuple[np.ndarray, np.ndarray, int]) -> None:
    gold, predicted, n_labels = rows
    counts = label_counts(gold, predicted, n_labels)
    expected = sk.precision_recall_fscore_support(
        gold, predicted, labels=range(n_labels), zero_division=0, average=None
    )
    for ours, theirs in zip((counts.precision, counts.recall, counts.f1, counts.gold), expected, strict=True):
        assert ours == pytest.approx(theirs)
    for name in AVERAGES:
        ours = getattr(counts, name)()
        theirs = sk.precision_recall_fscore_support(gold, predicted, average=name, zero_division=0)[:3]
        assert (ours.precision, ours.recall, ours.f1) == pytest.approx(theirs)
    assert classification.accuracy(counts) == pytest.approx(sk.accuracy_score(gold, predicted))
    assert classification.balanced_accuracy(counts) == pytest.approx(
        sk.balanced_accuracy_score(gold, predicted)
    )
    assert classification.matthews(counts) == pytest.approx(sk.matthews_corrcoef(gold, predicted), abs=1e-12)
    pairs = confusion(gold, predicted, n_labels)
    assert pairs.dense().tolist() == sk.confusion_matrix(gold, predicted, labels=range(n_labels)).tolist()


@given(flags())
@settings(max_examples=40, deadline=None)
def test_every_figure_of_several_labels_a_row_is_sklearns(rows: tuple[np.ndarray, np.ndarray]) -> None:
    gold, predicted = rows
    counts = multilabel_counts(gold, predicted)
    for name, ours in (
        ("micro", counts.micro()),
        ("macro", counts.macro(every_label=True)),
        ("weighted", counts.weighted()),
    ):
        theirs = sk.precision_recall_fscore_support(gold, predicted, average=name, zero_division=0)[:3]
        assert (ours.precision, ours.recall, ours.f1) == pytest.approx(theirs)
    assert counts.f1 == pytest.approx(sk.f1_score(gold, predicted, average=None, zero_division=0))
    assert classification.subset_accuracy(gold, predicted) == pytest.approx(
        sk.accuracy_score(gold, predicted)
    )
    assert classification.hamming_loss(gold, predicted) == pytest.approx(sk.hamming_loss(gold, predicted))


@given(labelled(), st.integers(0, 2**32), st.sampled_from([np.float32, np.float64]))
@settings(deadline=None)
def test_log_loss_is_sklearns(
    rows: tuple[np.ndarray, np.ndarray, int], seed: int, kind: type[np.floating]
) -> None:
    gold, _, n_labels = rows
    probabilities = np.random.default_rng(seed).dirichlet(np.full(n_labels, 0.3), len(gold)).astype(kind)
    expected = sk.log_loss(gold, probabilities, labels=range(n_labels))
    assert classification.log_loss(gold, probabilities) == pytest.approx(expected, rel=1e-5)


def test_a_certain_mistake_costs_a_finite_loss() -> None:
    loss = classification.log_loss(np.array([1, 0]), np.array([[1.0, 0.0], [1.0, 0.0]]))
    assert loss == pytest.approx(-np.log(np.finfo(np.float64).eps) / 2)


@given(labelled(), st.integers(1, 7), st.integers(2, 50), st.integers(0, 2**32))
@settings(deadline=None)
def test_top_k_is_sklearns(rows: tuple[np.ndarray, np.ndarray, int], k: int, levels: int, seed: int) -> None:
    gold, _, n_labels = rows
    n_labels = max(n_labels, 3)  # sklearn has another rule for two
    scores = np.random.default_rng(seed).integers(0, levels, (len(gold), n_labels)) / levels
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # of equal scores sklearn lets the last column win, we the first
        expected = sk.top_k_accuracy_score(n_labels - 1 - gold, scores[:, ::-1], k=k, labels=range(n_labels))
    assert classification.top_k_accuracy(gold, scores, k) == pytest.approx(expected)


def test_top_1_are_the_rows_that_argmax_has_right() -> None:
    scores = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.2, 0.4, 0.4]])
    assert classification.in_top_k(np.array([0, 1, 2]), scores, 1).tolist() == [True, False, False]
    assert classification.in_top_k(np.array([0, 1, 2]), scores, 2).tolist() == [True, True, True]


def test_a_report_worked_out_by_hand() -> None:
    counts = label_counts(np.array([0, 0, 0, 1, 1, 2, 2]), np.array([0, 0, 1, 1, 0, 2, 1]), 4)
    assert counts.precision == pytest.approx([2 / 3, 1 / 3, 1, 0])
    assert counts.recall == pytest.approx([2 / 3, 1 / 2, 1 / 2, 0])
    assert counts.f1 == pytest.approx([2 / 3, 2 / 5, 2 / 3, 0])
    assert float(counts.macro().f1) == pytest.approx((2 / 3 + 2 / 5 + 2 / 3) / 3)  # the fourth never occurs
    assert float(counts.macro(every_label=True).f1) == pytest.approx((2 / 3 + 2 / 5 + 2 / 3) / 4)


def test_nothing_to_measure_is_0() -> None:
    none = np.empty(0, np.int64)
    counts = label_counts(none, none, 3)
    assert [float(counts.micro().f1), float(counts.macro().f1), float(counts.weighted().f1)] == [0, 0, 0]
    assert classification.accuracy(counts) == 0
    assert classification.balanced_accuracy(counts) == 0
    assert classification.matthews(counts) == 0
    assert classification.log_loss(none, np.empty((0, 3))) == 0
    assert classification.top_k_accuracy(none, np.empty((0, 3)), 2) == 0


@given(labelled(), labelled())
@settings(max_examples=30, deadline=None)
def test_counts_of_batches_add_up(
    first: tuple[np.ndarray, np.ndarray, int], second: tuple[np.ndarray, np.ndarray, int]
) -> None:
    both = label_counts(first[0], first[1], 7) + label_counts(second[0], second[1], 7)
    whole = label_counts(np.r_[first[0], second[0]], np.r_[first[1], second[1]], 7)
    assert [both.hits.tolist(), both.predicted.tolist(), both.gold.tolist()] == [
        whole.hits.tolist(),
        whole.predicted.tolist(),
        whole.gold.tolist(),
    ]


def test_leading_axes_are_measured_at_once() -> None:
    many = LabelCounts(
        hits=np.array([[2, 1], [0, 3]]), predicted=np.array([[3, 1], [1, 3]]), gold=np.array([[2, 2], [0, 4]])
    )
    assert many.macro().f1 == pytest.approx([(4 / 5 + 2 / 3) / 2, (0 + 6 / 7) / 2])
    assert classification.accuracy(many) == pytest.approx([3 / 4, 3 / 4])
    assert classification.balanced_accuracy(many) == pytest.approx([3 / 4, 3 / 4])


def test_a_hundred_thousand_labels_make_no_square_matrix() -> None:
    n_labels = 100_000
    gold = np.arange(n_labels)
    predicted = np.where(gold % 10 == 0, (gold + 1) % n_labels, gold)
    gold, predicted = np.r_[gold, 50, 50, 7], np.r_[predicted, 51, 51, 3]
    tracemalloc.start()
    pairs = confusion(gold, predicted, n_labels)
    counts = pairs.label_counts()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100e6
    assert float(classification.accuracy(counts)) == pytest.approx(90_000 / 100_003)
    worst = pairs.most_confused(3)
    assert list(zip(worst.gold, worst.predicted, worst.count, strict=True)) == [
        (50, 51, 3),
        (0, 1, 1),
        (7, 3, 1),
    ]
    with pytest.raises(InputError, match="too many labels"):
        pairs.dense()


def test_counted_and_sorted_pairs_are_the_same() -> None:
    rng = np.random.default_rng(3)
    gold, predicted = rng.integers(0, 40, 500), rng.integers(0, 40, 500)
    small, large = confusion(gold, predicted, 40), confusion(gold, predicted, 5000)
    for name in ("gold", "predicted", "count"):
        assert getattr(small, name).tolist() == getattr(large, name).tolist()


@pytest.mark.parametrize(("gold", "predicted"), [([0, 3], [0, 1]), ([0, 1], [0, -1])])
def test_a_label_outside_the_list_is_told(gold: list[int], predicted: list[int]) -> None:
    with pytest.raises(InputError, match=r"row 1\n"):
        confusion(np.array(gold), np.array(predicted), 3)


def test_columns_of_other_lengths_are_told() -> None:
    with pytest.raises(InputError, match="gold 2, predicted 1"):
        confusion(np.array([0, 1]), np.array([0]), 2)
