"""Bottleneck adapters: small networks behind the attention and the feed-forward of every block.

Houlsby et al. 2019 (https://arxiv.org/abs/1902.00751) put one behind each, Pfeiffer et al. 2021
(https://arxiv.org/abs/2005.00247) one behind the feed-forward alone; always before the residual connection.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from sparkml.errors import ConfigError
from sparkml.models.adapt.anatomy import Anatomy, output_layers, output_width
from sparkml.models.adapt.heads import drawn_from

# Of the first weights: near the identity, as Houlsby et al. chose it.
_START_STD = 1e-2


class Bottleneck(nn.Module):
    """x + up(gelu(down(x))) for x [..., width]."""

    def __init__(self, width: int, bottleneck: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, bottleneck)
        self.up = nn.Linear(bottleneck, width)
        for layer in (self.down, self.up):
            nn.init.trunc_normal_(layer.weight, std=_START_STD, a=-2 * _START_STD, b=2 * _START_STD)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Shape and kind of x."""
        update: Tensor = self.up(nn.functional.gelu(self.down(x)))
        return x + update


class AdaptedOutput(nn.Module):
    """A linear layer of the base with an adapter behind it; shows the layer's weight and bias as its own."""

    def __init__(self, base_layer: nn.Module, bottleneck: int) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.adapter = Bottleneck(output_width(base_layer), bottleneck)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """What the layer gives, adapted."""
        adapted: Tensor = self.adapter(self.base_layer(*args, **kwargs))
        return adapted

    @property
    def weight(self) -> Any:
        """T5 asks its output layer for its number format."""
        return self.base_layer.weight

    @property
    def bias(self) -> Any:
        """The bias of the base's layer."""
        return self.base_layer.bias


def insert_adapters(
    network: nn.Module, anatomy: Anatomy, *, bottleneck: int, after_attention: bool, seed: int
) -> None:
    """Freeze the network and put adapters into its blocks; ConfigError where it has no place for them."""
    places = _places(network, anatomy, after_attention)
    network.requires_grad_(False)
    for name in places:
        parent, _, last = name.rpartition(".")
        with drawn_from(seed, name):
            adapted = AdaptedOutput(network.get_submodule(name), bottleneck)
        reference = next(adapted.base_layer.parameters())
        adapted.adapter.to(device=reference.device)
        setattr(network.get_submodule(parent), last, adapted)


def is_adapter(name: str) -> bool:
    """Is a parameter one of an adapter?"""
    return ".adapter.down." in name or ".adapter.up." in name


def _places(network: nn.Module, anatomy: Anatomy, after_attention: bool) -> list[str]:
    places: list[str] = []
    for block in anatomy.blocks:
        attentions, feed_forward = output_layers(network, block)
        if attentions and feed_forward:
            places += [*attentions, feed_forward] if after_attention else [feed_forward]
    if not places:
        raise ConfigError(
            "the network has no place for bottleneck adapters",
            where=type(network).__name__,
            got="no repeated blocks with linear layers that end an attention and a feed-forward",
            expected="a transformer",
            next_action="choose the method lora or full",
        )
    return places
