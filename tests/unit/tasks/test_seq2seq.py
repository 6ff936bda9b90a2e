"""Texts from texts: what is read, what is learnt, what an answer is, and what it is worth."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from sparkml.errors import ConfigError, InputError, NotApplicableError
from sparkml.inference.scorer import rows_of
from sparkml.models.folder import CONFIG_FILE, read_json, write_json
from sparkml.models.networks import load_network
from sparkml.models.writing import WritingInputs
from sparkml.tasks.generating import Text
from sparkml.tasks.seq2seq import Seq2Seq, Seq2SeqOptions
from sparkml.tasks.task import Batch, Targets
from tests.tiny import tiny_model
from tests.writers import GPT2, T5

CLS, SEP = 2, 3


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("t5"), "AutoModelForSeq2SeqLM", config=T5)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("gpt2"), "AutoModelForCausalLM", config=GPT2)


def task_of(folder: Path, **options: Any) -> Seq2Seq:
    settings = {"max_length": 16, "max_target_length": 12, **options}
    return Seq2Seq(Seq2SeqOptions(**settings), Targets(), Seq2Seq.read_inputs(str(folder)))


def pairs(
    texts: list[str | None], targets: list[str | None] | None = None, **more: list[str]
) -> pa.RecordBatch:
    columns = {"text": pa.array(texts, pa.string()), "text_b": pa.array(targets or texts, pa.string())}
    return pa.RecordBatch.from_pydict({**columns, **more})


def ids_of(samples: pa.RecordBatch, column: str = "input_ids") -> list[list[int]]:
    return [np.frombuffer(row, np.int32).tolist() for row in samples.column(column).to_pylist()]


def tokens(task: Seq2Seq, text: str) -> list[int]:
    ((window,),) = task.inputs.encoder().encode([text], max_length=64)
    return window.ids[1:-1]


def test_what_a_directory_says_of_its_network(t5: Path, gpt2: Path, tmp_path: Path) -> None:
    found = Seq2Seq.read_inputs(str(t5))
    assert (found.alone, found.start_id, found.first_id, found.end_ids) == (False, 0, -1, (SEP,))
    assert task_of(t5).network().head == "AutoModelForSeq2SeqLM"
    found = Seq2Seq.read_inputs(str(gpt2))
    assert (found.alone, found.start_id, found.end_ids) == (True, -1, (SEP,))
    assert task_of(gpt2).network().head == "AutoModelForCausalLM"
    folder = tiny_model(tmp_path, "AutoModelForSeq2SeqLM", config=T5)
    write_json(folder / "generation_config.json", {"eos_token_id": [SEP, 9], "forced_bos_token_id": 7})
    found = Seq2Seq.read_inputs(str(folder))
    assert (found.end_ids, found.first_id) == ((SEP, 9), 7)
    assert found.start_id == 0  # as config.json says
    config = read_json(folder / CONFIG_FILE)
    write_json(folder / CONFIG_FILE, {**config, "decoder_start_token_id": None})
    with pytest.raises(InputError, match="token with which its decoder begins"):
        Seq2Seq.read_inputs(str(folder))


def test_a_pair_becomes_what_is_read_and_what_is_written(t5: Path, gpt2: Path) -> None:
    examples = pairs(["free cash"], ["lunch home"])
    task = task_of(t5, prefix="win ")
    (ids,) = ids_of(task.encode(examples, purpose="train").samples)
    assert ids == [CLS, *tokens(task, "win free cash"), SEP]
    (target,) = ids_of(task.encode(examples, purpose="train").samples, "target_ids")
    assert target == [*tokens(task, "lunch home"), SEP]
    alone = task_of(gpt2, separator=" now")
    assert ids_of(alone.encode(examples, purpose="train").samples) == [
        [CLS, *tokens(alone, "free cash"), *tokens(alone, " now")]
    ]
    answered = task.encode(examples.select(["text"]), purpose="answer").samples
    assert answered.column("target_ids").null_count == 1
    assert answered.column("n_tokens").to_pylist() == [len(ids)]


def test_what_cannot_be_used_is_left_out_with_its_reason(t5: Path) -> None:
    long = "free cash " * 40
    texts = ["win", None, " ", "home", long, "lunch", "now"]
    targets = ["a", "b", "c", "", "e", long, long]
    splits = ["train"] * 6 + ["validation"]
    task = task_of(t5, long_texts="reject")
    encoded = task.encode(pairs(texts, targets, split=splits), purpose="train")
    reasons = {one.example: (one.reason, one.threshold) for one in encoded.rejects}
    assert reasons == {
        1: ("text_missing", None),
        2: ("text_missing", None),
        3: ("text_b_missing", None),
        4: ("text_too_long", 16.0),
        5: ("text_b_too_long", 12.0),
    }
    # Of a held-out one the beginning counts, and nothing says that it ends there.
    assert encoded.samples.column("example").to_pylist() == [0, 6]
    assert len(ids_of(encoded.samples, "target_ids")[1]) == 12
    assert SEP not in ids_of(encoded.samples, "target_ids")[1]
    answered = task.encode(pairs(texts), purpose="answer")
    assert {one.example: one.reason for one in answered.rejects} == {
        1: "text_missing",
        2: "text_missing",
        4: "text_too_long",
    }
    cut = task_of(t5).encode(pairs([long]), purpose="answer").samples
    assert len(ids_of(cut)[0]) == 16
    assert ids_of(cut)[0][-1] == SEP


def test_a_decoder_keeps_room_for_what_it_writes(gpt2: Path) -> None:
    task = task_of(gpt2, max_length=60, max_new_tokens=40)
    samples = task.encode(pairs(["free cash " * 40]), purpose="answer").samples
    assert len(ids_of(samples)[0]) == 64 - 40
    with pytest.raises(ConfigError, match="no room for what is to be read"):
        task_of(gpt2, max_new_tokens=60).encode(pairs(["x"]), purpose="answer")


def collated(task: Seq2Seq) -> Batch:
    encoded = task.encode(pairs(["free cash", "win"], ["lunch", "book train"]), purpose="train")
    return task.collate(rows_of(encoded.samples), None)


def test_the_loss_is_over_the_targets_tokens_alone(t5: Path, gpt2: Path) -> None:
    for folder, head in ((t5, "AutoModelForSeq2SeqLM"), (gpt2, "AutoModelForCausalLM")):
        task, network = task_of(folder), load_network(folder, head).network.eval()
        batch = collated(task)
        wanted = [[*tokens(task, "lunch"), SEP], [*tokens(task, "book train"), SEP]]
        read = [[CLS, *tokens(task, text), SEP] for text in ("free cash", "win")]
        assert batch.targets["target"].tolist() == [*wanted[0], *wanted[1]]
        assert batch.targets["length"].tolist() == [len(row) for row in read]
        assert batch.tokens == sum(map(len, [*wanted, *read]))
        expected = spread = 0.0
        for ids, target in zip(read, wanted, strict=True):
            if task.inputs.alone:
                logits = network(input_ids=torch.tensor([[*ids, *target]])).logits[0, len(ids) - 1 : -1]
            else:
                before = torch.tensor([[0, *target[:-1]]])
                logits = network(input_ids=torch.tensor([ids]), decoder_input_ids=before).logits[0]
            loss = torch.nn.functional.cross_entropy(logits, torch.tensor(target), reduction="sum")
            expected += float(loss.detach())
            spread -= float(logits.log_softmax(dim=1).mean(dim=1).sum().detach())
        found = task.loss(network, batch)
        assert float(found.total.detach()) == pytest.approx(expected, rel=1e-5)
        assert found.units == len(wanted[0]) + len(wanted[1])
        measured = task.values(task.sums(network, batch).numpy())
        assert measured["loss"] == pytest.approx(expected / found.units, rel=1e-5)
        smoothed = task_of(folder, label_smoothing=0.2)
        total = float(smoothed.loss(network, batch).total.detach())
        assert total == pytest.approx(0.8 * expected + 0.2 * spread, rel=1e-5)
        assert smoothed.values(smoothed.sums(network, batch).numpy()) == measured


def test_there_must_be_targets() -> None:
    options = Seq2SeqOptions()
    assert Seq2Seq.count(options, pairs(["a", "b", "c"], ["x", None, " "])) == {"targets": 1.0}
    assert Seq2Seq.fit(options, {"train": {"targets": 1.0}}) == Targets()
    with pytest.raises(NotApplicableError, match="no texts to learn to write"):
        Seq2Seq.fit(options, {"train": {"targets": 0.0}, "validation": {"targets": 5.0}})


def test_an_answer_is_the_text_with_its_score(t5: Path) -> None:
    task = task_of(t5)
    answer = task.answer({}, Text("Va ! \u00e9t\u00e9", 0.25).to_array())
    assert (answer.output, answer.score, answer.prediction, answer.error) == (
        "Va ! \u00e9t\u00e9",
        0.25,
        None,
        None,
    )
    assert task.answer({}, Text("x", float("nan")).to_array()).output is None
    same, other = Text("a", 0.5).to_array(), Text("b", 0.5).to_array()
    assert (task.moved(same, same), task.moved(same, other)) == (0.0, 1.0)


def test_beams_and_new_tokens_count_for_what_is_held(t5: Path) -> None:
    held = task_of(t5, num_beams=3, max_new_tokens=10).tokens_held(np.array([5, 7]))
    assert held.tolist() == [45, 51]


def test_figures_and_the_simple_model(t5: Path) -> None:
    task = task_of(t5)
    held_out = pa.Table.from_pydict(
        {"doc_id": ["a", "b"], "text": ["free cash now", "train home"], "text_b": ["argent libre", "train"]}
    )
    outputs = [Text("argent libre", 0.9).to_array(), Text("bus", 0.8).to_array()]
    found = task.evaluate(held_out, outputs, 3)
    assert found is not None
    assert found.metrics["exact_match"] == 0.5
    assert [one.id for one in found.worst] == ["b"]
    judged = task.judged(held_out, outputs)
    assert (judged.metric, judged.said.tolist()) == ("chrf", ["argent libre", "bus"])
    assert judged.value == found.metrics["chrf"]
    train = pa.Table.from_pydict(
        {"text": ["a train", "free cash", "lunch"], "text_b": ["train", "argent", "repas"]}
    )
    simple = task.baseline(train, held_out, 3)
    assert simple is not None
    assert (
        simple.metrics["exact_match"] == 0.5
    )  # `train` as it stands in training, `argent` for `argent libre`
    assert 0 < simple.metrics["chrf"] < 1


def test_inputs_travel_as_plain_data(t5: Path) -> None:
    inputs = Seq2Seq.read_inputs(str(t5))
    assert isinstance(inputs, WritingInputs)
    again = pickle.loads(pickle.dumps(inputs))
    assert again == inputs
    assert len({inputs, again}) == 1  # a worker's cache of models is by it
