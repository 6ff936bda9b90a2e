"""Adaptations on disk: what was saved answers alike, in ours and in peft's hands; what does not fit is refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from sparkml.errors import InputError
from sparkml.models.adapt import Adapted, load_adapter, read_base, save_adapter
from sparkml.models.adapt.heads import start_heads
from tests.unit.models.adapt.networks import Training, adapted, answers, disturb, network

METHODS: dict[str, dict[str, Any]] = {
    "frozen": {"merge": False},
    "lora": {},
    "adalora": {"initial_rank": 4, "target_rank": 2, "delta_t": 2, "tinit_fraction": 0.0},
    "adapters": {},
    "prefix": {"virtual_tokens": 3},
    "prompt": {"virtual_tokens": 3},
}


def saved(folder: Path, kind: str, method: str) -> Adapted:
    """An adaptation after a few steps, on disk."""
    model = adapted(kind, steps=6, method=method, **METHODS[method])
    Training(model, kind).steps(0, 6)
    if method != "adalora":
        disturb(model)
    save_adapter(model, folder, "tiny", "ab" * 32)
    return model


@pytest.mark.parametrize("method", METHODS)
def test_a_saved_adaptation_answers_as_it_did(tmp_path: Path, method: str) -> None:
    model = saved(tmp_path, "bert", method)
    loaded = load_adapter(network("bert"), tmp_path)
    torch.testing.assert_close(answers(loaded, "bert"), answers(model.network, "bert"), atol=1e-6, rtol=1e-6)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "base.json",
    ]
    base = read_base(tmp_path)
    assert (base.name, base.sha256) == ("tiny", "ab" * 32)


@pytest.mark.parametrize("method", ["lora", "adalora", "prefix", "prompt"])
@pytest.mark.filterwarnings("error::UserWarning")
def test_peft_loads_the_folder(tmp_path: Path, method: str) -> None:
    model = saved(tmp_path, "bert", method)
    theirs = PeftModel.from_pretrained(network("bert"), str(tmp_path), torch_device="cpu")
    torch.testing.assert_close(answers(theirs, "bert"), answers(model.network, "bert"), atol=1e-6, rtol=1e-6)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] == "tiny"


@pytest.mark.parametrize("kind", ["gpt2", "llama", "t5", "vit", "modernbert"])
@pytest.mark.parametrize("method", ["lora", "adalora", "adapters"])
def test_every_architecture_comes_back(tmp_path: Path, kind: str, method: str) -> None:
    model = saved(tmp_path, kind, method)
    loaded = load_adapter(network(kind), tmp_path)
    torch.testing.assert_close(answers(loaded, kind), answers(model.network, kind), atol=1e-5, rtol=1e-5)


def test_saving_does_not_disturb_the_training(tmp_path: Path) -> None:
    models = [adapted("bert", steps=8, method="adalora", **METHODS["adalora"]) for _ in range(2)]
    trainings = [Training(model, "bert") for model in models]
    for training in trainings:
        training.steps(0, 5)
    save_adapter(models[0], tmp_path, "tiny", "")
    for training in trainings:
        training.steps(5, 8)
    expected = models[1].trained_parameters()
    assert all(torch.equal(p, expected[name]) for name, p in models[0].trained_parameters().items())


def test_equal_adaptations_are_equal_bytes(tmp_path: Path) -> None:
    contents = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        save_adapter(adapted("bert", method="lora"), tmp_path / name, "tiny", "")
        contents.append([path.read_bytes() for path in sorted((tmp_path / name).iterdir())])
    assert contents[0] == contents[1]


def test_pickles_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    saved(tmp_path, "bert", "lora")
    (tmp_path / "adapter_model.bin").write_bytes(pickle.dumps({}))
    with pytest.raises(InputError, match="pickle"):
        load_adapter(network("bert"), tmp_path)


@pytest.mark.parametrize("method", METHODS)
def test_an_adaptation_of_another_network_is_refused(tmp_path: Path, method: str) -> None:
    saved(tmp_path, "bert", method)
    other = {"frozen": "llama", "lora": "vit", "adalora": "vit"}.get(method, "distilbert")
    with pytest.raises(InputError, match="does not fit"):
        load_adapter(network(other), tmp_path)


def test_missing_files_and_nameless_bases_are_refused(tmp_path: Path) -> None:
    saved(tmp_path, "bert", "adapters")
    (tmp_path / "base.json").write_text('{"name": 3}')
    with pytest.raises(InputError, match="not named"):
        load_adapter(network("bert"), tmp_path)
    (tmp_path / "base.json").unlink()
    with pytest.raises(InputError, match="incomplete"):
        read_base(tmp_path)


def test_the_head_comes_from_the_adapter_whatever_the_network_held(tmp_path: Path) -> None:
    model = saved(tmp_path, "bert", "lora")
    other = network("bert")
    start_heads(other, ["classifier"], seed=99)
    torch.testing.assert_close(answers(load_adapter(other, tmp_path), "bert"), answers(model.network, "bert"))
