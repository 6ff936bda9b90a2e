"""What of a sample is read."""

from __future__ import annotations

from typing import Any

from sparkml.feed.batches import LENGTH_COLUMN
from sparkml.feed.groups import Widths
from sparkml.feed.manifest import Manifest
from sparkml.tasks.task import Task

SAMPLE_ID = "sample_id"


def widths_of(task: Task[Any], manifest: Manifest) -> Widths:
    """The columns to read of the samples of a manifest: packed ones hold ids alone, others what their task encoded."""
    if manifest.is_packed:
        return {SAMPLE_ID: 0, "input_ids": manifest.sequence_length}
    return {SAMPLE_ID: 0, LENGTH_COLUMN: 0, **{name: 0 for name, _ in task.columns}}
