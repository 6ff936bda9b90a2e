"""Pretraining tasks: what is hidden, what is to be guessed, and documents that must not see each other."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from sparkml.errors import ConfigError
from sparkml.models.inputs import TextInputs, read_text_inputs
from sparkml.models.networks import load_network
from sparkml.models.writing import WritingInputs
from sparkml.tasks.causal_lm import CausalLM, CausalLMOptions
from sparkml.tasks.draws import draws_of
from sparkml.tasks.language import same_document
from sparkml.tasks.masked_lm import MaskedLM, MaskedLMOptions
from sparkml.tasks.task import Batch, Rows, Targets, Task
from sparkml.tasks.texts import as_bytes
from tests.tiny import SHAPE, tiny_model
from tests.unit.tasks.examples import examples_of, samples

PAD, CLS, SEP, MASK = 0, 2, 3, 4
GPT2 = {"model_type": "gpt2", "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}


def masked(inputs: TextInputs, **options: object) -> MaskedLM:
    return MaskedLM(MaskedLMOptions(**options), Targets(), inputs)


def causal(inputs: TextInputs, **options: object) -> CausalLM:
    how = {"alone": True, "start_id": -1, "first_id": -1, "end_ids": (SEP,)}
    return CausalLM(CausalLMOptions(**options), Targets(), WritingInputs(**inputs.to_payload(), **how))


def packed(*rows: list[int]) -> Rows:
    return {"input_ids": np.array(rows, np.int32)}


def collated(task: MaskedLM | CausalLM, rows: Rows, seed: int = 0) -> Batch:
    return task.collate(rows, draws_of(seed, 0, range(len(rows["input_ids"]))))


def test_masks_follow_the_paper(inputs: TextInputs) -> None:
    rows = packed(*np.full((400, 100), 50, np.int32))
    batch = collated(masked(inputs), rows)
    positions, ids = batch.targets["position"], batch.inputs["input_ids"].flatten()
    assert (batch.targets["target"] == 50).all()
    assert len(positions) / 40_000 == pytest.approx(0.15, abs=0.01)
    seen = ids[positions]
    assert float((seen == MASK).float().mean()) == pytest.approx(0.8, abs=0.02)
    assert float((seen == 50).float().mean()) == pytest.approx(0.1, abs=0.02)
    untouched = np.delete(ids.numpy(), positions.numpy())
    assert (untouched == 50).all()
    replaced = seen[(seen != MASK) & (seen != 50)]
    assert replaced.min() >= 5
    assert replaced.max() < inputs.vocab_size
    assert (rows["input_ids"] == 50).all()  # what the feed keeps for the next validation stays as it is


@pytest.mark.parametrize("whole_words", [False, True])
def test_special_tokens_are_never_chosen(inputs: TextInputs, whole_words: bool) -> None:
    rows = packed(*np.tile(np.array([0, 1, 2, 3, 4], np.int32), (50, 10)))
    batch = collated(masked(inputs, mask_fraction=0.99, whole_words=whole_words), rows)
    assert len(batch.targets["position"]) == 0
    assert (batch.inputs["input_ids"].numpy() == rows["input_ids"]).all()


def test_masks_are_drawn_by_the_step_and_the_same_where_nothing_is_drawn(inputs: TextInputs) -> None:
    rows = packed(*np.full((20, 30), 50, np.int32))
    found = [collated(masked(inputs), rows, seed).targets["position"].tolist() for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]
    measured = [masked(inputs).collate(rows, None).targets["position"].tolist() for _ in range(2)]
    assert measured[0] == measured[1]


def test_whole_words_are_hidden_whole(inputs: TextInputs) -> None:
    begin = int(np.flatnonzero(inputs.begins_word)[-1])
    inside = int(np.flatnonzero(~inputs.begins_word)[-1])
    word = [begin, inside, inside]
    rows = packed(*[[CLS, *word * 9, SEP]] * 60)
    batch = collated(masked(inputs, whole_words=True, mask_fraction=0.3), rows)
    chosen = np.zeros(60 * 29, bool)
    chosen[batch.targets["position"].numpy()] = True
    words = chosen.reshape(60, 29)[:, 1:-1].reshape(-1, 3)
    assert (words.all(axis=1) == words.any(axis=1)).all()
    assert words.mean() == pytest.approx(0.3, abs=0.05)


def test_padding_and_single_rows(inputs: TextInputs) -> None:
    ids = [[CLS, 50, 51, SEP], [CLS, *range(50, 60), SEP]]
    single: Rows = {"input_ids": np.array([as_bytes(row) for row in ids], object)}
    for task in (masked(inputs, mask_fraction=0.9), causal(inputs)):
        batch = collated(task, single)
        assert batch.inputs["attention_mask"].sum(dim=1).tolist() == [4, 12]
        assert (batch.rows, batch.tokens) == (2, 16)
        places = batch.targets["position"].numpy()
        width = batch.inputs["input_ids"].shape[1]
        assert (places[places < width] < 4).all()
    full = collated(masked(inputs), packed([CLS, 50, SEP, CLS, 51, SEP]))
    assert "attention_mask" not in full.inputs  # without a mask the kernels are the fastest
    padded = collated(masked(inputs), packed([CLS, 50, SEP, PAD, PAD, PAD], [CLS, 50, 51, 52, 53, SEP]))
    assert padded.inputs["attention_mask"].tolist() == [[1, 1, 1, 0, 0, 0], [1] * 6]
    assert padded.tokens == 9


def test_a_text_is_encoded_in_windows_without_segments(inputs: TextInputs) -> None:
    task = masked(inputs, max_length=10)
    rows = samples(task, ["free cash now " * 9], [None])
    assert set(rows) == {"example", "window", "n_tokens", "input_ids"}
    assert len(rows["window"]) > 3
    encoded = task.encode(examples_of([None, "win"], [None, None]), purpose="train")
    assert [reject.reason for reject in encoded.rejects] == ["text_missing"]


def test_a_token_is_guessed_from_those_before_it(inputs: TextInputs) -> None:
    batch = collated(causal(inputs), packed([CLS, 50, 51, SEP, CLS, 60, SEP, PAD]))
    assert batch.targets["position"].tolist() == [0, 1, 2, 3, 4, 5]
    assert batch.targets["target"].tolist() == [50, 51, SEP, CLS, 60, SEP]


def test_the_next_document_is_not_to_be_guessed_where_documents_are_apart(inputs: TextInputs) -> None:
    task = causal(inputs, attend_within_documents=True)
    batch = collated(task, packed([CLS, 50, 51, SEP, CLS, 60, SEP, PAD]))
    assert batch.targets["position"].tolist() == [0, 1, 2, 4, 5]
    assert batch.targets["target"].tolist() == [50, 51, SEP, 60, SEP]
    seen = batch.inputs["attention_mask"][0, 0].int().tolist()
    assert seen == [
        [1, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 1, 0, 0, 0],
        [0, 0, 0, 0, 1, 1, 0, 0],
        [0, 0, 0, 0, 1, 1, 1, 0],
        [0, 0, 0, 0, 0, 0, 0, 1],
    ]


def test_tokens_of_one_document() -> None:
    ids, mask = np.array([[2, 7, 3, 2, 3, 0]]), np.array([[1, 1, 1, 1, 1, 0]])
    assert same_document(ids, mask, SEP)[0].astype(int).tolist() == [
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]


@pytest.mark.parametrize(
    ("config", "head"),
    [
        (SHAPE, "AutoModelForMaskedLM"),
        ({**SHAPE, "model_type": "modernbert"}, "AutoModelForMaskedLM"),
        (GPT2, "AutoModelForCausalLM"),
    ],
    ids=["bert", "modernbert", "gpt2"],
)
@pytest.mark.parametrize("apart", [True, False])
def test_a_document_does_not_depend_on_the_one_before_it_in_the_row(
    tmp_path: Path, config: dict[str, object], head: str, apart: bool
) -> None:
    folder = tiny_model(tmp_path, head, config=config)
    inputs = read_text_inputs(folder)
    network = load_network(folder, head).network.eval()
    make = masked if head == "AutoModelForMaskedLM" else causal
    task = make(inputs, attend_within_documents=apart)
    second = [CLS, *range(60, 66), SEP, PAD, PAD]
    rows = packed([CLS, 50, 51, 52, 53, SEP, *second], [CLS, 90, 91, 92, 93, SEP, *second])
    ids, mask = task.ids_of(rows)
    attention = task.attention(ids, mask, causal=make is causal)
    with torch.inference_mode():
        logits = network(input_ids=torch.from_numpy(ids), **attention).logits[:, 6:14]
    assert bool(torch.isfinite(logits).all())
    assert bool(torch.allclose(logits[0], logits[1], atol=1e-6)) is apart


def test_the_loss_is_over_the_hidden_tokens_and_the_perplexity_its_power(encoder_folder: Path) -> None:
    inputs = read_text_inputs(encoder_folder)
    task = masked(inputs)
    network = load_network(encoder_folder, "AutoModelForMaskedLM").network.eval()
    batch = collated(task, packed(*np.random.default_rng(3).integers(5, 300, (6, 20))))
    logits = network(**batch.inputs).logits.flatten(0, 1)[batch.targets["position"]]
    expected = torch.nn.functional.cross_entropy(logits, batch.targets["target"])
    loss = task.loss(network, batch)
    assert loss.units == len(batch.targets["position"])
    torch.testing.assert_close(loss.total / loss.units, expected)
    values = task.values(task.sums(network, batch).numpy())
    assert values["loss"] == pytest.approx(float(expected))
    assert values["perplexity"] == pytest.approx(math.exp(float(expected)))
    nothing = Batch(batch.inputs, {name: one[:0] for name, one in batch.targets.items()}, 6, 120)
    assert (float(task.loss(network, nothing).total), task.loss(network, nothing).units) == (0.0, 0.0)


def test_a_tokenizer_without_a_mask_is_for_causal_models(inputs: TextInputs) -> None:
    unmasked = TextInputs.from_payload({**inputs.to_payload(), "mask_id": -1})
    with pytest.raises(ConfigError, match="causal_lm"):
        masked(unmasked).network()
    assert causal(unmasked).network().head == "AutoModelForCausalLM"


def test_a_pretrained_encoder_answers_nothing(inputs: TextInputs) -> None:
    task: Task[MaskedLMOptions] = masked(inputs)
    assert (task.has_answers, task.has_figures) == (False, False)
    assert (causal(inputs).has_answers, causal(inputs).has_figures) == (True, False)
    with pytest.raises(ConfigError, match="something to start from"):
        task.answer({}, np.zeros(1))


@pytest.mark.parametrize("whole_words", [False, True])
def test_a_row_is_masked_alike_whatever_is_beside_it(inputs: TextInputs, whole_words: bool) -> None:
    task = masked(inputs, whole_words=whole_words, mask_fraction=0.4)
    rows = packed(*np.random.default_rng(2).integers(5, 300, (4, 30)))
    whole = collated(task, rows).inputs["input_ids"]
    alone = task.collate({"input_ids": rows["input_ids"][2:3]}, draws_of(0, 0, [2])).inputs["input_ids"]
    assert torch.equal(whole[2:3], alone)
    assert not torch.equal(whole[2:3], torch.from_numpy(rows["input_ids"][2:3]).long())
