"""Trainings in this process: to the end, or killed on the way."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sparkml.distributed.collective import SingleProcess
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
