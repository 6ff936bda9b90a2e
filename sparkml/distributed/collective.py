"""What the ranks of a training do together: a small protocol, and its implementation for one process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from torch import Tensor

CollectiveName = Literal["horovod", "torch"]


class Pending(Protocol):
    """A sum that is on its way."""

    def wait(self) -> object:
        """Wait until the tensor holds the sum."""
        ...


class Collective(Protocol):
    """A group of ranks. Every rank makes the same calls in the same order with tensors of the same shape."""

    @property
    def rank(self) -> int:
        """The number of this rank: 0 up to size - 1."""
        ...

    @property
    def size(self) -> int:
        """The number of ranks."""
        ...

    @property
    def local_rank(self) -> int:
        """The number of this rank among those of its host: which of the host's GPUs is its own."""
        ...

    def allreduce_(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over the ranks."""
        ...

    def start_allreduce(self, tensor: Tensor, name: str) -> Pending:
        """Begin to replace a tensor by its sum; until it is waited for, nobody else touches the tensor.

        `name` is that of no other sum on its way, and the same on every rank.
        """
        ...

    def broadcast_(self, tensor: Tensor, root: int = 0) -> None:
        """Replace a tensor by that of rank `root`."""
        ...

    def barrier(self) -> None:
        """Wait until every rank is here."""
        ...

    def shutdown(self) -> None:
        """Leave the group."""
        ...


class Done:
    """A sum that has arrived."""

    def wait(self) -> None:
        """Nothing to wait for."""


class SingleProcess:
    """A group of one: training in a notebook, a test, a machine without Spark."""

    rank = 0
    size = 1
    local_rank = 0

    def allreduce_(self, tensor: Tensor) -> None:
        """The sum over one rank is the tensor itself."""

    def start_allreduce(self, tensor: Tensor, name: str) -> Pending:
        """It is there."""
        return Done()

    def broadcast_(self, tensor: Tensor, root: int = 0) -> None:
        """The only rank has it already."""

    def barrier(self) -> None:
        """Nobody to wait for."""

    def shutdown(self) -> None:
        """Nothing to leave."""
