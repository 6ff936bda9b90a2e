"""The task retrieve: samples of two sides, in-batch negatives, windows, figures, and that it learns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from sparkml.errors import ConfigError, NotApplicableError
from sparkml.inference.scorer import Scorer, rows_of
from sparkml.models.embedding import EmbeddingInputs
from sparkml.models.heads import build_network
from sparkml.models.inputs import TextInputs
from sparkml.models.shaping.settings import Teaching
from sparkml.tasks.pair_samples import SECOND
from sparkml.tasks.retrieve import Retrieve
from sparkml.tasks.retrieve_options import RetrieveOptions
from sparkml.tasks.task import Rows, Targets, make_task, task_spec
from sparkml.tasks.taught import Taught

LONG = "spam offer money win prize now click free cash claim " * 6


def examples(
    queries: Sequence[str | None], passages: Sequence[str | None], split: str = "train"
) -> pa.RecordBatch:
    n = len(queries)
    return pa.RecordBatch.from_pydict(
        {
            "doc_id": [f"d{number}" for number in range(n)],
            "split": [split] * n,
            "text": pa.array(queries, pa.string()),
            "text_b": pa.array(passages, pa.string()),
        }
    )


def made(inputs: TextInputs, **options: Any) -> Retrieve:
    return Retrieve(RetrieveOptions(**options), Targets(), inputs)


def rows(task: Retrieve, queries: Sequence[str], passages: Sequence[str], split: str = "train") -> Rows:
    return rows_of(task.encode(examples(queries, passages, split), purpose="train").samples)


class ByFirstToken:
    """Vectors by the token behind the special one: `known` says which, others are (1, 0)."""

    def __init__(self, task: Retrieve, known: dict[str, list[float]]) -> None:
        encoder = task.inputs.encoder()
        self._known = {
            encoder.encode([text], max_length=32)[0][0].ids[1]: vector for text, vector in known.items()
        }
        self.calls: list[int] = []

    def __call__(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: Any) -> SimpleNamespace:
        self.calls.append(len(input_ids))
        found = [self._known.get(int(row[1]) if len(row) > 1 else -1, [1.0, 0.0]) for row in input_ids]
        return SimpleNamespace(logits=torch.tensor(found))


VECTORS = {"win": [1.0, 0.0], "train": [0.0, 2.0], "cash": [3.0, 0.0], "late": [0.0, 1.0], "book": [3.0, 4.0]}


def test_what_the_directory_says_is_kept_with_the_options(inputs: TextInputs) -> None:
    said = EmbeddingInputs(
        **inputs.to_payload(), pooling="cls", made_for=16, query_prefix="q: ", passage_prefix="p: "
    )
    found = made(said).options
    assert (found.pooling, found.max_length, found.query_prefix, found.passage_prefix) == (
        "cls",
        16,
        "q: ",
        "p: ",
    )
    given = made(said, pooling="max", max_length=24, query_prefix="", passage_prefix="x ").options
    assert (given.pooling, given.max_length, given.query_prefix, given.passage_prefix) == (
        "max",
        24,
        "",
        "x ",
    )
    # On ranks and in the model that is made the directory's files are no longer asked.
    again = make_task(task_spec(made(said)), inputs)
    assert again.options == found
    assert (made(inputs).options.pooling, made(inputs).options.query_prefix) == ("mean", "")


def test_a_prefix_is_not_cut_off(inputs: TextInputs) -> None:
    assert made(inputs, keep="tail").options.keep == "tail"
    with pytest.raises(ConfigError, match="a prefix stands before the head"):
        made(inputs, keep="tail", passage_prefix="passage: ")


def test_a_sample_holds_both_texts_and_later_windows_follow_where_it_is_measured(inputs: TextInputs) -> None:
    task = made(inputs, max_length=16, max_windows=3)
    learnt = rows(task, ["win"], [LONG])
    assert len(learnt["window"]) == 1
    held_out = rows(task, ["win", LONG], [LONG, "late train"], split="validation")
    first, second = (list(map(len, held_out[prefix + "input_ids"])) for prefix in ("", SECOND))
    assert held_out["example"].tolist() == [0, 0, 0, 1, 1, 1]
    assert held_out["window"].tolist() == [0, 1, 2, 0, 1, 2]
    assert [n > 0 for n in first] == [True, False, False, True, True, True]
    assert [n > 0 for n in second] == [True, True, True, True, False, False]
    assert held_out["n_tokens"].tolist() == [(a + b) // 4 for a, b in zip(first, second, strict=True)]


def test_prefixes_belong_to_their_side(inputs: TextInputs) -> None:
    task = made(inputs, query_prefix="win ", passage_prefix="late ")
    plain = made(inputs)
    found = rows(task, ["train"], ["train"])
    expected = rows(plain, ["win train"], ["late train"])
    assert found["input_ids"].tolist() == expected["input_ids"].tolist()
    assert found[SECOND + "input_ids"].tolist() == expected[SECOND + "input_ids"].tolist()
    asked = {
        side: rows_of(
            made(inputs, query_prefix="win ", passage_prefix="late ", side=side)
            .encode(pa.RecordBatch.from_pydict({"text": ["train"]}), purpose="answer")
            .samples
        )
        for side in ("query", "passage")
    }
    assert asked["query"]["input_ids"][0] == expected["input_ids"][0]
    assert asked["passage"]["input_ids"][0] == expected[SECOND + "input_ids"][0]
    assert SECOND + "input_ids" not in asked["query"]


def test_rows_without_one_of_the_texts_are_left_out(inputs: TextInputs) -> None:
    encoded = made(inputs).encode(examples(["win", None, "win"], ["cash", "cash", " "]), purpose="train")
    assert [(one.example, one.reason) for one in encoded.rejects] == [
        (1, "text_missing"),
        (2, "text_b_missing"),
    ]
    assert encoded.samples.num_rows == 1


def test_without_pairs_there_is_nothing_to_learn() -> None:
    counts = Retrieve.count(RetrieveOptions(), examples(["a", "b", "c"], ["x", None, " "]).select(["text_b"]))
    assert counts == {"pairs": 1}
    assert Retrieve.fit(RetrieveOptions(), {"train": counts}) == Targets()
    with pytest.raises(NotApplicableError, match="no pairs"):
        Retrieve.fit(RetrieveOptions(), {"train": {"pairs": 0}, "validation": {"pairs": 3}})


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_loss_is_that_of_the_right_passage_among_all(inputs: TextInputs, symmetric: bool) -> None:
    task = made(inputs, temperature=0.5, symmetric=symmetric)
    batch = task.collate(rows(task, ["win", "late"], ["cash", "book"]), None)
    found = task.loss(ByFirstToken(task, VECTORS), batch)  # type: ignore[arg-type]
    # Cosines: win-cash 1, win-book .6, late-cash 0, late-book .8.
    of_queries = math.log1p(math.exp((0.6 - 1) / 0.5)) + math.log1p(math.exp((0 - 0.8) / 0.5))
    of_passages = math.log1p(math.exp((0 - 1) / 0.5)) + math.log1p(math.exp((0.6 - 0.8) / 0.5))
    expected = (of_queries + of_passages) / 2 if symmetric else of_queries
    assert (float(found.total), found.units) == (pytest.approx(expected, rel=1e-5), 2.0)


def test_a_passage_that_stands_twice_is_no_wrong_answer_to_its_own_query(inputs: TextInputs) -> None:
    task = made(inputs)
    batch = task.collate(rows(task, ["win", "late", "book"], ["cash", "train", "cash"]), None)
    assert batch.targets["apart"].tolist() == [
        [False, True, False],
        [True, False, True],
        [False, True, False],
    ]
    twice = task.collate(rows(task, ["win", "win"], ["cash", "train"]), None)
    assert not twice.targets["apart"].any()
    assert float(task.loss(ByFirstToken(task, VECTORS), twice).total) == 0.0  # type: ignore[arg-type]


def test_the_curve_counts_pairs_and_those_that_are_found(inputs: TextInputs) -> None:
    task = made(inputs, temperature=1.0)
    network = ByFirstToken(task, VECTORS)
    batch = task.collate(rows(task, ["win", "late", "book"], ["cash", "train", "late"]), None)
    sums = task.sums(network, batch).numpy()  # type: ignore[arg-type]
    # To `late` the passages of the last two are equally near, and to `book` too: neither finds its own first.
    assert sums[1:].tolist() == [1.0, 3.0]
    assert task.values(np.array([6.0, 1.0, 3.0])) == {
        "loss": 2.0,
        "in_batch_recall_at_1": pytest.approx(1 / 3),
    }


def test_a_batch_of_later_windows_teaches_nothing_and_calls_the_network_alike(inputs: TextInputs) -> None:
    task = made(inputs, max_length=16, max_windows=3)
    network = ByFirstToken(task, VECTORS)
    samples = rows(task, ["win"], [LONG], split="validation")
    later = {name: values[1:] for name, values in samples.items()}
    batch = task.collate(later, None)
    loss = task.loss(network, batch)  # type: ignore[arg-type]
    assert (float(loss.total), loss.units) == (0.0, 0.0)
    assert network.calls == [1, 2]
    assert batch.tokens == int(later["n_tokens"].sum())
    outputs = task.outputs(network, batch)  # type: ignore[arg-type]
    assert [np.isnan(one).tolist() for one in outputs] == [[True, True, False, False]] * 2


def test_windows_are_their_mean_at_length_one(inputs: TextInputs) -> None:
    task = made(inputs)
    nan = math.nan
    outputs = [np.array(one, np.float32) for one in ([1, 0, 0, 1], [0, 1, nan, nan], [nan, nan, 1, 0])]
    found = task.combine({"window": np.arange(3), "n_tokens": np.array([9, 3, 3])}, outputs)
    half = math.sqrt(0.5)
    assert found.tolist() == pytest.approx([half] * 4)
    assert task.answer({}, found).embedding == pytest.approx([half, half])
    assert task.answer({}, np.array([nan, 1, 0, 1], np.float32)).error == "the model's vector is not finite"
    assert task.answer({}, np.zeros(4, np.float32)).error == "the model's vector has no direction"


def test_figures_take_equal_passages_for_one_and_bm25_stands_beside(inputs: TextInputs) -> None:
    task = made(inputs)
    held_out = pa.Table.from_batches(
        [
            examples(
                ["the late train", "free money", "a prize", "no word of it"],
                ["train", "cash now", "cash now", "book"],
            )
        ]
    )
    vectors = {"train": [1, 0, 0], "cash now": [0, 1, 0], "book": [0, 0, 1]}
    queries = [[1, 0.1, 0], [0, 1, 0.1], [0.1, 1, 0], [1, 0, 0.1]]
    outputs = [
        np.array([*query, *vectors[passage]], np.float32)
        for query, passage in zip(queries, held_out.column("text_b").to_pylist(), strict=True)
    ]
    found = task.evaluate(held_out, outputs, 17)
    assert found is not None
    assert found.metrics["recall_at_1"] == 0.75
    assert found.metrics["mrr_at_10"] == pytest.approx((3 + 1 / 2) / 4)
    assert [(one.id, one.gold, one.predicted) for one in found.worst] == [("d3", "book", "train")]
    assert task.judged(held_out, outputs).value == found.metrics["mrr_at_10"]
    simple = task.baseline(held_out, held_out, 17)
    assert simple is not None
    # One query shares a word with its passage; what shares none comes last of three.
    assert simple.metrics["recall_at_1"] == 0.25
    assert simple.metrics["mrr_at_10"] == pytest.approx((1 + 3 / 3) / 4)


def test_a_small_network_learns_which_passage_belongs_to_a_query(
    inputs: TextInputs, encoder_folder: Path
) -> None:
    task = made(inputs)
    queries = ["spam", "offer", "money", "prize", "meeting", "lunch", "friend", "home"]
    passages = ["book", "late", "train", "tomorrow", "cash", "free", "click", "claim"]
    network, _ = build_network(task.network(), encoder_folder, seed=1)
    before = Scorer(task, network).outputs_of(examples(queries, passages), "measure")[0]
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
    batch = task.collate(rows(task, queries, passages), None)
    for _ in range(25):
        optimizer.zero_grad()
        loss = task.loss(network, batch)
        (loss.total / loss.units).backward()
        optimizer.step()
    after = Scorer(task, network).outputs_of(examples(queries, passages), "measure")[0]
    table = pa.Table.from_batches([examples(queries, passages)])
    recalls = [task.evaluate(table, outputs, 1).metrics["recall_at_1"] for outputs in (before, after)]  # type: ignore[arg-type, union-attr]
    assert recalls[0] < 0.6
    assert recalls[1] == 1.0


def test_a_student_of_vectors_is_refused(inputs: TextInputs) -> None:
    with pytest.raises(ConfigError, match="a vector is not something"):
        Taught(made(inputs), Teaching(weight=0.5, temperature=2.0, teacher=""))
