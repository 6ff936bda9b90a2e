"""A method of compression applied to a model directory, without a stage."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from sparkml.compression.forms import Form, make
from sparkml.compression.methods import NOTHING, Given, MethodChoice
from sparkml.models.directory import read_task
from sparkml.tasks.task import task_of


def given_of(folder: Path, examples: pa.Table | None = None) -> Given:
    """What a method starts from; without examples for methods that need none."""
    batches = examples.combine_chunks().to_batches() if examples is not None else []
    nothing = pa.RecordBatch.from_pydict({"text": pa.array([], pa.string())})
    return Given(folder, task_of(read_task(folder), folder), batches[0] if batches else nothing)


def compressed(
    source: Path,
    target: Path,
    name: str = "int8_dynamic",
    *,
    examples: pa.Table | None = None,
    kept: frozenset[str] = NOTHING,
    **settings: object,
) -> Path:
    """The directory that one method makes of another one; groups of layers that are `kept` stay float."""
    choice = MethodChoice.model_validate({"name": name, **settings})
    return make(Form(source, "finetuned"), choice, given_of(source, examples), target, kept).folder
