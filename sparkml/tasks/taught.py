"""A task whose samples also hold what a teacher says of them: its answers are learnt beside the task's own targets.

Hinton et al. 2015 (arXiv:1503.02531). What a sample is, how it is measured and answered is the task's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparkml.errors import ConfigError
from sparkml.models.networks import NetworkSpec
from sparkml.models.shaping.settings import Teaching
from sparkml.tasks.draws import Draws
from sparkml.tasks.task import Batch, Encoded, Loss, Purpose, Rows, Task

if TYPE_CHECKING:
    from torch import Tensor, nn

# The rows of logits that a sample is answered by, float32 [rows, outputs] as bytes, one after the other.
TAUGHT = ("taught", pa.binary())
# The mean distance from a teacher that computes beside the student, which has just seen these inputs of a network.
Beside = Callable[[Mapping[str, "Tensor"]], "Tensor"]


class Taught(Task[Any]):
    """Samples have the column `taught`; `teaching` None: they are only made, not learnt from."""

    def __init__(
        self, inner: Task[Any], teaching: Teaching | None = None, beside: Beside | None = None
    ) -> None:
        super().__init__(inner.options, inner.targets, inner.inputs)
        if inner.network().vector:
            raise ConfigError(
                "a vector is not something that a student can be taught here",
                got=f"task {inner.name}",
                next_action="make it smaller by another method: int8_dynamic, prune, weight_only",
            )
        self.inner, self._teaching, self._beside = inner, teaching, beside
        self.columns = (*inner.columns, TAUGHT)  # type: ignore[misc]  # of this task, not of its class
        self.name = inner.name  # type: ignore[misc]
        self.has_answers, self.has_figures = inner.has_answers, inner.has_figures  # type: ignore[misc]

    def encode(self, examples: pa.RecordBatch, *, purpose: Purpose) -> Encoded:
        """As the task itself: the teacher answers afterwards."""
        return self.inner.encode(examples, purpose=purpose)

    def network(self) -> NetworkSpec:
        """The student's."""
        return self.inner.network()

    def collate(self, rows: Rows, draws: Draws | None) -> Batch:
        """As the task, without chance: the teacher has seen the samples as they are. `taught` float32 [n, outputs]."""
        import torch

        batch = self.inner.collate(rows, None)
        if TAUGHT[0] in rows:
            n_outputs = max(len(self.network().labels), 1)
            said = np.frombuffer(b"".join(rows[TAUGHT[0]]), np.float32).reshape(-1, n_outputs)
            batch.targets[TAUGHT[0]] = torch.from_numpy(said.copy())
        return batch

    def loss(self, network: nn.Module, batch: Batch) -> Loss:
        """The task's loss and the distance from the teacher, weighted; both are summed over what is answered."""
        if self._teaching is None:
            return self.inner.loss(network, batch)
        listened = _Listened(network)
        own = self.inner.loss(listened, batch)  # type: ignore[arg-type]  # called as a network is
        apart = own.total.new_zeros(())
        if "logits" in self._teaching.match:
            apart = apart + self._distance(listened.logits, batch, self._teaching.temperature)
        if self._beside is not None:
            apart = apart + self._beside(batch.inputs) * own.units
        weight = self._teaching.weight
        return Loss((1 - weight) * own.total + weight * apart, own.units)

    def _distance(self, logits: Tensor, batch: Batch, temperature: float) -> Tensor:
        rows, _ = said_of(self.inner, logits, batch)
        return self.inner.distance(rows, batch.targets[TAUGHT[0]], temperature)

    @property
    def n_sums(self) -> int:
        """The task's, then the distance from the teacher and the rows that it is of."""
        return self.inner.n_sums + 2

    def sums(self, network: nn.Module, batch: Batch) -> Tensor:
        """See the task; the distance is that of unsoftened answers."""
        import torch

        listened = _Listened(network)
        own = self.inner.sums(listened, batch)  # type: ignore[arg-type]  # called as a network is
        apart = self._distance(listened.logits, batch, 1.0).double()
        n_rows = apart.new_tensor(len(batch.targets[TAUGHT[0]]))
        return torch.cat([own, torch.stack([apart, n_rows]).to(own.device)])

    def values(self, sums: npt.NDArray[np.float64]) -> dict[str, float]:
        """The task's metrics, and `from_teacher`: the mean distance from its answers."""
        apart, n_rows = sums[-2:]
        return {**self.inner.values(sums[:-2]), "from_teacher": float(apart / max(n_rows, 1.0))}

    def outputs(self, network: nn.Module, batch: Batch) -> list[npt.NDArray[Any]]:
        """See the task."""
        return self.inner.outputs(network, batch)

    def combine(self, windows: Rows, outputs: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """See the task."""
        return self.inner.combine(windows, outputs)


class _Listened:
    """A network whose logits are heard by others than the one who calls it."""

    def __init__(self, network: Any) -> None:
        self._network = network
        self.logits: Any = None

    def __call__(self, **inputs: Tensor) -> Any:
        found = self._network(**inputs)
        self.logits = found.logits.float()
        return found


def said_of(task: Task[Any], logits: Tensor, batch: Batch) -> tuple[Tensor, list[int]]:
    """The rows of logits that the samples of a batch are answered by, [n, outputs], and how many each sample has."""
    where = task.answering(batch)
    if where is None:
        return logits, [1] * batch.rows
    return logits[where], where.sum(dim=1).tolist()
