"""Texts and pairs by label: what is learnt, what is left out, losses and figures."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
import torch

from sparkml.errors import NotApplicableError
from sparkml.models.inputs import TextInputs
from sparkml.models.text_encoder import parse
from sparkml.tasks.classify import Classify, ClassifyOptions
from sparkml.tasks.hashing import unit_hash
from sparkml.tasks.label_counts import labels_of
from sparkml.tasks.pairs import Pairs
from sparkml.tasks.task import Targets
from tests.unit.tasks.examples import Says, examples_of, samples

TARGETS = Targets(labels=("a", "b", "c"), counts={"a": 60, "b": 30, "c": 10})
LOGITS = [[2.0, 0.0, -1.0], [0.5, 0.25, 0.0], [0.0, -3.0, 1.0]]


def task_of(inputs: TextInputs, targets: Targets = TARGETS, **options: object) -> Classify:
    return Classify(ClassifyOptions(**options), targets, inputs)


def softmax(row: list[float]) -> list[float]:
    total = sum(map(math.exp, row))
    return [math.exp(value) / total for value in row]


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_labels_of_a_value() -> None:
    assert labels_of(" ham ", several=False) == ["ham"]
    assert labels_of("a|b", several=False) == ["a|b"]
    assert labels_of("b| a||b", several=True) == ["b", "a"]
    assert labels_of(None, several=True) == labels_of("  ", several=False) == []


def test_the_most_frequent_are_learnt_in_alphabetical_order_ties_by_name() -> None:
    counts = {"train": {"zebra": 9, "bee": 5, "ant": 5, "cat": 2}, "validation": {"whale": 50}}
    found = Classify.fit(ClassifyOptions(max_labels=2, min_rows_per_label=3), counts)
    assert (found.labels, found.counts) == (("ant", "zebra"), {"ant": 5, "zebra": 9})
    assert Classify.fit(ClassifyOptions(min_rows_per_label=3), counts).labels == ("ant", "bee", "zebra")


def test_labels_are_counted_one_or_several_a_row() -> None:
    rows = examples_of(["x"] * 4, ["a|b", "a", None, " a "])
    assert Classify.count(ClassifyOptions(), rows) == {"a|b": 1, "a": 2}
    assert Classify.count(ClassifyOptions(several=True), rows) == {"a": 3, "b": 1}


def test_too_few_labels_say_what_to_do() -> None:
    with pytest.raises(NotApplicableError, match=r"no labels[\s\S]*ingest\.source\.label_field"):
        Classify.fit(ClassifyOptions(), {})
    with pytest.raises(NotApplicableError, match=r"too few labels[\s\S]*'ham' \(2\), 'spam' \(9\)"):
        Classify.fit(ClassifyOptions(min_rows_per_label=3), {"train": {"spam": 9, "ham": 2}})
    assert Classify.fit(ClassifyOptions(several=True), {"train": {"spam": 9}}).labels == ("spam",)
    with pytest.raises(NotApplicableError, match="too many labels"):
        Classify.fit(ClassifyOptions(), {"train": {str(number): 1 for number in range(100_000)}})


def test_what_cannot_be_learnt_from_is_left_out_with_its_reason(inputs: TextInputs) -> None:
    texts = ["win", None, " ", "lunch", "home", "late"]
    labels = ["a", "a", "a", None, "zebra", " b "]
    task = task_of(inputs)
    for purpose in ("train", "measure"):
        encoded = task.encode(examples_of(texts, labels), purpose=purpose)
        reasons = {reject.example: (reject.reason, reject.detail) for reject in encoded.rejects}
        assert reasons == {
            1: ("text_missing", "null"),
            2: ("text_missing", "empty"),
            3: ("label_missing", ""),
            4: ("label_not_learnt", "zebra"),
        }
        assert encoded.samples.column("example").to_pylist() == [0, 5]
        targets = [np.frombuffer(one, "<i4").tolist() for one in encoded.samples.column("target").to_pylist()]
        assert targets == [[0], [1]]
    answered = task.encode(examples_of(texts, labels), purpose="answer")
    assert answered.samples.column("example").to_pylist() == [0, 3, 4, 5]
    assert answered.samples.column("target").null_count == 4


def test_with_several_labels_no_label_is_an_answer_too(inputs: TextInputs) -> None:
    task = task_of(inputs, several=True)
    encoded = task.encode(examples_of(["win"] * 4, ["c|a", None, "zebra", "zebra|b"]), purpose="train")
    assert [(reject.example, reject.reason) for reject in encoded.rejects] == [(2, "label_not_learnt")]
    batch = task.collate(samples(task, ["win"] * 3, ["c|a", None, "b"]), None)
    assert batch.targets["target"].tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]


def test_caps_keep_about_their_share_and_the_same_rows_in_any_order(inputs: TextInputs) -> None:
    counts = {"train": {"a": 2000, "b": 40}, "validation": {"a": 300}, "test": {"a": 100}}
    options = {"max_rows_per_label": 500, "max_held_out_per_label": 100}
    targets = Classify.fit(ClassifyOptions(**options), counts)
    assert targets.numbers == {"train:a": 0.25, "held_out:a": 0.25}
    task = task_of(inputs, targets, **options)
    examples = examples_of(["win"] * 2000, ["a", "b"] * 1000)

    def kept(order: np.ndarray) -> set[str]:
        shuffled = examples.take(pa.array(order))
        encoded = task.encode(shuffled, purpose="train")
        assert {reject.reason for reject in encoded.rejects} == {"over_label_cap"}
        return {
            shuffled.column("doc_id")[place].as_py()
            for place in encoded.samples.column("example").to_pylist()
        }

    found = kept(np.arange(2000))
    assert kept(np.random.default_rng(1).permutation(2000)) == found
    of_a = {f"d{number}" for number in range(0, 2000, 2)}
    assert found - of_a == {f"d{number}" for number in range(1, 2000, 2)}
    assert found & of_a == {doc_id for doc_id in of_a if unit_hash(doc_id) < 0.25}
    assert 200 < len(found & of_a) < 300
    assert task.encode(examples, purpose="measure").samples.num_rows == 2000


def test_one_label(inputs: TextInputs) -> None:
    task = task_of(inputs)
    batch = task.collate(samples(task, ["win", "lunch", "home"], ["a", "b", "c"]), None)
    losses = [-math.log(softmax(row)[label]) for label, row in enumerate(LOGITS)]
    loss = task.loss(Says(LOGITS), batch)
    assert (float(loss.total.detach()), loss.units) == (pytest.approx(sum(losses)), 3.0)
    found = task.values(task.sums(Says(LOGITS), batch).detach().numpy())
    # Said: a, a, c. F1 of a: 2/3, of b: 0, of c: 1.
    assert found == {
        "loss": pytest.approx(sum(losses) / 3),
        "accuracy": pytest.approx(2 / 3),
        "macro_f1": pytest.approx((2 / 3 + 0 + 1) / 3),
    }


def test_figures_of_sums(inputs: TextInputs) -> None:
    task = task_of(inputs)
    # Loss 6 over 4 rows, 3 right; hits, said and gold of three labels, of which the last never occurs.
    sums = np.array([6, 4, 3, 2, 1, 0, 3, 1, 0, 2, 2, 0], np.float64)
    f1 = (2 * 2 / 5, 2 * 1 / 3)
    assert task.values(sums) == {"loss": 1.5, "accuracy": 0.75, "macro_f1": pytest.approx(sum(f1) / 2)}
    assert task.n_sums == len(sums)
    assert task.values(np.zeros(12)) == {"loss": 0.0, "accuracy": 0.0, "macro_f1": 0.0}


def test_several_labels(inputs: TextInputs) -> None:
    task = task_of(inputs, several=True, threshold=0.7)
    batch = task.collate(samples(task, ["win", "lunch", "home"], ["a", None, "b|c"]), None)
    gold = [[1, 0, 0], [0, 0, 0], [0, 1, 1]]
    losses = [
        -math.log(sigmoid(value) if wanted else 1 - sigmoid(value))
        for row, wanteds in zip(LOGITS, gold, strict=True)
        for value, wanted in zip(row, wanteds, strict=True)
    ]
    assert float(task.loss(Says(LOGITS), batch).total.detach()) == pytest.approx(sum(losses) / 3, rel=1e-5)
    found = task.values(task.sums(Says(LOGITS), batch).detach().numpy())
    # Said above 0.7: a; none; c.
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["macro_f1"] == pytest.approx((1 + 0 + 1) / 3)
    with torch.inference_mode():
        answers = [task.answer({}, output) for output in task.outputs(Says(LOGITS), batch)]
    assert [answer.prediction for answer in answers] == ["a", "", "c"]
    both = task.answer({}, np.array([0.9, 0.1, 0.95], np.float32))
    assert (both.prediction, both.score) == ("a|c", pytest.approx(0.95))


def test_rare_labels_weigh_more(inputs: TextInputs) -> None:
    plain, weighted = task_of(inputs), task_of(inputs, class_weights=True)
    losses = []
    for task in (plain, weighted):
        for label in ("a", "c"):
            batch = task.collate(samples(task, ["win"] * 3, [label] * 3), None)
            losses.append(float(task.loss(Says(LOGITS), batch).total.detach()))
    # 100 rows of 3 labels: the weight of a is 100 / (3 * 60), that of c 100 / (3 * 10).
    assert losses[2] / losses[0] == pytest.approx(100 / 180)
    assert losses[3] / losses[1] == pytest.approx(100 / 30)


def test_focal_loss_counts_sure_answers_less(inputs: TextInputs) -> None:
    task = task_of(inputs, focal_gamma=2.0)
    batch = task.collate(samples(task, ["win", "lunch", "home"], ["a", "b", "c"]), None)
    sure = [softmax(row)[label] for label, row in enumerate(LOGITS)]
    expected = sum(-((1 - p) ** 2) * math.log(p) for p in sure)
    assert float(task.loss(Says(LOGITS), batch).total.detach()) == pytest.approx(expected, rel=1e-5)
    several = task_of(inputs, focal_gamma=2.0, several=True)
    batch = several.collate(samples(several, ["win"], ["a"]), None)
    chances = [sigmoid(2.0), 1 - sigmoid(0.0), 1 - sigmoid(-1.0)]
    expected = sum(-((1 - p) ** 2) * math.log(p) for p in chances) / 3
    assert float(several.loss(Says(LOGITS[:1]), batch).total.detach()) == pytest.approx(expected, rel=1e-5)


def test_label_smoothing_spreads_the_target(inputs: TextInputs) -> None:
    task = task_of(inputs, label_smoothing=0.3)
    batch = task.collate(samples(task, ["win"], ["a"]), None)
    logs = [math.log(p) for p in softmax(LOGITS[0])]
    expected = -(0.7 * logs[0] + 0.3 * sum(logs) / 3)
    assert float(task.loss(Says(LOGITS[:1]), batch).total.detach()) == pytest.approx(expected, rel=1e-5)


def test_windows_of_a_text_are_combined_by_their_tokens(inputs: TextInputs) -> None:
    task = task_of(inputs, max_length=10, max_windows=9)
    encoded = task.encode(examples_of(["free cash " * 5, "win"], ["a", "b"]), purpose="train").samples
    assert encoded.column("example").to_pylist() == [0, 0, 1]
    assert encoded.column("window").to_pylist() == [0, 1, 0]
    rows = {"n_tokens": np.array([10, 4]), "window": np.array([0, 1])}
    outputs = [np.array([0.5, 0.5, 0.0], np.float32), np.array([0.0, 0.3, 0.7], np.float32)]
    np.testing.assert_allclose(task.combine(rows, outputs), [5 / 14, (5 + 1.2) / 14, 2.8 / 14], rtol=1e-6)
    assert task.combine(rows, outputs[:1]) is outputs[0]


def test_windows_vote_or_the_surest_speaks(inputs: TextInputs) -> None:
    said = [np.array(row, np.float32) for row in ([0.4, 0.6, 0], [0.1, 0.9, 0], [0.98, 0.01, 0.01])]
    rows = {"n_tokens": np.array([2, 2, 100]), "window": np.arange(3)}
    vote, highest = (task_of(inputs, combine=how).combine(rows, said) for how in ("vote", "highest"))
    np.testing.assert_allclose(vote, [1 / 3, 2 / 3, 0], atol=1e-6)
    tied = task_of(inputs, combine="vote").combine({"n_tokens": np.ones(2)}, said[1:])
    assert tied[0] > tied[1] == pytest.approx(0.5, abs=1e-6)
    np.testing.assert_allclose(highest, np.array([0.98, 0.9, 0.01]) / 1.89, rtol=1e-6)
    several = task_of(inputs, combine="vote", several=True).combine(rows, said)
    np.testing.assert_allclose(several, [1 / 3, 2 / 3, 0], rtol=1e-6)
    surest = task_of(inputs, combine="highest", several=True).combine(rows, said)
    np.testing.assert_allclose(surest, [0.98, 0.9, 0.01], rtol=1e-6)


def test_of_equal_scores_the_first_label_is_answered_and_no_number_is_an_error(inputs: TextInputs) -> None:
    task = task_of(inputs)
    answer = task.answer({}, np.array([0.25, 0.375, 0.375], np.float32))
    assert (answer.prediction, answer.score) == ("b", 0.375)
    assert answer.scores == [("b", 0.375), ("c", 0.375), ("a", 0.25)]
    assert task.answer({}, np.array([np.nan, 0, 1])).error == "the model's scores are not finite"


def test_the_simple_model_learns_words(inputs: TextInputs) -> None:
    task = task_of(inputs, Targets(labels=("a", "b"), counts={"a": 20, "b": 20}))
    train = pa.Table.from_batches([examples_of(["win cash now", "lunch at home"] * 20, ["a", "b"] * 20)])
    unlabelled = pa.Table.from_batches([examples_of(["x", "y"], [None, "zebra"])])
    held_out = pa.Table.from_batches([examples_of(["cash", "home", "lunch", "win"], ["a", "b", "b", "a"])])
    found = task.baseline(pa.concat_tables([train, unlabelled]), held_out, 17)
    assert found is not None
    assert (found.n, found.metrics["accuracy"]) == (4, 1.0)


def test_a_pair_is_read_as_one_sequence_with_segments(inputs: TextInputs) -> None:
    task = Pairs(ClassifyOptions(), TARGETS, inputs)
    texts, seconds = ["win", "home", None], pa.array(["lunch home", None, "x"], pa.string())
    encoded = task.encode(examples_of(texts, ["a", "b", "a"], text_b=seconds), purpose="train")
    reasons = {reject.example: reject.reason for reject in encoded.rejects}
    assert reasons == {1: "text_b_missing", 2: "text_missing"}
    tokenizer = parse(inputs.tokenizer_json)
    first, second = (tokenizer.encode(text, add_special_tokens=False).ids for text in ("win", "lunch home"))
    rows = samples(task, ["win"], ["a"], text_b=pa.array(["lunch home"]))
    batch = task.collate(rows, None)
    length = len(first) + len(second) + 3
    assert batch.inputs["input_ids"][0, :length].tolist() == [2, *first, 3, *second, 3]
    kinds = batch.inputs["token_type_ids"][0].tolist()
    assert kinds[:length] == [0] * (len(first) + 2) + [1] * (len(second) + 1)
    assert batch.inputs["attention_mask"][0].tolist() == [1] * length + [0] * (len(kinds) - length)
    assert (batch.rows, batch.tokens) == (1, length)


@pytest.mark.parametrize(("gpu", "width"), [(False, 13), (True, 16)])
def test_batches_are_padded_to_their_longest_row(
    inputs: TextInputs, monkeypatch: pytest.MonkeyPatch, gpu: bool, width: int
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    task = task_of(inputs)
    batch = task.collate(samples(task, ["win", "free cash now " * 3], ["a", "b"]), None)
    ids, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"]
    assert ids.shape == mask.shape == (2, width)
    assert (ids[mask == 0] == inputs.pad_id).all()
    assert batch.tokens == int(mask.sum())
    assert batch.targets["target"].tolist() == [0, 1]
