"""The gradients of a step: where there are other ranks, in one buffer, with a few sums that travel along.

One buffer is one allreduce, but it has to be zeroed, and autograd adds to it. A process alone takes the tensors that
autograd makes: fewer passes over as many bytes as the network has (2 to 7 % of a step of MiniLM), and less memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from sparkml.distributed.collective import Collective


class FlatGradients:
    """Every parameter's gradient as a view of one float32 buffer, with `n_sums` scalars behind them.

    `alone`: no buffer, for a collective of one rank.
    """

    def __init__(self, model: nn.Module, n_sums: int, *, alone: bool = False) -> None:
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._alone = alone
        size = 0 if alone else sum(parameter.numel() for parameter in self._parameters)
        self._buffer = torch.zeros(size + n_sums, device=self._parameters[0].device)
        self._flat, self._sums = self._buffer[:size], self._buffer[size:]
        offset = 0
        for parameter in () if alone else self._parameters:
            # Autograd adds into a gradient that is there already, so the views stay views.
            parameter.grad = self._buffer[offset : offset + parameter.numel()].view_as(parameter)
            offset += parameter.numel()

    def zero(self) -> None:
        """Begin a step."""
        if not self._alone:
            self._buffer.zero_()
            return
        for parameter in self._parameters:
            parameter.grad = None

    def sum_over_ranks(self, collective: Collective, sums: Sequence[Tensor | float]) -> list[float]:
        """Add up the gradients and `sums` of all ranks; returns the sums."""
        if self._alone:
            for parameter in self._parameters:
                if parameter.grad is None:  # as with a buffer: the optimiser's decay goes on
                    parameter.grad = torch.zeros_like(parameter)
            return [float(value) for value in sums]
        for index, value in enumerate(sums):
            self._sums[index] = value
        collective.allreduce_(self._buffer)
        return [float(value) for value in self._sums.tolist()]

    def scale_and_clip(self, scale: float, max_norm: float) -> float:
        """Multiply the gradients by `scale`, then clip (0: never); returns the norm before clipping."""
        gradients = self._gradients()
        norm = float(get_total_norm(gradients)) * scale
        if max_norm > 0 and norm > max_norm:
            scale *= max_norm / norm
        for gradient in gradients:
            gradient.mul_(scale)
        return norm

    def _gradients(self) -> list[Tensor]:
        if not self._alone:
            return [self._flat]
        return [parameter.grad for parameter in self._parameters if parameter.grad is not None]
