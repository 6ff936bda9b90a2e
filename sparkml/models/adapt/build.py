"""Adapt a network: new modules get their first weights, and what is not trained is frozen."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn

from sparkml.errors import ConfigError
from sparkml.models.adapt.adapted import Adapted
from sparkml.models.adapt.anatomy import Anatomy, is_under
from sparkml.models.adapt.bottleneck import insert_adapters, is_adapter
from sparkml.models.adapt.budget import RankBudget
from sparkml.models.adapt.heads import head_names, start_heads
from sparkml.models.adapt.low_rank import low_rank
from sparkml.models.adapt.prompts import with_prompt
from sparkml.models.adapt.settings import LOW_RANK, PROMPTS, AdaptSettings


def adapt(
    network: nn.Module,
    settings: AdaptSettings,
    *,
    new_modules: Collection[str],
    total_steps: int,
    epoch_steps: int,
    seed: int,
) -> Adapted:
    """Make a network ready to be trained, in place.

    `new_modules` are those that the pretrained folder lacked, by name (a module's parameters stand for it). All first
    weights follow `seed` alone. ConfigError where the network does not allow the method.
    """
    _check_on_cpu(network)
    start_heads(network, head_names(network, new_modules), seed)
    heads = head_names(network, {*new_modules, *(settings.train_head or ())})
    anatomy = Anatomy(network, heads)
    _check_layers(network, settings, anatomy)
    budget: RankBudget | None = None
    if settings.method in LOW_RANK:
        network, budget = low_rank(network, settings, anatomy, total_steps=total_steps, seed=seed)
    elif settings.method in PROMPTS:
        network = with_prompt(network, settings, heads, seed=seed)
    elif settings.method == "adapters":
        insert_adapters(
            network,
            anatomy,
            bottleneck=settings.bottleneck,
            after_attention=settings.after == "both",
            seed=seed,
        )
        _train(network, heads)
    elif settings.method == "frozen":
        _freeze_but(network, heads)
    return Adapted(network, settings, anatomy, epoch_steps=epoch_steps, budget=budget)


def _train(network: nn.Module, heads: Collection[str]) -> None:
    """Thaw the heads, and the adapters in a frozen network."""
    for name, parameter in network.named_parameters():
        if is_adapter(name) or any(is_under(name, head) for head in heads):
            parameter.requires_grad_(True)


def _freeze_but(network: nn.Module, heads: Collection[str]) -> None:
    if not heads:
        raise ConfigError(
            "the method frozen trains new modules alone, and the network has none",
            where=type(network).__name__,
            expected="a pretrained folder without the head of the task, or train_head",
            next_action="name the modules to train in train_head, or choose another method",
        )
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(any(is_under(name, head) for head in heads))


def _check_on_cpu(network: nn.Module) -> None:
    devices = sorted({parameter.device.type for parameter in network.parameters()})
    if devices != ["cpu"]:
        raise ConfigError(
            "first weights are drawn on the CPU, so that they are the same on every machine",
            where=type(network).__name__,
            got=f"a network on {', '.join(devices)}",
            expected="a network on the CPU",
            next_action="adapt the network first, then move it to the accelerator",
        )


def _check_layers(network: nn.Module, settings: AdaptSettings, anatomy: Anatomy) -> None:
    if anatomy.blocks or (settings.layer_decay == 1 and settings.unfreeze_epochs is None):
        return
    raise ConfigError(
        "the network has no repeated blocks, so no layers that rates or times could follow",
        where=type(network).__name__,
        expected="layer_decay 1 and unfreeze_epochs null",
    )
