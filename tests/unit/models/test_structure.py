"""Blocks, channels and heads taken out: what stays says the same as before, and the engines skip what is gone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from sparkml.errors import InputError
from sparkml.models.engines import engine
from sparkml.models.engines.layout import FAMILIES, read_encoder
from sparkml.models.folder import CONFIG_FILE, INT8_FOLDER, read_json
from sparkml.models.heads import load_trained, save_trained
from sparkml.models.int8 import save_int8, to_int8
from sparkml.models.networks import NetworkSpec
from sparkml.models.structure import Importance, Structure, spread_blocks
from tests.tiny import tiny_model
from tests.unit.models.test_engine_encoder import SHAPES, SPECS, both_logits, trained

IDS = torch.tensor([[2, 9, 10, 11, 3], [2, 12, 13, 14, 3]])


def logits(network: nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = network(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits
    return found


def worth(structure: Structure, *, silent_channels: list[int], silent_heads: list[int]) -> Importance:
    channels = torch.ones(structure.n_blocks, structure.n_channels)
    heads = torch.ones(structure.n_blocks, structure.n_heads)
    channels[:, silent_channels], heads[:, silent_heads] = 0.0, 0.0
    return Importance(channels, heads)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_adds_nothing_is_taken_out_and_transformers_loads_the_rest(tmp_path: Path, family: str) -> None:
    """Channels whose output is zero go without a trace, in every architecture."""
    spec = SPECS["first"]
    network = load_trained(spec, trained(tmp_path, SHAPES[family], spec))
    structure = Structure(network)
    names = FAMILIES[family]
    gone = list(range(0, 64, 2))
    with torch.no_grad():
        for name, module in network.named_modules():
            if name.endswith(names.down) and "attention" not in name:
                module.weight[:, gone] = 0.0
    wanted = logits(network)
    structure.keep_channels(0.5, worth(structure, silent_channels=gone, silent_heads=[]))
    torch.testing.assert_close(logits(network), wanted, rtol=1e-4, atol=1e-5)
    structure.keep_blocks([1])
    one_block = logits(network)
    (tmp_path / "pruned").mkdir()
    save_trained(network, tmp_path / "pruned")
    config = read_json(tmp_path / "pruned" / CONFIG_FILE)
    assert (config[names.n_blocks], config[names.channels]) == (1, 32)
    loaded: Any = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "pruned")
    torch.testing.assert_close(logits(loaded.eval()), one_block)
    for theirs, ours in both_logits(spec, tmp_path / "pruned"):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "distilbert"])
@pytest.mark.parametrize("in_int8", [False, True])
def test_heads_that_are_zeros_are_left_out_by_the_encoder(tmp_path: Path, family: str, in_int8: bool) -> None:
    spec = SPECS["mean"]
    network = load_trained(spec, trained(tmp_path, SHAPES[family], spec))
    before = logits(network)
    structure = Structure(network)
    importance = worth(structure, silent_channels=[], silent_heads=[])
    importance.heads.copy_(torch.tensor([[0.9, 0.1], [0.8, 0.7]]))
    structure.keep_heads(0.75, importance)
    after = logits(network)
    assert (after - before).abs().max() > 1e-3
    place = tmp_path / "pruned"
    place.mkdir()
    save_trained(network, place)
    if in_int8:
        save_int8(to_int8(network), tmp_path / INT8_FOLDER)
        place = tmp_path / "small"
        place.mkdir()
        shutil.copyfile(tmp_path / "pruned" / CONFIG_FILE, place / CONFIG_FILE)
        shutil.move(tmp_path / INT8_FOLDER, place / INT8_FOLDER)
    blocks = read_encoder(spec, place).blocks
    assert [(len(block.qkv.weight), block.out.weight.shape[1]) for block in blocks] == [(48, 16), (96, 32)]
    for theirs, ours in both_logits(spec, place):
        torch.testing.assert_close(
            ours, theirs, rtol=0.02 if in_int8 else 1e-4, atol=0.02 if in_int8 else 1e-5
        )
    assert engine("encoder").load(spec, place)(IDS).logits.shape == after.shape


def test_every_block_keeps_its_best_head(tmp_path: Path) -> None:
    network = load_trained(SPECS["first"], trained(tmp_path, SHAPES["bert"], SPECS["first"]))
    structure = Structure(network)
    importance = worth(structure, silent_channels=[], silent_heads=[])
    importance.heads.copy_(torch.tensor([[9.0, 8.0], [0.1, 0.2]]))
    structure.keep_heads(0.5, importance)
    names = FAMILIES["bert"]
    living = [
        [bool(part.any()) for part in block.get_submodule(names.out).weight.split(16, dim=1)]
        for block in network.get_submodule("bert.encoder.layer")
    ]
    assert living == [[True, False], [False, True]]


def test_a_part_that_the_loss_does_not_feel_is_worth_nothing(tmp_path: Path) -> None:
    network = load_trained(SPECS["first"], trained(tmp_path, SHAPES["bert"], SPECS["first"]))
    structure = Structure(network)
    names = FAMILIES["bert"]
    blocks: Any = network.get_submodule("bert.encoder.layer")
    with torch.no_grad():
        blocks[0].get_submodule(names.down).weight[:, 5] = 0.0
        blocks[1].get_submodule(names.out).weight[:, 16:] = 0.0
    losses = (network(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits.square().sum() for _ in "ab")
    for found in (structure.worth_by_gradient(losses), structure.worth_by_norm()):
        assert (found.channels.shape, found.heads.shape) == ((2, 64), (2, 2))
        assert (found.channels[0] == 0).nonzero().flatten().tolist() == [5]
        assert (found.heads == 0).tolist() == [[False, False], [False, True]]
    assert all(parameter.requires_grad for parameter in network.bert.parameters())


def test_blocks_are_spread_from_the_first_to_the_last() -> None:
    assert [spread_blocks(n, 6, "spread") for n in (1, 2, 3, 6)] == [
        [0],
        [0, 5],
        [0, 2, 5],
        [0, 1, 2, 3, 4, 5],
    ]
    assert spread_blocks(3, 6, "first") == [0, 1, 2]
    with pytest.raises(InputError, match="there are fewer blocks"):
        spread_blocks(7, 6, "spread")


def test_other_architectures_are_refused_by_name(tmp_path: Path) -> None:
    shape = {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 32}
    folder = tiny_model(
        tmp_path / "gpt2", "AutoModelForSequenceClassification", config=shape, labels=("a", "b")
    )
    with pytest.raises(InputError, match=r"'gpt2'[\s\S]*bert, roberta[\s\S]*sparsity"):
        Structure(load_trained(NetworkSpec("AutoModelForSequenceClassification", ("a", "b")), folder))
