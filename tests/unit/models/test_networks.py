"""Networks from model directories: what is loaded, what is drawn from the seed, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sparkml.errors import InputError
from sparkml.models.folder import WEIGHTS_FILE
from sparkml.models.networks import check_model, load_network, untied_state, write_config
from tests.tiny import copy_of, tiny_model

CLASSIFIER, MASKED = "AutoModelForSequenceClassification", "AutoModelForMaskedLM"
AUDIO = "AutoModelForAudioClassification"
INNER = "bert.encoder.layer.1.output.dense.weight"


def change_config(folder: Path, **fields: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **fields}))


def change_weights(folder: Path, **changed: torch.Tensor | None) -> None:
    state = {**load_file(folder / WEIGHTS_FILE), **changed}
    kept = {name: tensor for name, tensor in state.items() if tensor is not None}
    save_file(kept, folder / WEIGHTS_FILE, metadata={"format": "pt"})


@pytest.fixture
def copy(encoder_folder: Path, tmp_path: Path) -> Path:
    return copy_of(encoder_folder, tmp_path / "copy")


def test_saved_weights_come_back_bit_for_bit(encoder_folder: Path) -> None:
    written = load_file(encoder_folder / WEIGHTS_FILE)
    loaded = load_network(encoder_folder, MASKED)
    state = loaded.network.state_dict()
    assert loaded.new_modules == frozenset()
    assert written.keys() <= state.keys()
    assert all(torch.equal(written[name], state[name]) for name in written)
    assert loaded.network.training


def test_a_head_is_drawn_from_the_seed_and_nothing_else_is_touched(encoder_folder: Path) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    labels = ("ham", "spam")
    first, second, other = (
        load_network(encoder_folder, CLASSIFIER, labels=labels, seed=seed) for seed in (3, 3, 4)
    )
    assert torch.equal(torch.get_rng_state(), before)
    pooler = {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}
    assert first.new_modules >= {"classifier.weight", "classifier.bias"}
    assert first.new_modules <= {"classifier.weight", "classifier.bias"} | pooler
    states = [loaded.network.state_dict() for loaded in (first, second, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["classifier.weight"], states[2]["classifier.weight"])
    assert torch.equal(states[0][INNER], states[2][INNER])
    assert first.network.config.id2label == {0: "ham", 1: "spam"}


def test_a_whole_network_from_its_seed(encoder_folder: Path) -> None:
    before = torch.get_rng_state()
    first, second, other = (
        load_network(encoder_folder, MASKED, seed=seed, random=True) for seed in (3, 3, 4)
    )
    assert torch.equal(torch.get_rng_state(), before)
    states = [loaded.network.state_dict() for loaded in (first, second, other)]
    assert torch.equal(states[0][INNER], states[1][INNER])
    assert not torch.equal(states[0][INNER], states[2][INNER])
    assert first.new_modules == {name for name, _ in first.network.named_parameters()}


def test_missing_weights_of_the_base_are_refused_by_name(copy: Path) -> None:
    change_weights(copy, **{INNER: None})
    for head in (MASKED, CLASSIFIER, "AutoModel"):
        with pytest.raises(
            InputError, match=r"missing: (bert\.)?encoder\.layer\.1\.output\.dense\.weight \(1 "
        ):
            load_network(copy, head)


def test_a_base_without_a_name_of_its_own_is_told_from_its_head(tmp_path: Path) -> None:
    shape = {"d_model": 8, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 8}
    shape |= {"decoder_attention_heads": 2, "max_source_positions": 10, "num_mel_bins": 4}
    write_config({"model_type": "whisper", **shape}, tmp_path)
    load_network(tmp_path, AUDIO, random=True).network.save_pretrained(tmp_path)
    heads = {f"{name}.{last}": None for name in ("projector", "classifier") for last in ("weight", "bias")}
    change_weights(tmp_path, **heads)
    assert load_network(tmp_path, AUDIO).new_modules == heads.keys()
    change_weights(tmp_path, **{"encoder.layers.0.fc1.bias": None})
    with pytest.raises(InputError, match=r"missing: encoder\.layers\.0\.fc1\.bias \(1 in all\)"):
        load_network(tmp_path, AUDIO)


def test_weights_of_another_shape_are_refused_by_name(copy: Path) -> None:
    change_weights(copy, **{INNER: torch.zeros(2, 2)})
    with pytest.raises(InputError, match=r"of another shape: bert\.encoder\.layer\.1\.output\.dense\.weight"):
        load_network(copy, MASKED)


def test_a_head_of_another_size_is_a_new_one(classifier_folder: Path) -> None:
    kept = load_network(classifier_folder, CLASSIFIER, labels=("x", "y", "z"))
    assert kept.new_modules == frozenset()
    fresh = load_network(classifier_folder, CLASSIFIER, labels=("x", "y"))
    assert fresh.new_modules == {"classifier.weight", "classifier.bias"}


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt", "model.pkl", "x.ckpt"])
def test_pickled_weights_are_refused(copy: Path, name: str) -> None:
    (copy / name).write_bytes(b"\x80\x04.")
    for call in (check_model, lambda folder: load_network(folder, MASKED, random=True)):
        with pytest.raises(InputError, match=r"pickle[\s\S]*" + name):
            call(copy)


def test_code_of_a_model_directory_is_never_run(copy: Path) -> None:
    change_config(copy, auto_map={"AutoModel": "modeling_evil.Evil"})
    (copy / "modeling_evil.py").write_text("raise SystemExit('ran')")
    with pytest.raises(InputError, match=r"code of its own[\s\S]*modeling_evil\.Evil"):
        load_network(copy, MASKED)


def test_a_missing_folder_and_an_incomplete_one_are_named(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not found"):
        load_network(tmp_path / "nothing", MASKED)
    (copy / WEIGHTS_FILE).unlink()
    with pytest.raises(InputError, match=r"no weights[\s\S]*model\.safetensors"):
        load_network(copy, MASKED)
    (copy / "config.json").unlink()
    with pytest.raises(InputError, match=r"incomplete[\s\S]*config\.json"):
        load_network(copy, MASKED)


def test_an_architecture_without_such_a_head_is_refused(tmp_path: Path) -> None:
    gpt2 = {"model_type": "gpt2", "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 32}
    folder = tiny_model(tmp_path / "gpt2", "AutoModelForCausalLM", config=gpt2)
    with pytest.raises(InputError, match=r"no network for the task[\s\S]*gpt2"):
        load_network(folder, MASKED)


def test_an_architecture_that_nobody_knows_is_refused(copy: Path, tmp_path: Path) -> None:
    change_config(copy, model_type="no_such_network")
    with pytest.raises(InputError, match="does not know this architecture"):
        load_network(copy, MASKED)
    with pytest.raises(InputError, match=r"no such architecture[\s\S]*no_such_network"):
        write_config({"model_type": "no_such_network"}, tmp_path, vocab_size=9)


def test_a_configuration_says_nothing_of_the_machine(encoder_folder: Path, tmp_path: Path) -> None:
    write_config({"model_type": "bert", "hidden_size": 48}, tmp_path, vocab_size=77, pad_token_id=5)
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["hidden_size"], config["vocab_size"], config["pad_token_id"]) == (48, 77, 5)
    for found in (config, json.loads((encoder_folder / "config.json").read_text())):
        assert not {"_name_or_path", "transformers_version"} & set(found)


def test_one_tensor_has_one_name(encoder_folder: Path) -> None:
    network = load_network(encoder_folder, MASKED).network
    assert network.cls.predictions.decoder.weight is network.bert.embeddings.word_embeddings.weight
    state = untied_state(network)
    assert "bert.embeddings.word_embeddings.weight" in state
    assert "cls.predictions.decoder.weight" not in state
