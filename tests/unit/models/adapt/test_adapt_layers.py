"""Learning rates and times by layer: groups, layer decay, gradual unfreezing."""

from __future__ import annotations

import pytest
import torch
import transformers as hf
from torch import nn

from sparkml.errors import ConfigError
from sparkml.models.adapt import AdaptSettings, adapt
from sparkml.models.adapt.anatomy import Anatomy
from tests.unit.models.adapt.networks import Training, adapted, answers, batch, network


def scales(kind: str, **settings: object) -> dict[str, float]:
    groups = adapted(kind, **settings).parameter_groups(0.1, 0.01)
    return {name: group["scale"] for group in groups for name in group["names"]}


def test_without_layers_there_is_a_group_with_decay_and_one_without() -> None:
    model = adapted("bert", method="full")
    decayed, plain = model.parameter_groups(0.1, 0.01)
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.01, 0.0)
    assert (decayed["lr"], decayed["scale"]) == (0.1, 1.0)
    assert all(parameter.dim() == 2 for parameter in decayed["params"])
    assert all(name.endswith("bias") or "LayerNorm" in name for name in plain["names"])
    assert len(decayed["names"]) + len(plain["names"]) == len(model.trained_parameters())


def test_names_are_in_model_order_and_belong_to_their_parameters() -> None:
    model = adapted("t5", method="full", layer_decay=0.5)
    order = list(model.trained_parameters())
    for group in model.parameter_groups(0.1, 0.0):
        assert group["names"] == sorted(group["names"], key=order.index)
        named = [model.trained_parameters()[name] for name in group["names"]]
        assert all(one is other for one, other in zip(named, group["params"], strict=True))


def test_layer_decay_falls_with_the_distance_from_the_head() -> None:
    found = scales("bert", method="full", layer_decay=0.5)
    assert found["bert.embeddings.word_embeddings.weight"] == 0.125
    assert found["bert.encoder.layer.0.output.dense.bias"] == 0.25
    assert found["bert.encoder.layer.1.attention.self.query.weight"] == 0.5
    assert found["bert.pooler.dense.weight"] == 1.0
    assert found["classifier.weight"] == 1.0


def test_layer_decay_of_an_encoder_and_a_decoder_runs_through_both() -> None:
    found = scales("t5", method="full", layer_decay=0.5)
    assert found["shared.weight"] == 2**-5
    assert found["encoder.block.0.layer.0.SelfAttention.q.weight"] == 2**-4
    assert found["encoder.final_layer_norm.weight"] == 2**-3
    assert found["decoder.block.0.layer.1.EncDecAttention.q.weight"] == 2**-2
    assert found["decoder.final_layer_norm.weight"] == 1.0


@pytest.mark.parametrize("method", ["lora", "adalora", "adapters"])
def test_what_is_added_to_a_block_has_the_rate_of_the_block(method: str) -> None:
    found = scales("bert", method=method, layer_decay=0.5)
    assert {scale for name, scale in found.items() if ".layer.0." in name} == {0.25}
    assert {scale for name, scale in found.items() if ".layer.1." in name} == {0.5}
    assert {scale for name, scale in found.items() if ".layer." not in name} == {1.0}


def test_unfreezing_goes_from_the_head_down_one_block_at_a_time() -> None:
    model = adapted("bert", method="full", unfreeze_epochs=0.5)
    names = [group["names"] for group in model.parameter_groups(0.1, 0.01)]
    parts = ("embeddings", "layer.0.", "layer.1.", "pooler", "classifier")

    def opened(epoch: float) -> list[str]:
        frozen = model.frozen_at(epoch)
        trained = [name for index, group in enumerate(names) if index not in frozen for name in group]
        return [part for part in parts if any(part in name for name in trained)]

    assert opened(0.0) == opened(0.49) == ["pooler", "classifier"]
    assert opened(0.5) == opened(0.99) == ["layer.1.", "pooler", "classifier"]
    assert opened(1.0) == ["layer.0.", "layer.1.", "pooler", "classifier"]
    assert opened(1.5) == opened(99.0) == list(parts)
    assert model.frozen_at(1.5) == set()


def test_what_is_frozen_for_now_costs_no_gradients_and_does_not_move() -> None:
    model = adapted("bert", method="full", unfreeze_epochs=1.0)
    before = {name: p.detach().clone() for name, p in model.trained_parameters().items()}
    training = Training(model, "bert")
    training.steps(0, 3)
    moved = {name for name, p in model.trained_parameters().items() if not torch.equal(p, before[name])}
    assert moved == {
        "bert.pooler.dense.weight",
        "bert.pooler.dense.bias",
        "classifier.weight",
        "classifier.bias",
    }
    training.steps(10, 12)
    moved = {name for name, p in model.trained_parameters().items() if not torch.equal(p, before[name])}
    assert any(".layer.1." in name for name in moved)
    assert not any(".layer.0." in name for name in moved)
    training.steps(30, 31)
    moved = {name for name, p in model.trained_parameters().items() if not torch.equal(p, before[name])}
    assert "bert.embeddings.word_embeddings.weight" in moved


def test_lists_side_by_side_are_one_stack() -> None:
    config = hf.XLMConfig(vocab_size=50, emb_dim=32, n_layers=2, n_heads=4, max_position_embeddings=64)
    anatomy = Anatomy(hf.XLMModel(config), ())
    assert len(anatomy.blocks) == 2
    assert anatomy.level("attentions.1.q_lin.weight") == anatomy.level("ffns.1.lin1.weight") == 2
    assert anatomy.level("embeddings.weight") == 0


def test_audio_layers_follow_each_other() -> None:
    config = hf.Wav2Vec2Config(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        conv_dim=(8, 8),
        conv_stride=(2, 2),
        conv_kernel=(3, 3),
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    )
    anatomy = Anatomy(hf.Wav2Vec2ForSequenceClassification(config), ("projector", "classifier"))
    assert anatomy.level("wav2vec2.feature_extractor.conv_layers.0.conv.weight") == 1
    assert anatomy.level("wav2vec2.encoder.layers.0.attention.q_proj.weight") == 3
    assert anatomy.level("projector.weight") == anatomy.top == 5


def test_layers_of_a_network_without_blocks_are_refused() -> None:
    plain = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    with pytest.raises(ConfigError, match="no repeated blocks"):
        adapt(plain, AdaptSettings(layer_decay=0.9), new_modules=(), total_steps=1, epoch_steps=1, seed=1)


def test_a_network_on_an_accelerator_is_refused() -> None:
    with pytest.raises(ConfigError, match="drawn on the CPU"):
        adapt(
            network("bert").to("meta"),
            AdaptSettings(),
            new_modules=(),
            total_steps=1,
            epoch_steps=1,
            seed=1,
        )


@pytest.mark.parametrize("method", ["lora", "adalora"])
@pytest.mark.parametrize("kind", ["bert", "distilbert", "modernbert", "gpt2", "llama", "vit"])
def test_last_layers_adapts_the_blocks_next_to_the_head_alone(kind: str, method: str) -> None:
    every = [name for name in adapted(kind, method=method).trained_parameters() if ".lora_" in name]
    last = adapted(kind, method=method, last_layers=1).trained_parameters()
    assert [name for name in last if ".lora_" in name] == [name for name in every if ".1." in name]
    assert len(every) == 2 * len([name for name in last if ".lora_" in name])


def test_below_the_last_layers_there_is_no_dropout_and_nothing_is_kept_for_gradients() -> None:
    model = adapted("bert", method="lora", last_layers=1)
    Training(model, "bert").steps(0, 1)
    base = model.network.get_submodule("base_model.model")
    training = {name for name, module in base.named_modules() if module.training}
    assert {"bert.encoder.layer.1.output.dropout", "dropout"} <= training
    assert not any(name.startswith(("bert.embeddings", "bert.encoder.layer.0")) for name in training)
    seen: list[bool] = []
    for number in (0, 1):
        layer = base.get_submodule(f"bert.encoder.layer.{number}")
        layer.register_forward_hook(lambda _, __, out: seen.append(out.requires_grad))
    Training(model, "bert").steps(1, 2)
    assert seen == [False, True]


def test_last_layers_of_an_encoder_and_a_decoder_are_those_of_the_decoder() -> None:
    trained = adapted("t5", method="lora", last_layers=2).trained_parameters()
    assert {name.split(".")[2] for name in trained} == {"decoder"}


def test_more_last_layers_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError, match="fewer layers than that"):
        adapted("bert", method="lora", last_layers=3)
    model = adapted("bert", method="lora", last_layers=2).trained_parameters()
    assert list(model) == list(adapted("bert", method="lora").trained_parameters())


@pytest.mark.parametrize("kind", ["bert", "modernbert", "gpt2", "llama", "t5", "vit"])
def test_without_dropout_a_network_in_training_mode_answers_as_in_use(kind: str) -> None:
    drops = float(kind not in ("modernbert", "llama", "vit"))  # whose configurations have none by default
    for rate, differ in ((None, drops), (0.0, 0.0)):
        model = adapted(kind, method="lora", network_dropout=rate).network
        expected = answers(model, kind)
        with torch.no_grad():
            trained = model.train()(**batch(kind)).logits
        assert float(not torch.allclose(trained, expected, atol=1e-5)) == differ
