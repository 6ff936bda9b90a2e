"""A training that goes on from a checkpoint ends where an undisturbed one does; what is merged answers alike."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from sparkml.errors import ConfigError, InputError
from tests.unit.models.adapt.networks import KINDS, Training, adapted, answers, batch, disturb, network

SETTINGS: dict[str, dict[str, Any]] = {
    "full": {},
    "frozen": {},
    "lora": {"dropout": 0.1},
    "adalora": {"initial_rank": 4, "target_rank": 2, "delta_t": 2, "tinit_fraction": 0.0},
    "adapters": {},
    "prefix": {"virtual_tokens": 3},
    "prompt": {"virtual_tokens": 3},
}


@pytest.mark.parametrize("method", ["lora", "adalora"])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_merged_network_is_one_of_the_base_and_answers_like_the_adapted_one(
    kind: str, method: str
) -> None:
    model = adapted(kind, method=method)
    disturb(model)
    expected, base = answers(model.network, kind), network(kind)
    merged = model.merged()
    assert type(merged) is type(base)
    assert list(merged.state_dict()) == list(base.state_dict())
    torch.testing.assert_close(answers(merged, kind), expected, atol=1e-5, rtol=1e-5)
    assert float((expected - answers(base, kind)).abs().max()) > 0.05
    assert torch.equal(answers(model.network, kind), expected)


@pytest.mark.parametrize("method", ["full", "frozen"])
def test_without_added_parts_the_merged_network_is_the_network(method: str) -> None:
    model = adapted("bert", method=method)
    assert model.merged() is model.network


@pytest.mark.parametrize("method", ["adapters", "prefix", "prompt"])
def test_what_cannot_be_folded_in_says_so(method: str) -> None:
    with pytest.raises(ConfigError, match="cannot be folded"):
        adapted("bert", method=method).merged()


@pytest.mark.parametrize("method", SETTINGS)
def test_a_continued_training_is_equal_bit_for_bit(method: str) -> None:
    whole = adapted("bert", steps=12, method=method, **SETTINGS[method])
    Training(whole, "bert").steps(0, 12)
    first = adapted("bert", steps=12, method=method, **SETTINGS[method])
    training = Training(first, "bert")
    training.steps(0, 5)
    saved = copy.deepcopy(
        (
            {name: p.detach() for name, p in first.trained_parameters().items()},
            training.optimizer.state_dict(),
            first.state(),
        )
    )
    second = adapted("bert", steps=12, method=method, **SETTINGS[method])
    going_on = Training(second, "bert")
    with torch.no_grad():
        for name, parameter in second.trained_parameters().items():
            parameter.copy_(saved[0][name])
    going_on.optimizer.load_state_dict(saved[1])
    second.load_state(saved[2])
    going_on.steps(5, 12)
    undisturbed = whole.trained_parameters()
    assert all(torch.equal(p, undisturbed[name]) for name, p in second.trained_parameters().items())
    assert second.ranks() == whole.ranks()
    state = whole.state()
    assert state.keys() == second.state().keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in second.state().items())


def test_the_state_always_has_the_same_names_and_shapes_and_is_alive() -> None:
    model = adapted("bert", steps=6, method="adalora", **SETTINGS["adalora"])
    before = model.state()
    shapes = {name: tensor.shape for name, tensor in before.items()}
    Training(model, "bert").steps(0, 6)
    assert {name: tensor.shape for name, tensor in model.state().items()} == shapes
    assert all(tensor is before[name] for name, tensor in model.state().items())
    assert all(tensor.dtype == torch.float32 for tensor in before.values())
    layers = KINDS["bert"].linears
    assert len(before) == layers * (2 * 3 + 1)


def test_a_state_of_another_training_is_refused() -> None:
    model = adapted("bert", method="adalora")
    state = model.state()
    some = next(iter(state))
    with pytest.raises(InputError, match="does not fit"):
        model.load_state({name: tensor for name, tensor in state.items() if name != some})
    with pytest.raises(InputError, match="does not fit"):
        model.load_state({**state, some: torch.zeros(1)})
    with pytest.raises(InputError, match="does not fit"):
        adapted("bert", method="full").load_state(state)


def test_buffers_belong_to_the_state() -> None:
    model = adapted("bert", method="full")
    model.network.register_buffer("seen", torch.tensor(3.0))
    saved = copy.deepcopy(model.state())
    model.network.seen.fill_(0.0)
    model.load_state(saved)
    assert float(model.network.seen) == 3.0


def test_equal_seeds_give_equal_weights_and_leave_the_random_state_alone() -> None:
    for method, settings in SETTINGS.items():
        before = torch.get_rng_state()
        one = adapted("bert", seed=4, method=method, **settings)
        assert torch.equal(torch.get_rng_state(), before)
        torch.rand(3)
        other = adapted("bert", seed=4, method=method, **settings)
        third = adapted("bert", seed=5, method=method, **settings)
        same, different = other.trained_parameters(), third.trained_parameters()
        assert all(torch.equal(p, same[name]) for name, p in one.trained_parameters().items()), method
        random = [n for n, p in one.trained_parameters().items() if not torch.equal(p, different[n])]
        assert any("classifier" in name for name in random), method
        if method not in ("full", "frozen"):
            assert any("classifier" not in name for name in random), method


def test_a_new_head_is_the_same_with_every_method_and_whatever_the_network_held() -> None:
    for kind, head in (
        ("bert", "classifier"),
        ("modernbert", "head.dense"),
        ("gpt2", "score"),
        ("vit", "classifier"),
    ):
        full = adapted(kind, method="full").network.get_submodule(head).weight
        assert 0.01 < float(full.std()) < 0.3
        assert not torch.equal(full, network(kind).get_submodule(head).weight)
        low_rank = adapted(kind, method="lora").network.get_submodule(
            f"base_model.model.{head.split('.')[0]}"
        )
        rest = head.partition(".")[2]
        trained = low_rank.modules_to_save["default"].get_submodule(rest)
        assert torch.equal(trained.weight, full)


def test_weights_that_were_loaded_are_never_drawn_anew() -> None:
    for kind in ("bert", "distilbert", "modernbert", "t5"):
        before, after = network(kind).state_dict(), adapted(kind, method="full").network.state_dict()
        changed = {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}
        assert changed <= set(KINDS[kind].new)
        assert len(batch(kind)) >= 2
