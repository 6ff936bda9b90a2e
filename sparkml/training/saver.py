"""Checkpoints are written while the training goes on."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from torch import Tensor

from sparkml.errors import SparkmlError
from sparkml.log import get_logger
from sparkml.training.checkpoint import Checkpoints, Position, Tensors
from sparkml.training.pieces import WHOLE, Share

_log = get_logger(__name__)


class Saver:
    """Copies the tensors, and writes the copy in a thread; one at a time. Leaving the block waits for the last one.

    A checkpoint that cannot be written (a full disk, a store that is away) is a warning: the one before it is still
    there, and the next one is tried. `failures` counts them.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        self._checkpoints = checkpoints
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None
        self.failures = 0

    def __enter__(self) -> Saver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wait()
        self._pool.shutdown()

    def save(self, weights: Tensors, others: Tensors, position: Position, share: Share = WHOLE) -> None:
        """Begin to write a checkpoint; waits for the one before."""
        self._wait()
        copies = _copied(weights), _copied(others)
        self._writing = self._pool.submit(self._checkpoints.save, *copies, position, share)

    def _wait(self) -> None:
        if self._writing is None:
            return
        try:
            self._writing.result()
        except (OSError, SparkmlError) as error:
            self.failures += 1
            _log.warning("a checkpoint could not be written, the training goes on: %s", error)
        finally:
            self._writing = None


def _copied(tensors: Tensors) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
