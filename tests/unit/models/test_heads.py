"""The network of a task: mean pooling, round trips, and a head that sees the wanted tokens alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sparkml.errors import InputError
from sparkml.frame.artifacts import new_artifact
from sparkml.models.adapt import AdaptSettings, adapt
from sparkml.models.folder import HEAD_FILE
from sparkml.models.heads import MeanPooled, build_network, load_trained, save_network
from sparkml.models.networks import NetworkSpec, load_network
from sparkml.tasks.language import logits_at
from tests.tiny import SHAPE, copy_of, tiny_model

IDS = torch.tensor([[2, 40, 50, 60, 3, 0, 0, 0], [2, 9, 10, 11, 12, 13, 14, 3]])
MASK = (IDS != 0).long()
MEAN = NetworkSpec("AutoModel", ("a", "b", "c"), {"problem_type": "single_label_classification"}, "mean")
NETWORK = NetworkSpec("AutoModelForSequenceClassification", ("a", "b", "c"))
GPT2 = {"model_type": "gpt2", "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
ROBERTA = {**SHAPE, "model_type": "roberta", "max_position_embeddings": 34}
MODERNBERT = {**SHAPE, "model_type": "modernbert", "global_attn_every_n_layers": 1}


def settings(**given: Any) -> AdaptSettings:
    return AdaptSettings(**given)


def trained(folder: Path, spec: NetworkSpec, **how: Any) -> Any:
    network, new = build_network(spec, folder, seed=3)
    adapted = adapt(network, settings(**how), new_modules=new, total_steps=4, epoch_steps=2, seed=1)
    for parameter in adapted.trained_parameters().values():
        with torch.no_grad():
            parameter.add_(0.01)
    return adapted


def logits(network: nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = network.eval()(input_ids=IDS, attention_mask=MASK).logits
    return found


def test_the_mean_is_over_the_tokens_of_a_text_and_not_its_padding(encoder_folder: Path) -> None:
    network, new = build_network(MEAN, encoder_folder, seed=3)
    assert isinstance(network, MeanPooled)
    assert {name for name in new if "pooler" not in name} == {"classifier.weight", "classifier.bias"}
    hidden = network.eval().backbone(input_ids=IDS, attention_mask=MASK)[0]
    expected = network.classifier(torch.stack([hidden[0, :5].mean(0), hidden[1].mean(0)]))
    torch.testing.assert_close(logits(network), expected)


@pytest.mark.parametrize("spec", [MEAN, NETWORK], ids=["mean", "network"])
@pytest.mark.parametrize(
    "how", [{}, {"method": "lora"}, {"method": "lora", "merge": False}, {"method": "frozen", "merge": False}]
)
def test_a_trained_network_comes_back(
    encoder_folder: Path, tmp_path: Path, spec: NetworkSpec, how: dict[str, Any]
) -> None:
    adapted = trained(encoder_folder, spec, **how)
    merge = settings(**how).merge
    with new_artifact(str(tmp_path / "model")) as staging:
        save_network(adapted, spec, staging, merge=merge, base=str(encoder_folder))
    loaded = load_trained(spec, tmp_path / "model")
    assert not loaded.training
    expected = logits(adapted.network)
    torch.testing.assert_close(logits(loaded), expected, atol=1e-6 if not how else 1e-5, rtol=1e-5)
    assert (tmp_path / "model" / HEAD_FILE).exists() is (spec is MEAN and merge)


def test_an_adaptation_whose_base_has_changed_is_refused(encoder_folder: Path, tmp_path: Path) -> None:
    base = copy_of(encoder_folder, tmp_path / "base")
    with new_artifact(str(tmp_path / "model")) as staging:
        adapted = trained(base, NETWORK, method="lora", merge=False)
        save_network(adapted, NETWORK, staging, merge=False, base=str(base))
    (base / "model.safetensors").write_bytes(b"another")
    with pytest.raises(InputError, match="has changed or is gone"):
        load_trained(NETWORK, tmp_path / "model")


def test_a_directory_without_the_head_of_its_task_is_refused(encoder_folder: Path) -> None:
    for spec in (MEAN, NETWORK):
        with pytest.raises(InputError, match=r"lacks weights[\s\S]*classifier\.bias"):
            load_trained(spec, encoder_folder)


@pytest.mark.parametrize(
    ("config", "head"),
    [
        (SHAPE, "AutoModelForMaskedLM"),
        (ROBERTA, "AutoModelForMaskedLM"),
        (MODERNBERT, "AutoModelForMaskedLM"),
        (GPT2, "AutoModelForCausalLM"),
        ({**SHAPE, "model_type": "distilbert", "dim": 32, "n_heads": 2}, "AutoModelForMaskedLM"),
    ],
    ids=lambda given: given["model_type"] if isinstance(given, dict) else "",
)
def test_logits_of_some_places_are_those_of_the_whole_head(
    tmp_path: Path, config: dict[str, Any], head: str
) -> None:
    network = load_network(tiny_model(tmp_path, head, config=config), head).network.eval()
    places = torch.tensor([1, 3, 9, 14])
    inputs = {"input_ids": IDS, "attention_mask": MASK}
    with torch.inference_mode():
        whole = network(**inputs).logits.flatten(0, 1)[places]
        some = logits_at(network, inputs, places)
    torch.testing.assert_close(some, whole, atol=1e-6, rtol=1e-5)
    assert whole.std() > 0
