"""Linear layers and the word table of a network that compute, while it is trained, as `sparkml.models.int8` will.

Weights are rounded with one scale an output channel, tokens with one scale each; gradients pass the rounding as if it
were not there (straight-through estimator, Bengio et al. 2013, arXiv:1308.3432).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparkml.models.int8 import quantise_rows
from sparkml.models.linear import OneDnnLinear, linear
from sparkml.models.quantisable import quantisable


def rounded(values: Tensor) -> Tensor:
    """[..., width] float -> the same as int8 has it, with one scale a row; its gradient is that of `values`."""
    with torch.no_grad():
        rows, scale = quantise_rows(values.reshape(-1, values.shape[-1]).float())
        moved = (rows.float() * scale.unsqueeze(1)).view_as(values) - values
    return values + moved


class RoundedLinear(OneDnnLinear):
    """A linear layer of weights and tokens in int8, in floats."""

    def forward(self, input: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        return linear(rounded(input), rounded(self.weight), self.bias)


class RoundedEmbedding(nn.Embedding):
    """A table of int8 rows, in floats."""

    def forward(self, input: Tensor) -> Tensor:
        """[...] row numbers -> [..., width]."""
        return rounded(F.embedding(input, self.weight, self.padding_idx))


def round_layers(network: nn.Module) -> nn.Module:
    """The network whose base computes so from now on, in place; names, shapes and what is saved stay as they were."""
    for layer in quantisable(network).values():
        layer.__class__ = RoundedLinear if isinstance(layer, nn.Linear) else RoundedEmbedding
    return network
