"""Which layers of a network may be rounded: the linear ones of its base and its word table, in groups."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

# What rounding would disturb more than it saves.
_STAY_FLOAT = ("norm",)


def quantisable(network: nn.Module) -> dict[str, nn.Module]:
    """The layers by their names in the network; its head is not among them."""
    base = getattr(network, "base_model", network)
    words = base.get_input_embeddings() if isinstance(base, PreTrainedModel) else None
    # Of an encoder-decoder the base is the whole network; what gives the logits is a head there, too.
    plain: Any = base  # its types say nothing of it
    head = plain.get_output_embeddings() if isinstance(base, PreTrainedModel) else None
    inside = {id(module) for module in base.modules() if module is not head}
    return {
        name: module
        for name, module in network.named_modules()
        if id(module) in inside
        and (isinstance(module, nn.Linear) or (module is words and isinstance(module, nn.Embedding)))
    }


def groups_of(network: nn.Module) -> dict[str, tuple[str, ...]]:
    """The layers that lie in one module, such as query, key and value of an attention: together they are rounded."""
    groups: dict[str, tuple[str, ...]] = {}
    for name in quantisable(network):
        parent = name.rpartition(".")[0]
        groups[parent] = (*groups.get(parent, ()), name)
    return groups


def names_of(network: nn.Module, kept: frozenset[str]) -> list[str]:
    """The layers of all groups but those `kept`."""
    return [name for group, names in groups_of(network).items() if group not in kept for name in names]


def to_bfloat16(network: nn.Module) -> nn.Module:
    """The network whose base has its weights in bfloat16, but for norms, in place; its head stays as it is."""
    base = getattr(network, "base_model", network)
    for module in base.modules():
        if not any(word in type(module).__name__.lower() for word in _STAY_FLOAT):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.to(torch.bfloat16)
    return network.eval()
