"""The held-out samples that a training looks at along the way."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sparkml.distributed.collective import Collective
from sparkml.feed.batches import MicroBatch, micro_batches, parts_of
from sparkml.feed.plan import epoch_plan
from sparkml.feed.reader import open_reader
from sparkml.tasks.task import Task
from sparkml.training.columns import widths_of
from sparkml.training.feeding import data_rank
from sparkml.training.settings import TrainingJob
from sparkml.training.spread import Spread


class HeldOut:
    """This rank's part of the held-out rows, at most `validation_rows` of all ranks; kept in memory."""

    def __init__(self, job: TrainingJob, task: Task[Any], collective: Collective) -> None:
        self._job, self._task, self._collective = job, task, collective
        self._reader = data_rank(collective, job.spread)
        self.batches = self._read()

    def _read(self) -> list[MicroBatch]:
        manifest = self._job.validation_manifest.read()
        loop = self._job.loop
        if not manifest.rows or not loop.validation_rows:
            return []
        plan = epoch_plan(
            manifest,
            epoch=0,
            seed=self._job.seed,
            batch_size=loop.batch_size,
            n_streams=loop.canonical_streams,
        )
        steps = -(-loop.validation_rows // loop.batch_size)
        pool = 1 if manifest.is_packed else min(steps, plan.steps)
        reader = open_reader(self._job.reader, widths_of(self._task, manifest), self._job.feed)
        ranks = {"rank": self._reader.rank, "world_size": self._reader.size}
        return list(micro_batches(reader, plan, **ranks, stop_step=steps, pool_steps=pool))

    def values(self, spread: Spread, device: torch.device) -> dict[str, float]:
        """The task's metrics over the rows of all ranks, named `validation_*`."""
        if not self.batches:
            return {}
        tokens = self._job.loop.micro_batch_tokens
        parts = [part for batch in self.batches for part in parts_of(batch.columns, tokens)]
        sums: Tensor = torch.zeros(self._task.n_sums, dtype=torch.float64)
        for part, counts in spread.even(len(parts), (self._task.collate(part, None) for part in parts)):
            found = spread.call(self._task.sums, part.to(device)).cpu()
            sums += found if counts else 0
        self._collective.allreduce_(sums)
        sums /= self._job.spread.tensor_ranks
        return {f"validation_{name}": value for name, value in self._task.values(sums.numpy()).items()}
