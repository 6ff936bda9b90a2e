"""Trainings in this process: to the end, or killed on the way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sparkml.distributed.collective import Done, Pending, SingleProcess
from sparkml.distributed.reporter import Reporter
from sparkml.training.curves import read_curve
from sparkml.training.run import train
from sparkml.training.settings import TrainingJob


class DyingReporter(Reporter):
    """Ends the process as a lost machine would: behind a step, before its checkpoint."""

    def __init__(self, killed_after: int) -> None:
        super().__init__(None)
        self._killed_after = killed_after

    def progress(self, step: int, total: int, **values: float) -> None:
        if step > self._killed_after:
            raise KeyboardInterrupt


def run(job: TrainingJob) -> dict[str, float]:
    return train(job, SingleProcess(), Reporter(None))


def killed(job: TrainingJob, after: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(job, SingleProcess(), DyingReporter(after))


def weights(job: TrainingJob) -> dict[str, torch.Tensor]:
    return load_file(Path(job.run_folder) / "result" / "model.safetensors")


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def curve(job: TrainingJob) -> list[dict[str, float]]:
    return read_curve(Path(job.run_folder) / "result" / "curve.jsonl")


class Together:
    """One of several ranks that are threads of this process: sums through a shared barrier."""

    def __init__(self, rank: int, barrier: threading.Barrier, slots: list[torch.Tensor]) -> None:
        self.rank, self.size, self.local_rank = rank, len(slots), rank
        self.sent: list[int] = []  # the numbers of every sum
        self._barrier, self._slots = barrier, slots

    def allreduce_(self, tensor: torch.Tensor) -> None:
        self.sent.append(tensor.numel())
        self._slots[self.rank] = tensor.clone()
        self._barrier.wait(60)
        assert len({slot.shape for slot in self._slots}) == 1  # all ranks sum the same thing
        total = sum(self._slots[1:], self._slots[0])
        self._barrier.wait(60)
        tensor.copy_(total)

    def start_allreduce(self, tensor: torch.Tensor, name: str) -> Pending:
        self.allreduce_(tensor)
        return Done()

    def broadcast_(self, tensor: torch.Tensor, root: int = 0) -> None:
        if self.rank == root:
            self._slots[0] = tensor.clone()
        self._barrier.wait(60)
        heard = self._slots[0]
        self._barrier.wait(60)
        tensor.copy_(heard)

    def barrier(self) -> None:
        self._barrier.wait(60)

    def shutdown(self) -> None:
        pass


def together(size: int) -> list[Together]:
    barrier, slots = threading.Barrier(size), [torch.zeros(0)] * size
    return [Together(rank, barrier, slots) for rank in range(size)]


def run_together(works: list[Callable[[], object]]) -> None:
    """Each work in a thread; an error of one is raised here."""
    errors: list[BaseException] = []

    def guarded(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    if errors:
        raise errors[0]
