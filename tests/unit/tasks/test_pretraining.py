"""Next sentences and span corruption: what a pair is, what a span is, and that a network learns from both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sparkml.errors import ConfigError
from sparkml.models.inputs import TextInputs, read_text_inputs
from sparkml.models.networks import load_network
from sparkml.tasks.draws import draws_of
from sparkml.tasks.masked_lm import MaskedLMOptions
from sparkml.tasks.next_sentence import NextSentence
from sparkml.tasks.span_corruption import SpanCorruption, SpanCorruptionOptions
from sparkml.tasks.task import Batch, Rows, Targets, Task
from tests.tiny import SHAPE, tiny_model, tiny_tokenizer

PAD, CLS, SEP = 0, 2, 3
T5 = {"model_type": "t5", "d_model": 32, "d_ff": 64, "d_kv": 16, "num_layers": 2, "num_heads": 2}


def packed(*rows: list[int]) -> Rows:
    return {"input_ids": np.array(rows, np.int32)}


@pytest.fixture(scope="module")
def with_segments(tmp_path_factory: pytest.TempPathFactory) -> TextInputs:
    return read_text_inputs(tiny_model(tmp_path_factory.mktemp("bert"), "AutoModelForPreTraining"))


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("t5"), "AutoModelForSeq2SeqLM", config=T5, sentinels=8)


def pairs(inputs: TextInputs, **options: object) -> NextSentence:
    return NextSentence(MaskedLMOptions(**options), Targets(), inputs)


def corrupting(inputs: TextInputs, **options: object) -> SpanCorruption:
    return SpanCorruption(SpanCorruptionOptions(**options), Targets(), inputs)


def unmasked(batch: Batch) -> np.ndarray:
    """The ids before some of them were hidden."""
    ids = batch.inputs["input_ids"].numpy().copy()
    ids.reshape(-1)[batch.targets["position"].numpy()] = batch.targets["target"].numpy()
    return ids


def documents(n: int, length: int = 24) -> Rows:
    """Each of one token that no other one has: whose a part is can be seen."""
    return packed(*[[CLS, *[60 + number] * (length - 2), SEP] for number in range(n)])


def test_a_pair_is_of_one_document_or_of_two(with_segments: TextInputs) -> None:
    task = pairs(with_segments)
    batch = task.collate(documents(200), draws_of(3, 0, range(200)))
    ids, kinds = unmasked(batch), batch.inputs["token_type_ids"].numpy()
    follows = batch.targets["follows"].numpy()
    assert 0.4 < follows.mean() < 0.6
    for row, kind, other in zip(ids, kinds, follows, strict=True):
        length = int((row != PAD).sum())
        first, second = np.flatnonzero(row == SEP)
        assert (row[0], second) == (CLS, length - 1)
        assert kind[: first + 1].max() == 0
        assert kind[first + 1 : length].min() == 1
        same = row[first - 1] == row[first + 1]
        assert same == (other == 0)


def test_a_cut_is_behind_a_sentence(with_segments: TextInputs) -> None:
    stop = int(np.flatnonzero(with_segments.ends_sentence)[0])
    row = [CLS, *[70] * 10, stop, *[71] * 9, SEP, PAD, PAD]
    batch = pairs(with_segments).collate(packed(row), None)
    assert unmasked(batch)[0, :14].tolist() == [CLS, *[70] * 10, stop, SEP, 71]
    assert batch.targets["follows"].tolist() == [0]  # a batch of one sample has no other second part


def test_of_a_packed_sample_the_longest_document_counts_and_short_ones_none(
    with_segments: TextInputs,
) -> None:
    row = [CLS, 65, 66, SEP, CLS, *range(70, 84), SEP, CLS, 67, SEP]
    short = [CLS, 65, 66, SEP] + [PAD] * 19
    batch = pairs(with_segments).collate(packed(row, short), None)
    assert batch.rows == 1
    assert [n for n in unmasked(batch)[0].tolist() if n > SEP] == list(range(70, 84))
    none = pairs(with_segments).collate(packed(short), None)
    assert none.rows == 0


def test_long_parts_are_cut_at_their_far_ends(with_segments: TextInputs) -> None:
    row = [CLS, *range(60, 90), SEP]  # with the third special token one token is too many
    batch = pairs(with_segments).collate(packed(row), None)
    ids = unmasked(batch)[0].tolist()
    assert len(ids) == 32
    kept = [n for n in ids if n > SEP]
    assert kept in (list(range(61, 90)), list(range(60, 89)))


def test_spans_and_sentinels_make_the_text_again(t5: Path) -> None:
    inputs = read_text_inputs(t5)
    assert len(inputs.sentinel_ids) == 8
    task = corrupting(inputs, noise_fraction=0.3, mean_span=2)
    text = list(range(40, 70))
    batch = task.collate(packed([CLS, *text, SEP]), draws_of(5, 0, [0]))
    source = [n for n in batch.inputs["input_ids"][0].tolist() if n != PAD]
    target = [n for n in batch.targets["labels"][0].tolist() if n >= 0]
    assert (source[-1], target[-1]) == (SEP, SEP)
    spans: dict[int, list[int]] = {}
    for number in target[:-1]:
        if number in inputs.sentinel_ids:
            spans[number] = []
        else:
            spans[list(spans)[-1]].append(number)
    assert list(spans) == list(inputs.sentinel_ids[: len(spans)])
    assert sum(map(len, spans.values())) == 9
    whole = [n for number in source[:-1] for n in spans.get(number, [number])]
    assert whole == text


@pytest.mark.parametrize("length", [1, 2, 3])
def test_short_texts_are_corrupted_too(t5: Path, length: int) -> None:
    task = corrupting(read_text_inputs(t5))
    batch = task.collate(packed([CLS, *range(50, 50 + length), SEP, *[PAD] * (5 - length)]), None)
    assert batch.targets["labels"].shape[0] == 1
    assert int(batch.targets["target"][-1]) == SEP


def learns(task: Task, network: torch.nn.Module, rows: Rows) -> None:
    """The loss falls by descending it."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    batch: Batch = task.collate(rows, draws_of(0, 0, range(len(rows["input_ids"]))))
    losses = []
    for _ in range(30):
        found = task.loss(network, batch)
        (found.total / found.units).backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(found.total / found.units))
    assert losses[-1] < 0.5 * losses[0]
    values = task.values(task.sums(network.eval(), batch).numpy())
    assert values["loss"] < losses[0]


def test_a_network_learns_both(with_segments: TextInputs, t5: Path, tmp_path: Path) -> None:
    bert = tiny_model(tmp_path / "bert", "AutoModelForPreTraining")
    network = load_network(bert, "AutoModelForPreTraining").network
    learns(pairs(with_segments), network, documents(8))
    seq2seq = load_network(t5, "AutoModelForSeq2SeqLM").network
    learns(corrupting(read_text_inputs(t5)), seq2seq, documents(8))


def test_what_a_network_cannot_is_an_error(tmp_path: Path) -> None:
    plain = read_text_inputs(tiny_tokenizer(tmp_path / "plain").parent)
    with pytest.raises(ConfigError, match="segments"):
        pairs(plain).network()
    with pytest.raises(ConfigError, match="stand for spans"):
        corrupting(plain).network()
    electra = tiny_model(
        tmp_path / "electra", "AutoModelForPreTraining", config={**SHAPE, "model_type": "electra"}
    )
    inputs = read_text_inputs(electra)
    network = load_network(electra, "AutoModelForPreTraining").network
    task = pairs(inputs)
    with pytest.raises(ConfigError, match="follow each other"):
        task.loss(network, task.collate(documents(4), None))
