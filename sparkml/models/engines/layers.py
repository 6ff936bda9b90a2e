"""The layers of an encoder: their weights as they lie in the directory, in floats or int8."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor
from torch.nn import functional as F

from sparkml.models.onednn import product

_LEVELS = 127  # of int8, to either side


@dataclass(frozen=True)
class Linear:
    """A linear layer: weight [out, in], bias [out]; where the weight is int8, one scale [out] a row.

    `input_scale`: that of its int8 input; 0: each row has one of its own.
    """

    weight: Tensor
    bias: Tensor
    scale: Tensor | None = None
    input_scale: float = 0.0

    def __call__(self, x: Tensor, then: str = "none") -> Tensor:
        """Of weights that are not int8: x [rows, in] -> [rows, out], as `product`."""
        return product(x, self.weight, self.bias, then)

    def rows(self, stay: Tensor) -> Linear:
        """The same with fewer outputs: where `stay`, bool [out], is True."""
        scale = None if self.scale is None else self.scale[stay]
        return replace(self, weight=self.weight[stay], bias=self.bias[stay], scale=scale)

    def in_float32(self) -> Linear:
        """The same without a scale."""
        weight = self.weight.float()
        floats = weight if self.scale is None else weight * self.scale.unsqueeze(1)
        return Linear(floats, self.bias.float(), input_scale=self.input_scale)

    def in_floats(self, x: Tensor) -> Tensor:
        """The product in floats, of an input that is rounded where its scale is fixed: x [..., in] -> [..., out]."""
        if self.input_scale:
            x = (x / self.input_scale).round_().clamp_(-_LEVELS, _LEVELS).mul_(self.input_scale)
        return F.linear(x, self.weight, self.bias)


@dataclass(frozen=True)
class Table:
    """Embeddings [rows, width]; where they are int8, one scale [rows] a row."""

    weight: Tensor
    scale: Tensor | None = None

    def __call__(self, index: Tensor) -> Tensor:
        """float32 [..., width] of row numbers."""
        found = F.embedding(index, self.weight).float()
        return found if self.scale is None else found.mul_(self.scale[index].unsqueeze(-1))
