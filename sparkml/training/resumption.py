"""Where a training goes on: its checkpoints, read at the start and written on the way."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import torch

from sparkml.distributed.collective import Collective
from sparkml.log import get_logger
from sparkml.training.checkpoint import Checkpoints, Position, load_checkpoint, step_of
from sparkml.training.pieces import WHOLE, Share
from sparkml.training.saver import Saver
from sparkml.training.settings import TrainingJob
from sparkml.training.spread import Spread
from sparkml.training.state import TrainingState

_log = get_logger(__name__)


class Resumption:
    """The checkpoints of one rank's training. Leaving the block waits for the last one that is being written."""

    def __init__(
        self, job: TrainingJob, state: TrainingState, spread: Spread, collective: Collective, manifest_id: str
    ) -> None:
        self._job, self._state, self._spread, self._collective = job, state, spread, collective
        self._manifest_id = manifest_id
        self._checkpoints = Checkpoints(job.run_folder, job.keep_checkpoints)
        self._saver = Saver(self._checkpoints)

    def __enter__(self) -> Resumption:
        self._saver.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._saver.__exit__(kind, error, trace)

    @property
    def failures(self) -> int:
        """Checkpoints that could not be written."""
        return self._saver.failures

    def resume(self) -> int:
        """Take the last checkpoint, which rank 0 finds; returns the steps done.

        The others get a whole model from rank 0; of one in parts each rank reads its own.
        """
        step = torch.zeros(1, dtype=torch.int64)
        folders = self._checkpoints.latest() if self._collective.rank == 0 else []
        if folders:
            step[0] = self._load(folders) if self._spread.is_whole else step_of(folders)
        self._collective.broadcast_(step, 0)
        if self._spread.is_whole:
            self._state.receive(self._collective)
        elif step:
            self._load(folders or self._checkpoints.of_step(int(step)))
        return int(step)

    def save(self, step: int) -> None:
        """Begin to write a checkpoint: rank 0 that of a whole model, of one in parts each rank its own."""
        if self._collective.rank == 0 or not self._spread.is_whole:
            tensors = self._state.weights(), self._state.others()
            self._saver.save(*tensors, self._position(step), self._share())

    def _load(self, folders: list[Path]) -> int:
        _log.info("going on from %s", folders[0])
        tensors = self._state.weights(), self._state.others()
        step = load_checkpoint(folders, *tensors, self._position(0), self._share())
        self._state.restored()
        return step

    def _share(self) -> Share:
        if self._spread.is_whole:
            return WHOLE
        return Share(self._collective.rank, self._collective.size, self._state.pieces(self._spread.pieces))

    def _position(self, step: int) -> Position:
        return Position(
            step=step,
            batch_size=self._job.loop.batch_size,
            n_streams=self._job.loop.canonical_streams,
            seed=self._job.seed,
            manifest_id=self._manifest_id,
        )
