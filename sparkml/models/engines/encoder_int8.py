"""The encoder with int8 weights and int8 tokens: products in int8, all between two of them in one pass over memory.

Weights have one scale an output channel, tokens one scale each or that of the layer: neither depends on the other rows
of a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sparkml.kernels import int8_rows
from sparkml.models.engines.encoder_float import Encoder, attention, norm
from sparkml.models.engines.layers import Linear
from sparkml.models.engines.layout import Block, EncoderWeights
from sparkml.models.onednn import Int8Weight

# Arguments of a kernel that go together, in its order.
Parts = Any


class Int8Rows:
    """Room for rows in int8, [rows, width], and their scales [rows]."""

    def __init__(self, rows: int, width: int) -> None:
        self.values = torch.empty(rows, width, dtype=torch.int8)
        self.scale = np.empty(rows, np.float32)
        self._room: Parts = (self.values.numpy(), self.scale, self.scale.view(np.int32))

    def into(self, fixed: np.float32) -> Parts:
        """What a kernel writes rows into, at the scale of the layer that reads them; 0: each row at its own."""
        return fixed, *self._room

    def take(self, x: Tensor, fixed: np.float32) -> Int8Rows:
        """Round rows of float32."""
        int8_rows.quantise(*_with_bits(x), *self.into(fixed))
        return self


class Int8Product:
    """A layer whose weights are int8."""

    def __init__(self, layer: Linear, scale: Tensor) -> None:
        self._product, self._bias = Int8Weight(layer.weight, scale), layer.bias.numpy()
        self.width = len(scale)
        self.fixed = np.float32(layer.input_scale)

    def __call__(self, rows: Int8Rows) -> Parts:
        """The product [rows, out] without the scales of its rows, these, and its bias."""
        return self._product(rows.values).numpy(), rows.scale, self._bias

    def floats(self, rows: Int8Rows) -> Tensor:
        """float32 [rows, out]."""
        out = self._product(rows.values)
        floats = out.numpy()
        int8_rows.dequantise(floats, rows.scale, self._bias, floats)
        return out


@dataclass
class Hidden:
    """The tokens between two blocks, [rows, width] each: float32, and in int8 where `rounded` is not None."""

    floats: Tensor
    rounded: Int8Rows | None = None

    def in_int8(self, fixed: np.float32) -> Int8Rows:
        """As int8, which is there already or made at that scale."""
        return self.rounded or Int8Rows(*self.floats.shape).take(self.floats, fixed)


Attend = Callable[[Tensor], Tensor]


class Int8Block:
    """A block all of whose products are int8; `following`: the scale at which what comes after it reads its output."""

    def __init__(self, block: Block, products: list[Int8Product], following: float, epsilon: float) -> None:
        self._following = np.float32(following)
        self._qkv, self._out, self._up, self._down = products
        norms: Parts = (
            (*(part.numpy() for part in one), np.float32(epsilon)) for one in (block.norm1, block.norm2)
        )
        self._norm1, self._norm2 = norms

    def __call__(self, hidden: Hidden, attend: Attend) -> Hidden:
        """The block's output, in the place of its input."""
        tokens, floats = hidden.in_int8(self._qkv.fixed), _with_bits(hidden.floats)
        attended = attend(self._qkv.floats(tokens))
        # Narrower than the tokens where heads are left out.
        narrow = tokens if attended.shape == tokens.values.shape else Int8Rows(*attended.shape)
        narrow.take(attended, self._out.fixed)
        int8_rows.add_norm_quantise(*self._out(narrow), *floats, *self._norm1, *tokens.into(self._up.fixed))
        wide = Int8Rows(len(tokens.scale), self._up.width)
        row = _with_bits(torch.empty(self._up.width))
        int8_rows.gelu_quantise(*self._up(tokens), *row, *wide.into(self._down.fixed))
        int8_rows.add_norm_quantise(*self._down(wide), *floats, *self._norm2, *tokens.into(self._following))
        return Hidden(hidden.floats, tokens)


class MixedBlock:
    """A block some of whose products are not int8: a function of float32 each."""

    def __init__(self, block: Block, epsilon: float) -> None:
        self._norm1, self._norm2, self._epsilon = block.norm1, block.norm2, epsilon
        self._qkv, self._out, self._up, self._down = (_in_floats(layer) for layer in block.layers)

    def __call__(self, hidden: Hidden, attend: Attend) -> Hidden:
        """The block's output."""
        attended = attend(self._qkv(hidden.floats))
        middle = norm(self._out(attended).add_(hidden.floats), self._norm1, self._epsilon)
        wide = F.gelu(self._up(middle))
        return Hidden(norm(self._down(wide).add_(middle), self._norm2, self._epsilon))


def _in_floats(layer: Linear) -> Callable[[Tensor], Tensor]:
    if layer.scale is None:
        return layer
    rounded = Int8Product(layer, layer.scale)
    return lambda x: rounded.floats(Int8Rows(*x.shape).take(x.contiguous(), rounded.fixed))


def _prepared(block: Block, following: float, epsilon: float) -> Int8Block | MixedBlock:
    products = [Int8Product(layer, layer.scale) for layer in block.layers if layer.scale is not None]
    if len(products) == len(block.layers):
        return Int8Block(block, products, following, epsilon)
    return MixedBlock(block, epsilon)


def _with_bits(x: Tensor) -> Parts:
    """float32 as numpy sees it, and the same memory as int32."""
    floats = x.numpy()
    return floats, floats.view(np.int32)


class Int8Encoder(Encoder):
    """As `Encoder`; embeddings, norms, attention and the head compute in float32, and so do layers without scales."""

    def __init__(self, weights: EncoderWeights) -> None:
        super().__init__(weights)
        # Behind the last block nothing reads int8.
        following = [*(block.qkv.input_scale for block in weights.blocks[1:]), 0.0]
        self._blocks = [
            _prepared(block, scale, weights.epsilon)
            for block, scale in zip(weights.blocks, following, strict=True)
        ]

    def encoded(self, hidden: Tensor, rows: int, time: int, seen: Tensor | None) -> Tensor:
        """See `Encoder`; `hidden` is written to."""
        found = Hidden(hidden.contiguous())
        for block in self._blocks:
            found = block(found, lambda qkv: attention(qkv, rows, time, self.weights.head_size, seen))
        return found.floats
