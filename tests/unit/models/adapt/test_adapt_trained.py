"""Which parameters each method trains, in every architecture, and what that changes at the start."""

from __future__ import annotations

import pytest
import torch
from transformers import ResNetConfig, ResNetForImageClassification

from sparkml.errors import ConfigError
from sparkml.models.adapt import AdaptSettings, adapt
from tests.unit.models.adapt.networks import KINDS, adapted, answers, disturb, network

ALL = sorted(KINDS)
WITH_HEAD = sorted(kind for kind in KINDS if KINDS[kind].new)


@pytest.mark.parametrize("kind", ALL)
def test_full_trains_every_parameter(kind: str) -> None:
    model = adapted(kind, method="full")
    assert list(model.trained_parameters()) == [name for name, _ in network(kind).named_parameters()]
    assert model.facts()["trainable_parameters"] == model.facts()["total_parameters"]


@pytest.mark.parametrize("kind", WITH_HEAD)
def test_frozen_trains_the_head_alone(kind: str) -> None:
    trained = adapted(kind, method="frozen").trained_parameters()
    assert {name.partition(".")[0] for name in trained} == set(KINDS[kind].new)


@pytest.mark.parametrize("kind", ALL)
def test_lora_trains_two_matrices_a_linear_layer_of_the_blocks_and_the_head(kind: str) -> None:
    model = adapted(kind, method="lora", rank=3)
    low_rank = {name: p for name, p in model.trained_parameters().items() if ".lora_" in name}
    heads = {name for name in model.trained_parameters() if name not in low_rank}
    assert len(low_rank) == 2 * KINDS[kind].linears
    assert {p.shape[0 if ".lora_A." in name else 1] for name, p in low_rank.items()} == {3}
    assert all(".modules_to_save.default." in name for name in heads)
    assert {name.split(".")[2] for name in heads} == set(KINDS[kind].new)


@pytest.mark.parametrize("kind", ALL)
def test_attention_alone_leaves_the_feed_forward_as_it_is(kind: str) -> None:
    names = adapted(kind, method="lora", target_modules="attention").trained_parameters()
    adapted_layers = [name for name in names if ".lora_A." in name]
    assert len(adapted_layers) == KINDS[kind].linears - {"llama": 6, "t5": 8}.get(kind, 4)


@pytest.mark.parametrize("kind", ALL)
def test_adapters_lie_behind_every_attention_and_feed_forward(kind: str) -> None:
    both = adapted(kind, method="adapters", bottleneck=5).trained_parameters()
    behind = adapted(kind, method="adapters", bottleneck=5, after="feed_forward").trained_parameters()
    down = [p.shape for name, p in both.items() if name.endswith(".adapter.down.weight")]
    assert down == [(5, 32)] * KINDS[kind].adapters
    assert sum(name.endswith(".adapter.up.weight") for name in behind) == KINDS[kind].feed_forwards
    heads = {name.partition(".")[0] for name in both if ".adapter." not in name}
    assert heads == set(KINDS[kind].new)


@pytest.mark.parametrize("method", ["lora", "adalora"])
@pytest.mark.parametrize("kind", ALL)
def test_low_rank_updates_begin_as_the_network_itself(kind: str, method: str) -> None:
    base = adapted(kind, method="full")
    assert torch.equal(answers(adapted(kind, method=method).network, kind), answers(base.network, kind))


@pytest.mark.parametrize("kind", ALL)
def test_adapters_begin_near_the_network_and_then_change_it(kind: str) -> None:
    base = answers(adapted(kind, method="full").network, kind)
    model = adapted(kind, method="adapters")
    torch.testing.assert_close(answers(model.network, kind), base, atol=2e-2, rtol=2e-2)
    disturb(model)
    assert float((answers(model.network, kind) - base).abs().max()) > 0.05


def test_a_head_that_is_not_new_is_trained_when_named() -> None:
    model = network("bert")
    before = model.classifier.weight.detach().clone()
    settings = AdaptSettings(method="frozen", train_head=("classifier", "bert.pooler"))
    trained = adapt(model, settings, new_modules=(), total_steps=1, epoch_steps=1, seed=3)
    assert list(trained.trained_parameters()) == [
        "bert.pooler.dense.weight",
        "bert.pooler.dense.bias",
        "classifier.weight",
        "classifier.bias",
    ]
    assert torch.equal(before, model.classifier.weight)


def test_parameters_stand_for_their_module() -> None:
    new = ("classifier.weight", "classifier.bias")
    model = adapt(
        network("bert"), AdaptSettings(method="frozen"), new_modules=new, total_steps=1, epoch_steps=1, seed=3
    )
    assert model.heads == ("classifier",)


@pytest.mark.parametrize(
    ("settings", "new", "message"),
    [
        ({"method": "frozen"}, (), "trains new modules alone"),
        ({"method": "frozen"}, ("classifier.weight",), "new in part only"),
        ({"method": "lora", "train_head": ("clasifier",)}, (), "no such module"),
        ({"method": "lora", "target_modules": ("qery",)}, (), "no such linear layer"),
    ],
)
def test_what_the_network_does_not_have_is_named(
    settings: dict[str, object], new: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        adapt(
            network("bert"),
            AdaptSettings.model_validate(settings),
            new_modules=new,
            total_steps=1,
            epoch_steps=1,
            seed=1,
        )


def test_chosen_layers_are_adapted_and_no_others() -> None:
    names = adapted("bert", method="lora", target_modules=("query", "1.output.dense")).trained_parameters()
    layers = [name.partition(".lora_A.")[0] for name in names if ".lora_A." in name]
    start = "base_model.model.bert.encoder.layer"
    assert layers == [
        f"{start}.0.attention.self.query",
        f"{start}.1.attention.self.query",
        f"{start}.1.output.dense",
    ]


def test_biases_of_adapted_layers_can_be_trained() -> None:
    names = adapted("bert", method="lora", bias="lora_only").trained_parameters()
    assert sum(name.endswith(".base_layer.bias") for name in names) == 12


@pytest.mark.parametrize("method", ["frozen", "full"])
def test_a_frozen_network_keeps_the_means_of_its_batch_norms(method: str) -> None:
    shape = {"embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 1], "layer_type": "basic"}
    resnet = ResNetForImageClassification(ResNetConfig(**shape, num_labels=2))
    new, ends = ["classifier.1"], {"total_steps": 1, "epoch_steps": 1}
    model = adapt(resnet, AdaptSettings(method=method), new_modules=new, **ends, seed=1)
    before = {name: buffer.clone() for name, buffer in resnet.named_buffers() if name.endswith("_mean")}
    model.train()
    resnet(pixel_values=torch.rand(4, 3, 32, 32))
    after = dict(resnet.named_buffers())
    moved = {name for name, mean in before.items() if not torch.equal(mean, after[name])}
    assert moved == (set(before) if method == "full" else set())
    assert resnet.training
    assert len(before) == 6
