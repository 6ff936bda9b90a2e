"""AdaLoRA's budget: it ends where it was told to, by peft's formulas, from the gradients that the trainer averaged."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import AdaLoraConfig
from peft.tuners.adalora.layer import RankAllocator

from sparkml.errors import ConfigError
from sparkml.models.adapt.budget import BudgetSchedule
from tests.unit.models.adapt.networks import KINDS, Training, adapted, loss_of

SETTINGS: dict[str, Any] = {
    "method": "adalora",
    "initial_rank": 6,
    "target_rank": 2,
    "delta_t": 3,
    "tinit_fraction": 0.1,
    "tfinal_fraction": 0.3,
}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_budget_is_met_at_the_end(kind: str) -> None:
    model = adapted(kind, steps=20, **SETTINGS)
    assert set(model.ranks().values()) == {6}
    Training(model, kind).steps(0, 20)
    assert len(model.ranks()) == KINDS[kind].linears
    assert sum(model.ranks().values()) == 2 * KINDS[kind].linears
    assert model.facts()["rank_mean"] == 2.0
    assert model.facts()["rank_min"] == min(model.ranks().values())
    assert model.facts()["rank_max"] == max(model.ranks().values())
    singular = {
        name.removeprefix("base_model.model.").removesuffix(".lora_E.default"): int((p != 0).sum())
        for name, p in model.trained_parameters().items()
        if ".lora_E." in name
    }
    assert singular == model.ranks()


@pytest.mark.parametrize("shares", [(0.0, 0.0), (0.0, 0.9), (0.9, 0.0)])
def test_the_budget_is_met_with_any_shares_of_the_steps(shares: tuple[float, float]) -> None:
    settings = {**SETTINGS, "tinit_fraction": shares[0], "tfinal_fraction": shares[1], "delta_t": 1000}
    model = adapted("bert", steps=7, **settings)
    Training(model, "bert").steps(0, 7)
    assert sum(model.ranks().values()) == 2 * 12


def test_equal_ranks_at_start_and_end_take_nothing_away() -> None:
    model = adapted("bert", steps=6, **{**SETTINGS, "target_rank": 6})
    Training(model, "bert").steps(0, 6)
    assert set(model.ranks().values()) == {6}


def test_a_training_too_short_for_the_shares_is_refused() -> None:
    with pytest.raises(ConfigError, match="too short"):
        adapted("bert", steps=1, **{**SETTINGS, "tinit_fraction": 0.6})


def test_the_budget_falls_along_a_cubic() -> None:
    schedule = BudgetSchedule.of(100, first=0.1, last=0.5, every_steps=10, target_rank=2)
    assert [schedule.budget(done, 60, 20) for done in (5, 10, 20, 30, 50, 99)] == [60, 60, 36, 25, 20, 20]
    assert [done for done in range(1, 101) if schedule.is_due(done)] == [20, 30, 40, 50]


def test_choices_are_those_of_peft_on_the_same_gradients() -> None:
    """peft's own allocator beside ours, fed with the same parameters and gradients after every step."""
    steps, ours = 12, adapted("bert", steps=12, **SETTINGS)
    layers = ours.network.base_model.model
    config = AdaLoraConfig(init_r=6, target_r=2, total_step=steps, tinit=1, tfinal=4, deltaT=3)
    theirs = RankAllocator(layers, config, "default")
    optimizer = torch.optim.AdamW(ours.parameter_groups(1e-2, 0.0))
    ours.network.train()
    for step in range(steps):
        torch.manual_seed(step)
        optimizer.zero_grad()
        loss_of(ours.network, "bert").backward()
        optimizer.step()
        done = step + 1
        values = {name: p.detach().clone() for name, p in layers.named_parameters() if "lora_E" in name}
        if done <= 8:
            theirs.update_ipt(layers)
        pattern = (
            theirs.mask_to_budget(layers, theirs.budget_schedule(done)[0]) if done in (3, 6, 8) else None
        )
        with torch.no_grad():
            for name, p in layers.named_parameters():
                if name in values:
                    p.copy_(values[name])
        ours.after_step(step)
        if pattern is not None:
            expected = {name.removesuffix(".lora_E.default"): sum(kept) for name, kept in pattern.items()}
            assert ours.ranks() == expected
            assert {f"{name}.default": kept for name, kept in ours.rank_pattern().items()} == pattern
    assert sum(ours.ranks().values()) == 24


def test_importance_follows_the_gradients_that_lie_in_the_parameters() -> None:
    """Gradients written into the buffer after backward (an allreduce does it) decide, not those of this process."""
    model = adapted("bert", steps=1, **{**SETTINGS, "tinit_fraction": 0.0, "tfinal_fraction": 0.0})
    favourite = "bert.encoder.layer.1.output.dense"
    for name, parameter in model.trained_parameters().items():
        parameter.grad = torch.zeros_like(parameter)
        if favourite in name and "classifier" not in name:
            parameter.data.fill_(1.0)
            parameter.grad.fill_(1.0)
    model.after_step(0)
    assert model.ranks()[favourite] == 6
    assert sum(model.ranks().values()) == 24


def test_the_orthogonal_term_is_the_mean_distance_from_the_identity() -> None:
    model = adapted("bert", **{**SETTINGS, "orthogonal_weight": 0.5})
    distances = []
    for name, p in model.trained_parameters().items():
        if ".lora_A." in name or ".lora_B." in name:
            gram = p @ p.T if ".lora_A." in name else p.T @ p
            distances.append(float((gram - torch.eye(6)).pow(2).sum().sqrt()))
    extra = model.extra_loss()
    assert extra is not None
    assert float(extra) == pytest.approx(0.5 * sum(distances) / len(distances), rel=1e-5)
    assert adapted("bert", **{**SETTINGS, "orthogonal_weight": 0.0}).extra_loss() is None
    assert adapted("bert", method="lora").extra_loss() is None


def test_the_term_is_not_added_a_second_time_to_a_loss_of_the_network() -> None:
    from tests.unit.models.adapt.networks import batch

    model = adapted("bert", **SETTINGS)
    labels = torch.tensor([0, 1, 2, 0])
    with torch.no_grad():
        output = model.network(**batch("bert"), labels=labels)
        assert float(output.loss) == float(torch.nn.functional.cross_entropy(output.logits, labels))
