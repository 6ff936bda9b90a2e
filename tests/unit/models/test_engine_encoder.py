"""Our encoder says what transformers' network of a directory says, whatever the family, head, type and padding."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sparkml.errors import ConfigError, InputError
from sparkml.models import onednn
from sparkml.models.adapt import AdaptSettings, adapt
from sparkml.models.engines import choose, engine
from sparkml.models.engines.encoder_float import Encoder
from sparkml.models.engines.encoder_int8 import Int8Encoder
from sparkml.models.engines.layout import FAMILIES, read_encoder
from sparkml.models.folder import CONFIG_FILE, INT8_FOLDER, WEIGHTS_FILE, read_json, write_json
from sparkml.models.heads import build_network, load_trained, save_network
from sparkml.models.int8 import save_int8, to_int8
from sparkml.models.networks import NetworkSpec
from sparkml.models.onednn import Int8Weight, has_bfloat16
from tests.tiny import SHAPE, tiny_model

LABELS = ("a", "b", "c")
SPECS = {
    "first": NetworkSpec("AutoModelForSequenceClassification", LABELS),
    "mean": NetworkSpec("AutoModel", LABELS, pooling="mean"),
    "each": NetworkSpec("AutoModelForTokenClassification", LABELS),
}
SHAPES: dict[str, dict[str, Any]] = {
    **{name: {**SHAPE, "model_type": name} for name in FAMILIES},
    "electra": {**SHAPE, "model_type": "electra", "embedding_size": 16},
    "distilbert": {"model_type": "distilbert", "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
}
for one in ("roberta", "xlm-roberta", "camembert"):
    SHAPES[one]["max_position_embeddings"] = 34


def trained(folder: Path, config: dict[str, Any], spec: NetworkSpec) -> Path:
    """A model directory as training leaves it."""
    tiny_model(folder / "start", "AutoModel", config=config)
    network, new = build_network(spec, folder / "start", seed=3)
    with torch.no_grad():
        for parameter in network.parameters():  # norms and biases that say something
            parameter.add_(
                torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)), alpha=0.1
            )
    adapted = adapt(network, AdaptSettings(), new_modules=new, total_steps=1, epoch_steps=1, seed=1)
    (folder / "trained").mkdir()
    save_network(adapted, spec, folder / "trained", merge=True, base="")
    return folder / "trained"


def both_logits(spec: NetworkSpec, folder: Path) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """What the engines `torch` and `encoder` say of full and padded rows, where there are tokens."""
    theirs, ours = (engine(name).load(spec, folder) for name in ("torch", "encoder"))
    pad = int(theirs.config.pad_token_id)
    full = torch.tensor([[2, 9, 10, 11, 3], [2, 12, 13, 14, 3]])
    padded = torch.tensor([[2, 9, 10, 11, 3], [2, 12, 3, pad, pad]])
    found = []
    for ids in (full, padded):
        mask = (ids != pad).long()
        with torch.inference_mode():
            wanted, got = (one(input_ids=ids, attention_mask=mask).logits for one in (theirs, ours))
        real = mask.bool() if spec is SPECS["each"] else slice(None)
        found.append((wanted[real].float(), got[real]))
    return found


@pytest.mark.parametrize("pooling", SPECS)
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_transformers(tmp_path: Path, family: str, pooling: str) -> None:
    folder = trained(tmp_path, SHAPES[family], SPECS[pooling])
    for wanted, got in both_logits(SPECS[pooling], folder):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", SPECS)
@pytest.mark.parametrize("family", ["bert", "electra", "distilbert"])
def test_in_int8_they_are_those_of_the_same_int8_in_modules(
    tmp_path: Path, family: str, pooling: str
) -> None:
    spec, folder = SPECS[pooling], trained(tmp_path, SHAPES[family], SPECS[pooling])
    (tmp_path / "small").mkdir()
    save_int8(to_int8(load_trained(spec, folder)), tmp_path / "small" / INT8_FOLDER)
    shutil.copyfile(folder / CONFIG_FILE, tmp_path / "small" / CONFIG_FILE)
    assert isinstance(engine("encoder").load(spec, tmp_path / "small"), Int8Encoder)
    for wanted, got in both_logits(spec, tmp_path / "small"):
        # A value between two levels may go to either.
        torch.testing.assert_close(got, wanted, rtol=0.02, atol=0.02)


def test_layers_that_went_back_to_float_compute_in_float(tmp_path: Path) -> None:
    spec, folder = SPECS["first"], trained(tmp_path, SHAPES["bert"], SPECS["first"])
    exact = read_encoder(spec, folder)
    network = to_int8(load_trained(spec, folder))
    save_int8(network, tmp_path / "int8")
    shutil.copyfile(folder / CONFIG_FILE, tmp_path / CONFIG_FILE)
    whole = read_encoder(spec, tmp_path)
    ids = torch.tensor([[2, 9, 10, 11, 3]])
    wanted = Encoder(exact)(ids).logits
    off = []
    for n_float in (0, 1, 2):
        blocks = (*exact.blocks[:n_float], *whole.blocks[n_float:])
        off.append(float((Int8Encoder(replace(whole, blocks=blocks))(ids).logits - wanted).abs().max()))
    mixed = replace(exact.blocks[0], up=whole.blocks[0].up)
    half = replace(whole, words=exact.words, blocks=(mixed, *exact.blocks[1:]))
    assert 0 < float((Int8Encoder(half)(ids).logits - wanted).abs().max()) < 0.1
    assert off[0] > 0
    assert max(off) < 0.2


def test_bfloat16_weights_compute_in_bfloat16_where_the_processor_can(tmp_path: Path) -> None:
    spec, folder = SPECS["mean"], trained(tmp_path, SHAPES["bert"], SPECS["mean"])
    state = {name: tensor.bfloat16() for name, tensor in load_file(folder / WEIGHTS_FILE).items()}
    exact = Encoder(read_encoder(spec, folder))
    save_file(state, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    half = read_encoder(spec, folder)
    assert half.blocks[0].qkv.weight.dtype == torch.bfloat16
    ids = torch.tensor([[2, 9, 10, 11, 3]])
    wanted, got = exact(ids).logits, Encoder(half)(ids).logits
    assert got.dtype == torch.float32
    assert not torch.equal(got, wanted)
    torch.testing.assert_close(got, wanted, rtol=0.05, atol=0.05)
    loaded = engine("encoder").load(spec, folder)
    expected = torch.bfloat16 if has_bfloat16() else torch.float32
    assert loaded.weights.blocks[0].qkv.weight.dtype == expected
    torch.testing.assert_close(loaded(ids).logits, wanted, rtol=0.05, atol=0.05)


def test_int8_products_are_the_same_sums_without_instructions_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = torch.randint(-127, 128, (5, 24), dtype=torch.int8)
    weight = torch.randint(-127, 128, (7, 24), dtype=torch.int8)
    scale = torch.tensor([0.5, 1.0, 2.0, 4.0, 0.25, 1.0, 8.0])  # exact in float32
    exact = rows.double() @ weight.double().t() * scale
    for able in (True, False):
        monkeypatch.setattr(onednn, "has_int8", lambda able=able: able)
        assert torch.equal(Int8Weight(weight, scale)(rows).double(), exact)
        assert Int8Weight(weight, scale)(rows[:0]).shape == (0, 7)


def test_the_encoder_is_taken_where_it_can_be(tmp_path: Path) -> None:
    bert = trained(tmp_path / "bert", SHAPES["bert"], SPECS["first"])
    assert choose("auto", SPECS["first"], bert) == "encoder"
    assert choose("torch", SPECS["first"], bert) == "torch"
    with pytest.raises(ConfigError, match="there is no such engine"):
        choose("tpu", SPECS["first"], bert)
    for change, reason in (
        ({"hidden_act": "relu"}, "hidden_act 'relu' is not gelu"),
        ({"model_type": "gpt2"}, "model_type 'gpt2' is none of bert"),
        ({"is_decoder": True}, "it is a decoder"),
    ):
        write_json(bert / CONFIG_FILE, {**read_json(bert / CONFIG_FILE), **change})
        assert choose("auto", SPECS["first"], bert) == "torch"
        with pytest.raises(InputError, match=reason):
            choose("encoder", SPECS["first"], bert)
        write_json(
            bert / CONFIG_FILE,
            {**read_json(bert / CONFIG_FILE), **SHAPES["bert"], "is_decoder": False, "hidden_act": "gelu"},
        )
    assert choose("auto", NetworkSpec("AutoModelForCausalLM"), bert) == "torch"


def test_missing_weights_are_named(tmp_path: Path) -> None:
    folder = trained(tmp_path, SHAPES["bert"], SPECS["first"])
    state = load_file(folder / WEIGHTS_FILE)
    del state["classifier.bias"]
    save_file(state, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"no classifier\.bias"):
        read_encoder(SPECS["first"], folder)
