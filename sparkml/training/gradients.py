"""All gradients in one buffer: one allreduce a step, one norm, and a few sums that travel along."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparkml.distributed.collective import Collective


class FlatGradients:
    """Every parameter's gradient as a view of one float32 buffer, with `n_sums` scalars behind them."""

    def __init__(self, model: nn.Module, n_sums: int) -> None:
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        size = sum(parameter.numel() for parameter in parameters)
        self._buffer = torch.zeros(size + n_sums, device=parameters[0].device)
        self._gradients, self._sums = self._buffer[:size], self._buffer[size:]
        offset = 0
        for parameter in parameters:
            # Autograd adds into a gradient that is there already, so the views stay views.
            parameter.grad = self._buffer[offset : offset + parameter.numel()].view_as(parameter)
            offset += parameter.numel()

    def zero(self) -> None:
        """Begin a step."""
        self._buffer.zero_()

    def sum_over_ranks(self, collective: Collective, sums: Sequence[Tensor | float]) -> list[float]:
        """Add up the gradients and `sums` of all ranks; returns the sums."""
        for index, value in enumerate(sums):
            self._sums[index] = value
        collective.allreduce_(self._buffer)
        return [float(value) for value in self._sums.tolist()]

    def scale_and_clip(self, scale: float, max_norm: float) -> float:
        """Multiply the gradients by `scale`, then clip (0: never); returns the norm before clipping."""
        norm = float(self._gradients.norm()) * scale
        if max_norm > 0 and norm > max_norm:
            scale *= max_norm / norm
        self._gradients.mul_(scale)
        return norm
