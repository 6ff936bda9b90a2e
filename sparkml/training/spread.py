"""How the ranks of a training share the model: each has all of it, or each holds a part.

    data      every rank holds the whole model (the default; Horovod or torch)
    fsdp      each rank holds its part of every tensor; a block is gathered while it is used, in the forward and again
              in the backward pass, whose gradients are summed into the parts (torch's `fully_shard`)
    tensor    with `fsdp`: groups of neighbouring ranks compute each block together, every rank some of the heads and
              of the feed-forward; a group is given the same samples, and the groups share the model as above

Where ranks hold parts, all must make the same passes: one with fewer parts of a step repeats one, which counts nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

from torch import Tensor, nn

from sparkml.distributed.collective import Collective
from sparkml.errors import ConfigError
from sparkml.tasks.task import Batch
from sparkml.training.gradients import Gradients, gradients_of
from sparkml.training.pieces import Piece
from sparkml.training.settings import GradientType

R = TypeVar("R")


class Spread(Protocol):
    """A network over the ranks."""

    @property
    def gradients(self) -> Gradients:
        """What the optimiser takes."""
        ...

    @property
    def pieces(self) -> Mapping[str, Piece]:
        """Of the trained parameters that this rank holds in part, which part."""
        ...

    @property
    def is_whole(self) -> bool:
        """Every rank holds the whole model."""
        ...

    def call(self, function: Callable[[Any, Batch], R], batch: Batch) -> R:
        """What a function of the network and a batch gives; the tensors in it, if it gives a tuple, have gradients."""
        ...

    def backward(self, loss: Tensor) -> None:
        """The gradients of what `call` gave."""
        ...

    def even(self, count: int, parts: Iterable[Batch]) -> Iterator[tuple[Batch, bool]]:
        """The passes that this rank has to make, each with whether it counts; `count` are its own `parts`."""
        ...

    def whole_state(self) -> dict[str, Tensor] | None:
        """The weights by name on rank 0's CPU, where no rank holds them all; called by every rank."""
        ...


class Whole:
    """The whole model on every rank. `forward` is what the network is called by."""

    is_whole = True
    pieces: Mapping[str, Piece] = {}

    def __init__(self, network: nn.Module, forward: Any, collective: Collective, kind: GradientType) -> None:
        self._forward = forward
        self.gradients = gradients_of(network, collective, kind=kind)

    def call(self, function: Callable[[Any, Batch], R], batch: Batch) -> R:
        """See `Spread.call`."""
        return function(self._forward, batch)

    def backward(self, loss: Tensor) -> None:
        """See `Spread.backward`."""
        loss.backward()  # type: ignore[no-untyped-call]

    def even(self, count: int, parts: Iterable[Batch]) -> Iterator[tuple[Batch, bool]]:
        """All of its own, and no others."""
        return ((part, True) for part in parts)

    def whole_state(self) -> None:
        """The network itself has them."""


def recompute_blocks(network: Any) -> None:
    """Activation checkpointing, as transformers has it; ConfigError where a network has none."""
    base = network.base_model
    if not getattr(base, "supports_gradient_checkpointing", False):
        raise ConfigError(
            "this network cannot compute its blocks again in the backward pass",
            got=type(network).__name__,
            next_action="set activation_checkpointing=false",
        )
    base.activation_checkpointing_enable({"use_reentrant": False})
