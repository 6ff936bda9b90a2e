"""What of a sample is read, and how the samples of a step are cut into forward passes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from sparkml.feed.batches import LENGTH_COLUMN, count, take
from sparkml.feed.manifest import Manifest
from sparkml.feed.reader import Rows, Widths
from sparkml.tasks.task import Task

SAMPLE_ID = "sample_id"


def widths_of(task: Task[Any], manifest: Manifest) -> Widths:
    """The columns to read of the samples of a manifest: packed ones hold ids alone, others what their task encoded."""
    if manifest.is_packed:
        return {SAMPLE_ID: 0, "input_ids": manifest.sequence_length}
    return {SAMPLE_ID: 0, LENGTH_COLUMN: 0, **{name: 0 for name, _ in task.columns}}


def parts_of(columns: Rows, token_budget: int) -> Iterator[Rows]:
    """The rows of a step, the longest first, in parts of at most `token_budget` tokens padded; one row at least."""
    n_rows = count(columns)
    if not n_rows:
        return
    lengths = _lengths(columns)
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < n_rows:
        stop = start + max(1, int(token_budget // max(lengths[order[start]], 1)))
        yield take(columns, order[start:stop])
        start = stop


def _lengths(columns: Rows) -> Any:
    if LENGTH_COLUMN in columns:
        return columns[LENGTH_COLUMN]
    ids = columns["input_ids"]
    return np.full(len(ids), ids.shape[1])
