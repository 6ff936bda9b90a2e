"""Zeros among the weights of linear layers: by magnitude, along a cubic schedule.

Zhu and Gupta 2017 (arXiv:1710.01878).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparkml.models.quantisable import quantisable
from sparkml.models.shaping.settings import Sparsity

# From none to all of them in about so many cuts.
_CUTS = 100


def sparse_matrices(network: nn.Module) -> list[Tensor]:
    """The weights of the linear layers of a network's base."""
    layers = [layer for layer in quantisable(network).values() if isinstance(layer, nn.Linear)]
    return [layer.weight for layer in layers]


def cut(weights: Tensor, share: float) -> None:
    """Set the smallest weights of a matrix to zero, in place, so that `share` of it is zero, up to half a weight."""
    n = round(share * weights.numel())
    if n:
        size = weights.abs()
        weights.masked_fill_(size <= size.flatten().kthvalue(n).values, 0.0)


class Zeros:
    """Keeps zeros at zero while the optimiser moves all weights, and adds to them as the schedule says.

    Nothing is kept between steps: which weights are zero is in the weights, so a training that goes on from a
    checkpoint has what it needs.
    """

    def __init__(self, matrices: Sequence[Tensor], settings: Sparsity, total_steps: int) -> None:
        self._matrices, self._share = list(matrices), settings.share
        self._end = max(1, round(settings.until * total_steps))
        self._every = max(1, self._end // _CUTS)
        self._kept: list[Tensor] = []

    def share_at(self, steps_done: int) -> float:
        """Share of the weights that are zero after so many steps."""
        left = 1 - min(steps_done / self._end, 1.0)
        return self._share * (1 - left**3)

    def before_step(self, step: int) -> None:
        """See `Companion`."""
        self._kept = [matrix.data != 0 for matrix in self._matrices]

    def after_step(self, step: int) -> None:
        """See `Companion`."""
        with torch.no_grad():
            for matrix, kept in zip(self._matrices, self._kept, strict=True):
                matrix.mul_(kept)
        done = step + 1
        if self._share and done <= self._end and (done % self._every == 0 or done == self._end):
            self._cut(self.share_at(done))

    def finish(self) -> None:
        """See `Companion`: averaged weights, or the best ones on the way, may have fewer zeros."""
        self._cut(self._share)

    def _cut(self, share: float) -> None:
        with torch.no_grad():
            for matrix in self._matrices:
                cut(matrix.data, share)
