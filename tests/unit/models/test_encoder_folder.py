"""Encoder folders: round trip, the same network as transformers', and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from sparkml.errors import InputError
from sparkml.models.classifier import fill_encoder, new_classifier
from sparkml.models.encoder import (
    EncoderShape,
    build_masked_lm,
    encoder_shape,
    load_encoder,
    load_masked_lm,
)
from tests.tiny import SHAPE


def test_saved_weights_come_back_bit_for_bit(encoder_folder: Path) -> None:
    vocabulary = Tokenizer.from_file(str(encoder_folder / "tokenizer.json")).get_vocab_size()
    built = build_masked_lm(SHAPE, vocabulary, seed=1).state_dict()
    loaded = load_masked_lm(encoder_folder).state_dict()
    assert built.keys() == loaded.keys()
    assert all(torch.equal(built[name], loaded[name]) for name in built)


def test_equal_seeds_give_equal_weights_and_leave_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    first, second, other = (build_masked_lm(SHAPE, 300, seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    name = "bert.encoder.layer.0.output.dense.weight"
    assert torch.equal(first.state_dict()[name], second.state_dict()[name])
    assert not torch.equal(first.state_dict()[name], other.state_dict()[name])


def test_embeddings_are_tied_and_attention_is_fused(encoder_folder: Path) -> None:
    model = load_masked_lm(encoder_folder)
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight
    assert model.config._attn_implementation == "sdpa"
    assert "cls.predictions.decoder.weight" not in load_file(encoder_folder / "model.safetensors")


def test_shape_is_read_back(encoder_folder: Path) -> None:
    assert encoder_shape(encoder_folder) == SHAPE


def test_heads_must_divide_hidden() -> None:
    with pytest.raises(ValidationError, match="multiple of heads"):
        EncoderShape(hidden=30, heads=4)


def test_our_network_computes_what_transformers_computes(encoder_folder: Path) -> None:
    theirs = load_encoder(encoder_folder)
    ours = new_classifier(encoder_folder, 2, "mean", seed=0)
    fill_encoder(ours, encoder_folder)
    ids = torch.tensor([[2, 40, 50, 60, 3, 0, 0], [2, 9, 10, 11, 12, 13, 3]])
    mask = ids != 0
    with torch.inference_mode():
        expected = theirs(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        got = ours.eval().bert(ids, mask)
    torch.testing.assert_close(got[mask], expected[mask], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt", "model.pkl"])
def test_a_folder_with_pickled_weights_is_refused(encoder_folder: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(encoder_folder, folder)
    (folder / name).write_bytes(b"\x80\x04.")
    with pytest.raises(InputError, match=r"pickle[\s\S]*" + name):
        load_encoder(folder)


def test_a_missing_folder_and_an_incomplete_one_are_named(encoder_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not found"):
        load_encoder(tmp_path / "nothing")
    folder = tmp_path / "copy"
    shutil.copytree(encoder_folder, folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"incomplete[\s\S]*model.safetensors"):
        load_encoder(folder)


def test_weights_of_another_shape_are_named(encoder_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(encoder_folder, folder)
    state = load_file(folder / "model.safetensors")
    name = "bert.encoder.layer.1.output.dense.weight"
    save_file({**state, name: torch.zeros(2, 2)}, folder / "model.safetensors")
    with pytest.raises(InputError, match=r"encoder\.layer\.1\.output\.dense\.weight"):
        load_encoder(folder)


def test_another_architecture_is_refused(encoder_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(encoder_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "gpt2"}))
    with pytest.raises(InputError, match="gpt2"):
        load_encoder(folder)
