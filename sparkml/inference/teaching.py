"""What a teacher says of samples, in the Python workers: computed once, kept in the table of samples."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from sparkml.feed.batches import parts_of
from sparkml.frame import artifacts
from sparkml.tasks.task import Task, task_of
from sparkml.tasks.taught import TAUGHT, Taught, said_of


@dataclass(frozen=True)
class Teacher:
    """A trained model directory, and what tells its content from another's."""

    location: str
    identity: str

    def wrap(self, task: Task[Any]) -> Task[Any]:
        """See `OnSamples`."""
        return Taught(task)

    def apply(self, task: Task[Any], samples: pa.RecordBatch) -> pa.RecordBatch:
        """See `OnSamples`: the samples with the column `taught`."""
        import torch

        from sparkml.inference.scorer import rows_of

        rows: Mapping[str, Any] = rows_of(samples)
        network = _worker_teacher(self)
        found: list[bytes] = [b""] * samples.num_rows
        numbered = {**rows, "_place": np.arange(samples.num_rows)}
        with torch.inference_mode():
            for part in parts_of(numbered, task.token_budget):
                batch = task.collate(part, None)
                said, counts = said_of(task, network(**batch.inputs).logits.float(), batch)
                ends = np.cumsum(counts)[:-1]
                for place, one in zip(part["_place"], np.split(said.numpy(), ends), strict=True):
                    found[place] = np.ascontiguousarray(one, np.float32).tobytes()
        return samples.append_column(TAUGHT[0], pa.array(found, TAUGHT[1]))


@functools.lru_cache(maxsize=1)
def _worker_teacher(source: Teacher) -> Any:
    """The teacher of this Python process, loaded at its first samples and kept for its later tasks."""
    import torch

    from sparkml.models.directory import read_task
    from sparkml.models.engines import choose, engine

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)
    folder = artifacts.localise(source.location, verify=False)
    spec = task_of(read_task(folder), folder).network()
    return engine(choose("auto", spec, folder)).load(spec, folder)
