"""A task on vectors that a frozen network has computed once: everything but inputs and network is the task's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparkml.models.networks import NetworkSpec
from sparkml.tasks.draws import Draws
from sparkml.tasks.task import Batch, Encoded, Loss, Purpose, Rows, Task
from sparkml.tasks.texts import batch_of

if TYPE_CHECKING:
    from torch import Tensor, nn

FEATURES = ("features", pa.binary())


class OnFeatures(Task[Any]):
    """Samples have the column `features`, float32 [width] as bytes, instead of what the network reads."""

    def __init__(self, inner: Task[Any]) -> None:
        super().__init__(inner.options, inner.targets, inner.inputs)
        self.inner = inner
        # A task's columns end with its targets.
        targets = tuple(column for column in inner.columns if column[0] in inner.sample_targets)
        self.columns = (FEATURES, *targets)  # type: ignore[misc]  # of this task, not of its class
        self.name = inner.name  # type: ignore[misc]
        self.has_answers, self.has_figures = inner.has_answers, inner.has_figures  # type: ignore[misc]

    def encode(self, examples: pa.RecordBatch, *, purpose: Purpose) -> Encoded:
        """As the task itself: a network makes vectors of it afterwards."""
        return self.inner.encode(examples, purpose=purpose)

    def network(self) -> NetworkSpec:
        """The whole network: its head is trained, and written with it."""
        return self.inner.network()

    def collate(self, rows: Rows, draws: Draws | None) -> Batch:
        """`features` float32 [rows, width] and the task's targets."""
        import torch

        vectors = np.stack([np.frombuffer(row, np.float32) for row in rows["features"]])
        tokens = int(np.sum(rows["n_tokens"]))
        return batch_of(
            {"features": torch.from_numpy(vectors)}, self.inner.gold_of(rows), len(vectors), tokens
        )

    def loss(self, network: nn.Module, batch: Batch) -> Loss:
        """See the task."""
        return self.inner.loss(network, batch)

    @property
    def n_sums(self) -> int:
        """See the task."""
        return self.inner.n_sums

    def sums(self, network: nn.Module, batch: Batch) -> Tensor:
        """See the task."""
        return self.inner.sums(network, batch)

    def values(self, sums: npt.NDArray[np.float64]) -> dict[str, float]:
        """See the task."""
        return self.inner.values(sums)

    def outputs(self, network: nn.Module, batch: Batch) -> list[npt.NDArray[Any]]:
        """See the task."""
        return self.inner.outputs(network, batch)

    def combine(self, windows: Rows, outputs: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """See the task."""
        return self.inner.combine(windows, outputs)
