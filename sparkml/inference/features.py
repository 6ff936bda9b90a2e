"""Vectors of samples from a frozen network, in the Python workers: computed once, kept in the table of samples."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from sparkml.feed.batches import parts_of
from sparkml.frame import artifacts
from sparkml.tasks.on_features import FEATURES, OnFeatures
from sparkml.tasks.task import Task, task_of, task_spec


class OnSamples(Protocol):
    """A network that is applied to every sample once, by Spark's workers."""

    def wrap(self, task: Task[Any]) -> Task[Any]:
        """The task on the samples that come out."""
        ...

    def apply(self, task: Task[Any], samples: pa.RecordBatch) -> pa.RecordBatch:
        """Samples of the task itself, one at least, with what the network makes of them."""
        ...


@dataclass(frozen=True)
class FrozenNetwork:
    """The model directory whose network is frozen, what tells its content from another's, and the name of its head."""

    location: str
    identity: str
    head: str

    def wrap(self, task: Task[Any]) -> Task[Any]:
        """See `OnSamples`."""
        return OnFeatures(task)

    def apply(self, task: Task[Any], samples: pa.RecordBatch) -> pa.RecordBatch:
        """See `OnSamples`."""
        return with_features(task, samples, self)


@functools.lru_cache(maxsize=1)
def _worker_network(source: FrozenNetwork, task: str) -> Any:
    """The network of this Python process, loaded at its first samples and kept for its later tasks; `task` as JSON."""
    import torch

    from sparkml.models.adapt.head_alone import HeadInputs
    from sparkml.models.heads import build_network

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)
    folder = artifacts.localise(source.location, verify=False)
    network, _ = build_network(task_of(json.loads(task), folder).network(), folder, seed=0)
    return HeadInputs(network, source.head)


def with_features(task: Task[Any], samples: pa.RecordBatch, source: FrozenNetwork) -> pa.RecordBatch:
    """Samples of the task itself -> samples with the column `features` instead of what the network reads."""
    import torch

    from sparkml.inference.scorer import rows_of

    rows: Mapping[str, Any] = rows_of(samples)
    network = _worker_network(source, json.dumps(task_spec(task), sort_keys=True))
    found: list[bytes] = [b""] * samples.num_rows
    numbered = {**rows, "_place": np.arange(samples.num_rows)}
    with torch.inference_mode():
        for part in parts_of(numbered, task.token_budget):
            vectors = network(**task.collate(part, None).inputs).numpy()
            for place, vector in zip(part["_place"], vectors, strict=True):
                found[place] = np.ascontiguousarray(vector, np.float32).tobytes()
    names = [
        name for name in samples.schema.names if name not in dict(task.columns) or name in task.sample_targets
    ]
    kept = samples.select(names)
    return pa.RecordBatch.from_arrays(
        [*kept.columns, pa.array(found, FEATURES[1])], names=[*kept.schema.names, FEATURES[0]]
    )
