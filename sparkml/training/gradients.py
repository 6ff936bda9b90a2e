"""The gradients of a step, summed over the ranks while the backward pass still runs.

A process alone takes the tensors that autograd makes: to zero and add to a buffer costs 2 to 7 % of a step of MiniLM.
With other ranks, parameters share buffers of a few megabytes, from the head down, as the backward pass comes to them;
each buffer travels as soon as the last pass of the step has filled it, and no pass before that sends anything. Of tall
matrices, which token embeddings are, only those rows travel that some rank has touched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from sparkml.distributed.collective import Collective, Pending
from sparkml.training.settings import GradientType

BUCKET_BYTES = 4 << 20
# A matrix is tall from so many rows and numbers on; below, the sum of all of it takes no longer than to look.
_TALL_ROWS, _TALL_NUMBERS = 4096, 1 << 20
# Where more than half of the rows travel (embeddings that are the output layer, too), all do, for so many steps.
_DENSE_SHARE, _DENSE_STEPS = 0.5, 100


class Gradients(Protocol):
    """What the trainer does with gradients in a step, in this order; `last_pass` before the last backward pass."""

    def zero(self) -> None:
        """Begin a step."""
        ...

    def last_pass(self) -> None:
        """What the next backward pass completes may travel."""
        ...

    def sum_over_ranks(self, sums: Sequence[float]) -> list[float]:
        """Wait until the gradients of all ranks are added up; returns `sums` added up."""
        ...

    def scale_and_clip(self, scale: float, max_norm: float) -> float:
        """Multiply the gradients by `scale`, then clip (0: never); returns the norm before clipping."""
        ...


def gradients_of(
    network: nn.Module,
    collective: Collective,
    *,
    kind: GradientType = "float32",
    bucket_bytes: int = BUCKET_BYTES,
) -> Gradients:
    """The gradients of a network's parameters that are trained."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if collective.size == 1:
        return OwnGradients(parameters)
    return SharedGradients(parameters, collective, kind=kind, bucket_bytes=bucket_bytes)


class OwnGradients:
    """Those of a process alone."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self._parameters = parameters

    def zero(self) -> None:
        """See `Gradients.zero`."""
        for parameter in self._parameters:
            parameter.grad = None

    def last_pass(self) -> None:
        """Nothing travels."""

    def sum_over_ranks(self, sums: Sequence[float]) -> list[float]:
        """See `Gradients.sum_over_ranks`."""
        for parameter in self._parameters:
            if parameter.grad is None:  # as with a buffer: the optimiser's decay goes on
                parameter.grad = torch.zeros_like(parameter)
        return list(sums)

    def scale_and_clip(self, scale: float, max_norm: float) -> float:
        """See `Gradients.scale_and_clip`."""
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        norm, factor = _clipped(gradients, scale, max_norm)
        for gradient in gradients:
            gradient.mul_(factor)
        return norm


class _Bucket:
    """Parameters whose gradients are views of one buffer."""

    def __init__(self, buffer: Tensor, parameters: Sequence[nn.Parameter]) -> None:
        self.buffer = buffer
        self.size = len(parameters)
        self.missing = self.size
        start = 0
        for parameter in parameters:
            # Autograd adds into a gradient that is there already, so the views stay views.
            parameter.grad = buffer[start : start + parameter.numel()].view_as(parameter)
            start += parameter.numel()


class _Tall:
    """A matrix of which few rows have a gradient; `rows` are those of the last step (None: any)."""

    def __init__(self, parameter: nn.Parameter) -> None:
        self.gradient = parameter.grad = torch.zeros_like(parameter)
        self.rows: Tensor | None = None
        self.dense_steps = 0

    def zero(self) -> None:
        """Those rows, or all, become zero again."""
        if self.rows is None:
            self.gradient.zero_()
        else:
            self.gradient.index_fill_(0, self.rows, 0.0)

    def held(self) -> Tensor:
        """What of the gradient is not zero: the rows, or all of it."""
        return self.gradient if self.rows is None else self.gradient[self.rows]

    def put(self, held: Tensor) -> None:
        """Change what is not zero."""
        if self.rows is not None:
            self.gradient.index_copy_(0, self.rows, held)


class SharedGradients:
    """Those of a rank among others."""

    def __init__(
        self,
        parameters: list[nn.Parameter],
        collective: Collective,
        *,
        kind: GradientType = "float32",
        bucket_bytes: int = BUCKET_BYTES,
    ) -> None:
        self._collective = collective
        self._type = getattr(torch, kind)
        tall = [
            p for p in parameters if p.dim() == 2 and p.shape[0] >= _TALL_ROWS and p.numel() >= _TALL_NUMBERS
        ]
        self._tall = [_Tall(parameter) for parameter in tall]
        others = [
            parameter for parameter in reversed(parameters) if all(parameter is not one for one in tall)
        ]
        self._buffer = torch.zeros(sum(map(torch.numel, others)), device=parameters[0].device)
        self._buckets: list[_Bucket] = []
        start = 0
        for group in _cut(others, bucket_bytes):
            size = sum(map(torch.numel, group))
            bucket = _Bucket(self._buffer[start : start + size], group)
            start += size
            self._buckets.append(bucket)
            for parameter in group:
                parameter.register_post_accumulate_grad_hook(self._noting(bucket))  # type: ignore[no-untyped-call]
        self._is_last = False
        self._pending: list[Callable[[], object]] = []
        self._units = 0.0  # of the step before: what keeps half precision in its range

    def zero(self) -> None:
        """See `Gradients.zero`."""
        self._buffer.zero_()
        for tall in self._tall:
            tall.zero()
        self._is_last = False
        self._pending.clear()
        for bucket in self._buckets:
            bucket.missing = bucket.size

    def last_pass(self) -> None:
        """See `Gradients.last_pass`."""
        self._is_last = True

    def sum_over_ranks(self, sums: Sequence[float]) -> list[float]:
        """See `Gradients.sum_over_ranks`."""
        # A rank without rows, and parameters that no pass has used, complete nothing: what is left is sent now.
        self._send_complete(all_of_them=True)
        totals = torch.tensor(sums, dtype=torch.float64)
        self._sent(totals, "sums")
        touched = [self._look(tall, nth) for nth, tall in enumerate(self._tall)]
        self._wait()
        for nth, (tall, mask) in enumerate(zip(self._tall, touched, strict=True)):
            self._send_rows(tall, mask, nth)
        self._wait()
        self._units = float(totals[1]) if len(totals) > 1 else 0.0
        return [float(total) for total in totals]

    def scale_and_clip(self, scale: float, max_norm: float) -> float:
        """See `Gradients.scale_and_clip`."""
        held = [tall.held() for tall in self._tall]
        norm, factor = _clipped([self._buffer, *held], scale, max_norm)
        self._buffer.mul_(factor)
        for tall, part in zip(self._tall, held, strict=True):
            tall.put(part.mul_(factor))
        return norm

    def _noting(self, bucket: _Bucket) -> Callable[[Tensor], None]:
        def note(_parameter: Tensor) -> None:
            if self._is_last:
                bucket.missing -= 1
                self._send_complete()

        return note

    def _send_complete(self, *, all_of_them: bool = False) -> None:
        """Send the next buckets as far as they are complete: in the same order on every rank."""
        while len(self._pending) < len(self._buckets):
            nth = len(self._pending)
            if self._buckets[nth].missing > 0 and not all_of_them:
                return
            self._send(self._buckets[nth].buffer, f"gradients.{nth}")

    def _send(self, tensor: Tensor, name: str) -> None:
        """Add up in the type that travels; the sum comes back in float32."""
        if self._type == torch.float32 or not self._units:
            self._sent(tensor, name)
            return
        # Sums over all units of a step may leave the range of float16; means do not.
        narrow = (tensor / self._units).to(self._type)
        pending, units = self._collective.start_allreduce(narrow, name), self._units

        def take() -> None:
            pending.wait()
            tensor.copy_(narrow).mul_(units)

        self._pending.append(take)

    def _sent(self, tensor: Tensor, name: str) -> None:
        pending: Pending = self._collective.start_allreduce(tensor, name)
        self._pending.append(pending.wait)

    def _wait(self) -> None:
        for take in self._pending:
            take()
        self._pending.clear()

    def _look(self, tall: _Tall, nth: int) -> Tensor | None:
        """Which rows some rank has touched, once all have answered; None where all travel unseen."""
        if tall.dense_steps > 0:
            return None
        mask = (tall.gradient != 0).any(dim=1).float()
        self._sent(mask, f"touched.{nth}")
        return mask

    def _send_rows(self, tall: _Tall, mask: Tensor | None, nth: int) -> None:
        rows = None if mask is None else mask.nonzero().flatten()
        tall.dense_steps = max(tall.dense_steps - 1, 0)
        if rows is None or len(rows) > _DENSE_SHARE * len(tall.gradient):
            tall.rows = None
            tall.dense_steps = tall.dense_steps or (0 if rows is None else _DENSE_STEPS)
            self._send(tall.gradient.view(-1), f"tall.{nth}")
            return
        tall.rows = rows
        if not len(rows):
            return
        part = tall.held()
        self._send(part, f"rows.{nth}")
        self._pending.append(lambda: tall.put(part))


def _cut(parameters: Sequence[nn.Parameter], bucket_bytes: int) -> list[list[nn.Parameter]]:
    """In runs of about so many bytes, one parameter at least."""
    groups: list[list[nn.Parameter]] = []
    size = bucket_bytes
    for parameter in parameters:
        if size >= bucket_bytes:
            groups.append([])
            size = 0
        groups[-1].append(parameter)
        size += 4 * parameter.numel()
    return groups


def _clipped(gradients: Sequence[Tensor], scale: float, max_norm: float) -> tuple[float, float]:
    """The norm of the scaled gradients, and by what to multiply them."""
    norm = float(get_total_norm(list(gradients))) * scale
    return norm, scale * max_norm / norm if 0 < max_norm < norm else scale
