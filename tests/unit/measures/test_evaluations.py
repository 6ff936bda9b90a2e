"""Whole evaluations: metrics, slices, mistakes, JSON and table rows."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from sklearn import metrics as sk

from sparkml.errors import InputError
from sparkml.measures.calibration import ReliabilityBin
from sparkml.measures.evaluation import ConfusionCell, Evaluation, LabelFigures, Mistake, Settings
from sparkml.measures.intervals import Interval
from sparkml.measures.label_evaluation import evaluate_labels
from sparkml.measures.multilabel_evaluation import evaluate_multilabel
from sparkml.measures.number_evaluation import evaluate_numbers
from sparkml.measures.slices import SliceFigures
from sparkml.measures.tag_evaluation import evaluate_tags

QUICK = Settings(resamples=50, worst_rows=3)


def _classifier(n_rows: int, n_labels: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n_rows)
    gold = rng.integers(0, n_labels, n_rows)
    logits = rng.normal(size=(n_rows, n_labels))
    logits[np.arange(n_rows), gold] += 1.5
    weights = np.exp(logits)
    return gold, weights / weights.sum(axis=1, keepdims=True)


def test_labels_are_measured_in_every_respect() -> None:
    gold, probabilities = _classifier(600, 7)
    predicted = probabilities.argmax(axis=1)
    labels = list("abcdefg")
    sides = np.where(np.arange(600) < 20, "few", "many")
    found = evaluate_labels(
        gold, probabilities, labels, [f"d{n}" for n in range(600)], slices={"side": sides}, settings=QUICK
    )
    assert found.n == 600
    assert found.metrics["accuracy"] == pytest.approx(sk.accuracy_score(gold, predicted))
    assert found.metrics["macro_f1"] == pytest.approx(sk.f1_score(gold, predicted, average="macro"))
    assert found.metrics["log_loss"] == pytest.approx(sk.log_loss(gold, probabilities))
    assert found.metrics["top_5_accuracy"] == pytest.approx(sk.top_k_accuracy_score(gold, probabilities, k=5))
    assert [row.support for row in found.labels] == np.bincount(gold).tolist()
    assert sum(one.n for one in found.calibration) == 600
    assert sum(cell.n for cell in found.confusion) == 600
    hits = int(((gold == 0) & (predicted == 0)).sum())
    assert ConfusionCell("a", "a", hits) in found.confusion
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "matthews", "log_loss", "brier"):
        assert found.intervals[name].low < found.metrics[name] < found.intervals[name].high
    few = {one.slice: one for one in found.slices}["side=few"]
    assert (few.n, few.small) == (20, True)
    assert few.metrics["accuracy"] == pytest.approx((gold == predicted)[:20].mean())
    assert few.metrics["log_loss"] == pytest.approx(
        sk.log_loss(gold[:20], probabilities[:20], labels=range(7))
    )
    rows = {name: (metrics, n) for name, metrics, n in found.metric_rows()}
    assert list(rows) == ["all", "side=many", "side=few", *(f"label={label}" for label in labels)]
    everything, n = rows["all"]
    assert n == 600
    assert {name: everything[name] for name in found.metrics} == found.metrics
    assert everything["accuracy_low"] == found.intervals["accuracy"].low
    assert everything["accuracy_high"] == found.intervals["accuracy"].high
    precision = sk.precision_score(gold, predicted, average=None)
    assert rows["label=c"][0]["precision"] == pytest.approx(precision[2])
    assert rows["label=c"][1] == (gold == 2).sum()


def test_two_labels_have_ranking_figures_of_the_second() -> None:
    gold, probabilities = _classifier(300, 2)
    found = evaluate_labels(
        gold, probabilities, ["ham", "spam"], [str(n) for n in range(300)], settings=QUICK
    )
    assert found.metrics["roc_auc"] == pytest.approx(sk.roc_auc_score(gold, probabilities[:, 1]))
    expected = sk.average_precision_score(gold, probabilities[:, 1])
    assert found.metrics["average_precision"] == pytest.approx(expected)
    assert "top_5_accuracy" not in found.metrics


def test_the_worst_mistakes_are_the_most_confident_ones_ties_by_id() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [1.0, 0.0], [0.05, 0.95], [0.9, 0.1]])
    gold = np.array([1, 1, 0, 0, 0, 1])
    ids = ["z", "b", "c", "d", "e", "a"]
    found = evaluate_labels(gold, probabilities, ["ham", "spam"], ids, settings=QUICK)
    assert found.worst == (
        Mistake("e", "ham", "spam", 0.95),
        Mistake("a", "spam", "ham", 0.9),
        Mistake("b", "spam", "ham", 0.9),
    )


def test_answers_may_be_lists_of_whole_numbers() -> None:
    found = evaluate_labels(
        [0, 1, 1], [[1, 0], [0, 1], [1, 0]], ["ham", "spam"], ["x", "y", "z"], settings=QUICK
    )
    assert found.metrics["accuracy"] == pytest.approx(2 / 3)
    assert found.metrics["brier"] == pytest.approx(2 / 3)
    assert found.worst == (Mistake("z", "spam", "ham", 1.0),)


def test_of_many_pairs_the_largest_wrong_ones_are_kept() -> None:
    gold = np.array([0, 0, 0, 1, 2, 2])
    probabilities = np.eye(3)[[1, 1, 0, 1, 1, 0]]
    found = evaluate_labels(
        gold, probabilities, list("abc"), list("uvwxyz"), settings=Settings(confusion_cells=2)
    )
    assert found.confusion == (ConfusionCell("a", "b", 2), ConfusionCell("c", "a", 1))


def test_several_labels_a_row_are_measured() -> None:
    rng = np.random.default_rng(4)
    gold = rng.random((400, 5)) < 0.3
    probabilities = np.clip(gold * 0.5 + rng.random((400, 5)) * 0.6, 0, 1)
    predicted = probabilities >= 0.5
    found = evaluate_multilabel(
        gold,
        probabilities,
        list("abcde"),
        [str(n) for n in range(400)],
        slices={"x": ["u", "v"] * 200},
        settings=QUICK,
    )
    assert found.metrics["micro_f1"] == pytest.approx(sk.f1_score(gold, predicted, average="micro"))
    assert found.metrics["macro_f1"] == pytest.approx(sk.f1_score(gold, predicted, average="macro"))
    assert found.metrics["subset_accuracy"] == pytest.approx(sk.accuracy_score(gold, predicted))
    assert [row.f1 for row in found.labels] == pytest.approx(sk.f1_score(gold, predicted, average=None))
    for name in ("micro_f1", "macro_f1", "weighted_f1", "subset_accuracy"):
        assert found.intervals[name].low < found.metrics[name] < found.intervals[name].high
    assert found.slices[0].metrics["micro_f1"] == pytest.approx(
        sk.f1_score(gold[::2], predicted[::2], average="micro")
    )


def test_wrong_sets_of_labels_are_named_with_their_most_confident_error() -> None:
    gold = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 1]], bool)
    probabilities = np.array([[0.9, 0.8, 0.4], [0.1, 0.7, 0.2], [0.7, 0.01, 0.6]])
    found = evaluate_multilabel(
        gold, probabilities, ["a", "b", "c"], ["x", "y", "z"], threshold=0.5, settings=QUICK
    )
    assert found.worst == (Mistake("z", "a|b|c", "a|c", 0.99), Mistake("x", "a|c", "a|b", 0.8))
    raised = evaluate_multilabel(
        gold,
        probabilities,
        ["a", "b", "c"],
        ["x", "y", "z"],
        threshold=np.array([0.5, 0.9, 0.3]),
        settings=QUICK,
    )
    assert raised.metrics["subset_accuracy"] == pytest.approx(1 / 3)


def test_numbers_are_measured() -> None:
    gold, predicted = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 2.5, 3.0, 2.0])
    found = evaluate_numbers(
        gold, predicted, ["a", "b", "c", "d"], slices={"x": list("uvuv")}, settings=QUICK
    )
    assert found.metrics["rmse"] == pytest.approx(sk.root_mean_squared_error(gold, predicted))
    assert found.metrics["mae"] == pytest.approx(2.5 / 4)
    assert [(one.id, one.gold, one.predicted) for one in found.worst] == [
        ("d", "4.0", "2.0"),
        ("b", "2.0", "2.5"),
    ]
    assert all(math.isnan(one.confidence) for one in found.worst)
    assert {one.slice: one.metrics["mae"] for one in found.slices} == {"x=u": 0, "x=v": 1.25}
    assert set(found.intervals) == {"rmse", "mae", "r2", "pearson"}


GOLD_TAGS = [["B-PER", "I-PER", "O"], ["B-LOC", "O"], ["O", "O"], ["B-LOC", "I-LOC", "B-PER"]]
GUESSED_TAGS = [["B-PER", "I-PER", "O"], ["B-PER", "O"], ["O", "B-LOC"], ["O", "I-LOC", "B-PER"]]


def test_tags_are_measured() -> None:
    found = evaluate_tags(
        GOLD_TAGS, GUESSED_TAGS, ["a", "b", "c", "d"], slices={"x": list("uvuv")}, settings=QUICK
    )
    # 2 of 5 predicted and of 4 gold spans are right
    assert found.metrics["micro_f1"] == pytest.approx(2 * 2 / 9)
    assert found.metrics["micro_precision"] == pytest.approx(2 / 5)
    assert found.metrics["token_accuracy"] == pytest.approx(7 / 10)
    assert found.metrics["row_accuracy"] == pytest.approx(1 / 4)
    assert found.labels == (
        LabelFigures("LOC", 0, 0, 0, 2),
        LabelFigures("PER", pytest.approx(2 / 3), 1, pytest.approx(4 / 5), 2),
    )
    assert set(found.confusion) == {
        ConfusionCell("PER", "PER", 2),
        ConfusionCell("LOC", "PER", 1),
        ConfusionCell("LOC", "O", 1),
        ConfusionCell("O", "LOC", 2),
    }
    assert [one.id for one in found.worst] == ["b", "d", "c"]
    assert found.worst[1] == Mistake("d", "LOC 0-2, PER 2-3", "LOC 1-2, PER 2-3", found.worst[1].confidence)
    assert {one.slice: one.metrics["micro_f1"] for one in found.slices} == {
        "x=u": pytest.approx(2 / 3),
        "x=v": pytest.approx(2 / 6),
    }
    assert found.intervals["micro_f1"].low < 4 / 9 < found.intervals["micro_f1"].high


def test_confidences_order_the_wrong_rows_of_tags() -> None:
    confidences = np.array([1.0, 0.2, 0.9, 0.5])
    found = evaluate_tags(
        GOLD_TAGS, GUESSED_TAGS, ["a", "b", "c", "d"], confidences=confidences, settings=QUICK
    )
    assert [(one.id, one.confidence) for one in found.worst] == [("c", 0.9), ("d", 0.5), ("b", 0.2)]


def test_an_evaluation_comes_back_from_json() -> None:
    whole = Evaluation(
        n=3,
        metrics={"accuracy": 0.5, "roc_auc": float("nan"), "perplexity": float("inf")},
        intervals={"accuracy": Interval(0.1, float("-inf"), 0.95)},
        slices=(SliceFigures("lang=français", {"accuracy": 1.0, "roc_auc": float("nan")}, 2, True),),
        labels=(LabelFigures("a", 0.1, 0.2, 0.3, 4),),
        confusion=(ConfusionCell("a", "b", 7),),
        calibration=(ReliabilityBin(0.0, 0.1, 0.05, 0.5, 2),),
        worst=(Mistake("id", "a", "b", float("nan")),),
    )
    text = whole.to_json()
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name))["metrics"] == {
        "accuracy": 0.5,
        "roc_auc": None,
        "perplexity": "Infinity",
    }
    back = Evaluation.from_json(text)
    assert back.to_json() == text
    assert math.isnan(back.metrics["roc_auc"])
    assert math.isnan(back.slices[0].metrics["roc_auc"])
    assert math.isnan(back.worst[0].confidence)
    assert back.metrics["perplexity"] == math.inf
    assert back.intervals["accuracy"].high == -math.inf
    for name in ("labels", "confusion", "calibration", "n"):
        assert getattr(back, name) == getattr(whole, name)
    assert (back.slices[0].slice, back.slices[0].n, back.slices[0].small) == ("lang=français", 2, True)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"n": 1, "metrics": {"accuracy": "high"}}', "null"])
def test_what_is_no_evaluation_is_told(text: str) -> None:
    with pytest.raises(InputError, match="this is no evaluation"):
        Evaluation.from_json(text)


def test_evaluations_of_every_kind_go_through_json() -> None:
    gold, probabilities = _classifier(50, 3)
    ids = [str(n) for n in range(50)]
    for found in (
        evaluate_labels(gold, probabilities, list("abc"), ids, slices={"x": ids}, settings=QUICK),
        evaluate_multilabel(probabilities > 0.4, probabilities[:, ::-1], list("abc"), ids, settings=QUICK),
        evaluate_numbers(gold, probabilities[:, 0], ids, settings=QUICK),
        evaluate_tags(GOLD_TAGS, GUESSED_TAGS, ids[:4], settings=QUICK),
    ):
        assert Evaluation.from_json(found.to_json()).to_json() == found.to_json()
        assert found.worst


def test_no_rows_are_measured_without_an_error() -> None:
    none = np.empty(0, np.int64)
    for found in (
        evaluate_labels(none, np.empty((0, 2)), ["a", "b"], [], slices={"x": []}),
        evaluate_multilabel(np.empty((0, 2), bool), np.empty((0, 2)), ["a", "b"], []),
        evaluate_numbers(np.empty(0), np.empty(0), []),
        evaluate_tags([], [], []),
    ):
        assert (found.n, found.intervals, found.slices, found.worst) == (0, {}, (), ())
        assert all(value == 0 or math.isnan(value) for value in found.metrics.values())


def test_the_same_call_gives_the_same_evaluation() -> None:
    gold, probabilities = _classifier(80, 3)
    ids = [str(n) for n in range(80)]
    one, other = (evaluate_labels(gold, probabilities, list("abc"), ids, settings=QUICK) for _ in range(2))
    assert one == other


def test_probabilities_that_do_not_fit_are_told() -> None:
    with pytest.raises(InputError, match=r"\[rows, 3\]"):
        evaluate_labels(np.array([0]), np.array([[0.5, 0.5]]), list("abc"), ["x"])
    with pytest.raises(InputError, match="probabilities, row 1"):
        evaluate_labels(np.array([0, 1]), np.array([[0.5, 0.5], [np.nan, 0.5]]), list("ab"), ["x", "y"])
    with pytest.raises(InputError, match=r"gold, row 1\n  got: 2"):
        evaluate_labels(np.array([0, 2]), np.array([[0.5, 0.5], [0.5, 0.5]]), list("ab"), ["x", "y"])
    with pytest.raises(InputError, match="ids 1"):
        evaluate_numbers(np.array([1.0, 2.0]), np.array([1.0, 2.0]), ["x"])
    with pytest.raises(InputError, match=r"\[1, 3\] and \[1, 2\]"):
        evaluate_multilabel(np.ones((1, 3), bool), np.ones((1, 2)), list("abc"), ["x"])
