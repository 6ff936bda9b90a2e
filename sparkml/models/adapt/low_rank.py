"""LoRA (Hu et al. 2021, https://arxiv.org/abs/2106.09685) and AdaLoRA through peft."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peft import AdaLoraConfig, LoraConfig, PeftModel, get_peft_model
from peft.tuners.adalora import SVDLinear
from torch import nn
from transformers.pytorch_utils import Conv1D

from sparkml.errors import ConfigError
from sparkml.models.adapt.anatomy import LINEAR, Anatomy, is_attention, is_under, linears
from sparkml.models.adapt.budget import BudgetSchedule, RankBudget
from sparkml.models.adapt.heads import drawn_from
from sparkml.models.adapt.products import fuse
from sparkml.models.adapt.settings import AdaptSettings

_ATTENTION_RATES = ("attention_dropout", "attn_dropout", "dropout_prob", "dropout")
BASE_PREFIX = "base_model.model."


def low_rank(
    network: nn.Module, settings: AdaptSettings, anatomy: Anatomy, *, total_steps: int, seed: int
) -> tuple[PeftModel, RankBudget | None]:
    """The network with updates of low rank beside its linear layers, and AdaLoRA's budget of ranks.

    Modules that are trained in full (the head) are peft's `modules_to_save`. peft matches these by the ends of their
    names: with `classifier`, a `pre_classifier` is trained too.
    """
    targets = _in_last_layers(_targets(network, settings, anatomy), network, settings, anatomy)
    if settings.network_dropout is not None:
        _set_dropout(network, settings.network_dropout)
    common: dict[str, Any] = {
        "lora_alpha": settings.alpha,
        "lora_dropout": settings.dropout,
        "target_modules": targets,
        "bias": settings.bias,
        "modules_to_save": list(anatomy.heads) or None,
        "fan_in_fan_out": any(isinstance(network.get_submodule(name), Conv1D) for name in targets),
    }
    if settings.method == "lora":
        with drawn_from(seed, "lora"):
            adapted = get_peft_model(network, LoraConfig(r=settings.rank, **common))
        fuse(adapted)
        return adapted, None
    schedule = BudgetSchedule.of(
        total_steps,
        first=settings.tinit_fraction,
        last=settings.tfinal_fraction,
        every_steps=settings.delta_t,
        target_rank=settings.target_rank,
    )
    config = AdaLoraConfig(
        init_r=settings.initial_rank,
        target_r=settings.target_rank,
        total_step=total_steps,
        tinit=schedule.first_steps,
        tfinal=schedule.last_steps,
        deltaT=settings.delta_t,
        # The term is ours to add, whether or not the network computes a loss of its own.
        orth_reg_weight=0.0,
        **common,
    )
    with drawn_from(seed, "adalora"):
        adapted = get_peft_model(network, config)
    fuse(adapted)
    return adapted, RankBudget(svd_layers(adapted), schedule)


def svd_layers(adapted: nn.Module) -> dict[str, nn.Module]:
    """AdaLoRA's layers by their names in the base network."""
    return {
        name.removeprefix(BASE_PREFIX): module
        for name, module in adapted.named_modules()
        if isinstance(module, SVDLinear)
    }


def _targets(network: nn.Module, settings: AdaptSettings, anatomy: Anatomy) -> list[str]:
    wanted = settings.target_modules
    inside = linears(network, anatomy)
    if wanted is None:
        names = list(inside)
    elif wanted == "attention":
        names = [name for name in inside if is_attention(name)]
    else:
        names = _named(network, wanted, anatomy)
    if not names:
        raise ConfigError(
            "the network has no linear layers to adapt",
            where=type(network).__name__,
            got=f"target_modules: {wanted or 'all linear layers of the blocks'}",
            expected=f"some of {', '.join(sorted({name.rpartition('.')[2] for name in inside})) or 'none'}",
            next_action="correct target_modules, or choose the method full",
        )
    return names


def _set_dropout(network: nn.Module, rate: float) -> None:
    """Of this object alone: what is saved keeps the rates of its configuration."""
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = rate
        # Attentions that hand a number to the kernel.
        for name in _ATTENTION_RATES:
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, rate)


def _in_last_layers(
    names: list[str], network: nn.Module, settings: AdaptSettings, anatomy: Anatomy
) -> list[str]:
    """Those of the linear layers that lie in the last blocks, or behind them."""
    wanted, blocks = settings.last_layers, len(anatomy.blocks)
    if wanted is None:
        return names
    kept = [name for name in names if anatomy.level(name) > blocks - wanted]
    if wanted > blocks or not kept:
        raise ConfigError(
            "the network has fewer layers than that" if wanted > blocks else "nothing is left to adapt",
            where=type(network).__name__,
            got=f"last_layers: {wanted}",
            expected=f"1 to {blocks}" if wanted > blocks else f"target_modules in the last {wanted} layers",
            next_action="correct last_layers, or leave it out",
        )
    return kept


def _named(network: nn.Module, wanted: Sequence[str], anatomy: Anatomy) -> list[str]:
    layers = [
        name
        for name, module in network.named_modules()
        if isinstance(module, LINEAR) and not any(is_under(name, head) for head in anatomy.heads)
    ]
    for one in wanted:
        if not any(f".{name}".endswith(f".{one}") for name in layers):
            known = sorted({name.rpartition(".")[2] for name in layers})
            raise ConfigError(
                "the network has no such linear layer",
                where=type(network).__name__,
                got=f"target_modules: {one}",
                expected=f"the end of a name, for instance one of {', '.join(known)}",
                next_action="correct target_modules",
            )
    return [name for name in layers if any(f".{name}".endswith(f".{one}") for one in wanted)]
