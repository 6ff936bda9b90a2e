"""Parts of BERT's relatives taken out: blocks, channels of the feed-forward, heads of the attention.

Fewer blocks and channels are in config.json, so that transformers loads what is left. Fewer heads of the same width it
cannot load: those that go are zeros, which the engine `encoder` leaves out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sparkml.errors import InputError
from sparkml.models.engines.layout import FAMILIES

# Products like widths of a multiple of it.
_CHANNEL_STEP = 8


@dataclass(frozen=True)
class Importance:
    """What each part is worth to a network, [blocks, channels] and [blocks, heads]."""

    channels: Tensor
    heads: Tensor


class Structure:
    """The blocks of a network, which is changed in place; InputError for architectures that are not known so well."""

    def __init__(self, network: nn.Module) -> None:
        self._base: Any = getattr(network, "base_model", network)
        self._configs = [network.config, self._base.config]
        kind = self._base.config.model_type
        if kind not in FAMILIES:
            raise InputError(
                "blocks, channels and heads cannot be taken out of this architecture",
                got=f"model_type {kind!r}",
                expected=", ".join(FAMILIES),
                next_action="prune single weights: sparsity=SHARE",
            )
        self._family = FAMILIES[kind]
        self._stack = self._family.block.partition(".{}")[0]

    @property
    def n_blocks(self) -> int:
        """How many blocks there are."""
        return len(self._blocks())

    @property
    def n_heads(self) -> int:
        """Of each block."""
        return int(getattr(self._base.config, self._family.n_heads))

    @property
    def n_channels(self) -> int:
        """Of the feed-forward of each block."""
        return int(getattr(self._base.config, self._family.channels))

    def keep_blocks(self, numbers: Sequence[int]) -> None:
        """Only these blocks stay, in order."""
        blocks = self._blocks()
        parent, _, name = self._stack.rpartition(".")
        setattr(
            self._base.get_submodule(parent),
            name,
            nn.ModuleList(blocks[number] for number in sorted(numbers)),
        )
        self._set(self._family.n_blocks, len(numbers))

    def keep_channels(self, share: float, importance: Importance) -> None:
        """Of every block the same number of channels stays, those worth most: `share` of them, a multiple of 8."""
        steps = max(1, round(share * self.n_channels / _CHANNEL_STEP))
        n = min(steps * _CHANNEL_STEP, self.n_channels)
        for up, down, worth in zip(
            self._each(self._family.up), self._each(self._family.down), importance.channels, strict=True
        ):
            stay = worth.argsort(descending=True, stable=True)[:n].sort().values
            _take_rows(up, stay)
            down.weight = nn.Parameter(down.weight.detach()[:, stay].contiguous())
            down.in_features = n
        self._set(self._family.channels, n)

    def keep_heads(self, share: float, importance: Importance) -> None:
        """`share` of all heads stays, those worth most, at least one a block; the others become zeros."""
        worth = importance.heads.clone()
        worth[torch.arange(self.n_blocks), worth.argmax(dim=1)] = torch.inf
        n = max(self.n_blocks, round(share * worth.numel()))
        stay = torch.zeros(worth.numel(), dtype=torch.bool)
        stay[worth.flatten().argsort(descending=True, stable=True)[:n]] = True
        names = (self._family.query, self._family.key, self._family.value, self._family.out)
        for kept, *inner, out in zip(stay.view_as(worth), *(self._each(name) for name in names), strict=True):
            mask = kept.repeat_interleave(out.in_features // self.n_heads).float()
            with torch.no_grad():
                for layer in inner:
                    layer.weight.mul_(mask.unsqueeze(1))
                    layer.bias.mul_(mask)
                out.weight.mul_(mask)

    def worth_by_norm(self) -> Importance:
        """The product of the norms of what goes into a part and what comes out of it."""
        channels, heads = [], []
        for up, down in zip(self._each(self._family.up), self._each(self._family.down), strict=True):
            channels.append(up.weight.norm(dim=1) * down.weight.norm(dim=0))
        for value, out in zip(self._each(self._family.value), self._each(self._family.out), strict=True):
            of_rows, of_columns = value.weight.square().sum(dim=1), out.weight.square().sum(dim=0)
            heads.append((self._by_head(of_rows) * self._by_head(of_columns)).sqrt())
        return Importance(torch.stack(channels).detach(), torch.stack(heads).detach())

    def worth_by_gradient(self, losses: Iterator[Tensor]) -> Importance:
        """How much a loss changes, to first order, with a part (Michel et al. 2019, arXiv:1905.10650).

        The sum over `losses` of |gradient x weight| of what comes out of it; heads are compared within their block.
        """
        down, out = list(self._each(self._family.down)), list(self._each(self._family.out))
        channels, heads = torch.zeros(len(down), self.n_channels), torch.zeros(len(out), self.n_heads)
        self._base.requires_grad_(False)
        for layer in (*down, *out):
            layer.weight.requires_grad_(True)
        for loss in losses:
            loss.backward()  # type: ignore[no-untyped-call]
            channels += torch.stack([_moved(layer) for layer in down]).abs()
            heads += torch.stack([self._by_head(_moved(layer)) for layer in out]).abs()
        self._base.requires_grad_(True)
        norms = heads.norm(dim=1, keepdim=True).clamp_min(torch.finfo(heads.dtype).tiny)
        return Importance(channels, heads / norms)

    def _by_head(self, values: Tensor) -> Tensor:
        return values.view(self.n_heads, -1).sum(dim=1)

    def _blocks(self) -> nn.ModuleList:
        found: nn.ModuleList = self._base.get_submodule(self._stack)
        return found

    def _each(self, name: str) -> Iterator[Any]:
        return (block.get_submodule(name) for block in self._blocks())

    def _set(self, name: str, value: int) -> None:
        for config in self._configs:
            setattr(config, name, value)


def spread_blocks(n: int, of: int, which: Literal["spread", "first"]) -> list[int]:
    """`n` numbers of `of`: the first ones, or evenly spread from the first to the last."""
    if n > of:
        raise InputError("there are fewer blocks", got=f"layers: {n}", expected=f"{of} at most")
    if which == "first" or n == 1:
        return list(range(n))
    return [round(number * (of - 1) / (n - 1)) for number in range(n)]


def _moved(layer: nn.Linear) -> Tensor:
    """What a loss loses to first order without each input of a layer; its gradients are used up."""
    assert layer.weight.grad is not None
    moved = (layer.weight.grad * layer.weight.detach()).sum(dim=0)
    layer.weight.grad = None
    return moved


def _take_rows(layer: nn.Linear, rows: Tensor) -> None:
    layer.weight = nn.Parameter(layer.weight.detach()[rows].contiguous())
    layer.bias = nn.Parameter(layer.bias.detach()[rows].contiguous())
    layer.out_features = len(rows)
