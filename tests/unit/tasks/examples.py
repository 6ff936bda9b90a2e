"""Batches of examples, and a network whose answers are given."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from sparkml.inference.scorer import rows_of
from sparkml.tasks.task import Rows, Task


def examples_of(texts: Sequence[str | None], labels: Sequence[str | None], **more: Any) -> pa.RecordBatch:
    """A batch with ids `d0`, `d1` ..., split `train`."""
    columns = {
        "doc_id": [f"d{number}" for number in range(len(texts))],
        "split": ["train"] * len(texts),
        "text": pa.array(texts, pa.string()),
        "label": pa.array(labels, pa.string()),
        **more,
    }
    return pa.RecordBatch.from_pydict(columns)


def samples(task: Task[Any], texts: Sequence[str | None], labels: Sequence[str | None], **more: Any) -> Rows:
    """The samples of texts that all can be used, as the columns of a step."""
    encoded = task.encode(examples_of(texts, labels, **more), purpose="measure")
    assert list(encoded.rejects) == []
    return rows_of(encoded.samples)


class Says(nn.Module):
    """A network that says the same logits whatever it is asked."""

    def __init__(self, logits: Sequence[Sequence[float]]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(np.asarray(logits), dtype=torch.float32))

    def forward(self, **inputs: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.logits)
