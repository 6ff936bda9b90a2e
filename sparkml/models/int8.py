"""int8: weights in 8 bits on disk and in memory, activations quantised a token at a time or at a fixed scale.

Weights are symmetric with one scale an output channel, activations symmetric with one scale a token, products
are summed in int32 by oneDNN (AVX512-VNNI where the CPU has it). A token's scale does not depend on the other
documents of its batch, unlike that of `torch.ao.quantization.quantize_dynamic` and of onnxruntime's
`quantize_dynamic`, which take one scale for the whole batch: there a document's scores change with its
neighbours. Static int8 has one scale a layer for all activations, found out beforehand on examples: what is larger than
127 of it saturates. There too an answer depends on its document alone. Embedding tables have one scale a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from sparkml.models.folder import WEIGHTS_FILE
from sparkml.models.networks import take_state, untied_state
from sparkml.models.onednn import Int8Weight
from sparkml.models.quantisable import names_of

_LEVELS = 127.0
_SMALLEST = 1e-12


def quantise_rows(values: Tensor) -> tuple[Tensor, Tensor]:
    """[rows, width] float -> int8 of the same shape and one float scale a row: values = int8 * scale."""
    scale = values.abs().amax(dim=1).div_(_LEVELS).clamp_min_(_SMALLEST)
    return torch.mul(values, scale.reciprocal().unsqueeze(1)).round_().to(torch.int8), scale


def saturate_rows(values: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """As `quantise_rows` at one given scale: larger values become 127 of it. A row with NaN has the scale NaN."""
    each = torch.where(values.isnan().any(dim=1), torch.nan, scale)
    return torch.mul(values, scale.reciprocal()).round_().clamp_(-_LEVELS, _LEVELS).to(torch.int8), each


class Int8Linear(nn.Module):
    """y = x W' + b with int8 W [out, in] and int8 x, which has `input_scale` where that is not None."""

    weight: Tensor
    scale: Tensor
    bias: Tensor
    input_scale: Tensor | None

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(n_out, n_in, dtype=torch.int8))
        self.register_buffer("scale", torch.ones(n_out))
        self.register_buffer("bias", torch.zeros(n_out))
        self.register_buffer("input_scale", None)
        self._product: Int8Weight | None = (
            None  # made of the weight at the first call: it may be loaded later
        )

    @classmethod
    def of(cls, linear: nn.Linear, input_scale: float | None = None) -> Int8Linear:
        """Quantise a float layer; without a bias, it is zero."""
        quantised = cls(linear.in_features, linear.out_features)
        quantised.weight, quantised.scale = quantise_rows(linear.weight.detach())
        if linear.bias is not None:
            quantised.bias = linear.bias.detach().clone()
        if input_scale is not None:
            quantised.input_scale = torch.tensor(input_scale)
        return quantised

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., in] float -> [..., out] float."""
        values = hidden.reshape(-1, hidden.shape[-1])
        fixed = self.input_scale
        rows, scale = quantise_rows(values) if fixed is None else saturate_rows(values, fixed)
        if self._product is None:
            self._product = Int8Weight(self.weight, self.scale)
        found = torch.addcmul(self.bias, self._product(rows), scale.unsqueeze(1))
        return found.reshape(*hidden.shape[:-1], -1)


class Int8Embedding(nn.Module):
    """A table of int8 rows."""

    weight: Tensor
    scale: Tensor

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(rows, width, dtype=torch.int8))
        self.register_buffer("scale", torch.ones(rows))

    @classmethod
    def of(cls, table: nn.Embedding) -> Int8Embedding:
        """Quantise a float table."""
        quantised = cls(*table.weight.shape)
        quantised.weight, quantised.scale = quantise_rows(table.weight.detach())
        return quantised

    def forward(self, index: Tensor) -> Tensor:
        """[...] row numbers -> [..., width] float."""
        return F.embedding(index, self.weight).float().mul_(self.scale[index].unsqueeze(-1))


def to_int8(
    network: nn.Module,
    kept: frozenset[str] = frozenset(),
    input_scales: Mapping[str, float] = MappingProxyType({}),
) -> nn.Module:
    """Make the linear layers and the word table of the network's base int8, in place; its head stays float.

    Groups of layers that are `kept` (`quantisable.groups_of`) stay float too. Layers whose names have an input scale
    are static, the others dynamic.
    """
    _round(network, names_of(network, kept), input_scales)
    return network.eval()


def _round(network: nn.Module, names: Sequence[str], input_scales: Mapping[str, float]) -> None:
    # An encoder-decoder's two halves share a word table: it is rounded under each of its names.
    every: dict[int, list[str]] = {}
    for name, module in network.named_modules(remove_duplicate=False):
        every.setdefault(id(module), []).append(name)
    for name in names:
        layer: Any = network.get_submodule(name)
        rounded = (
            Int8Linear.of(layer, input_scales.get(name))
            if isinstance(layer, nn.Linear)
            else Int8Embedding.of(layer)
        )
        for alias in every[id(layer)]:
            parent, _, own = alias.rpartition(".")
            setattr(network.get_submodule(parent), own, rounded)


def save_int8(network: nn.Module, folder: Path) -> None:
    """Write the weights of a network that `to_int8` has made."""
    folder.mkdir()
    save_file(untied_state(network), folder / WEIGHTS_FILE, metadata={"format": "pt"})


def load_int8(network: nn.Module, folder: Path) -> nn.Module:
    """The network with the weights of `folder` in place of its own; InputError where they do not fit."""
    state = load_file(folder / WEIGHTS_FILE)
    names = [name for name in names_of(network, frozenset()) if f"{name}.scale" in state]
    # Values come with the others; here it counts which there are.
    _round(network, names, {name: 1.0 for name in names if f"{name}.input_scale" in state})
    return take_state(network, untied_state(network), state, "int8", folder)
