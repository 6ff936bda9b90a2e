"""Scoring of columns, as a SQL function does it: arrays of what a task reads in, arrays of answers out. No Spark.

    score = column_function(model, "sentiment", ["text"])
    for answers in score(iter([pa.array(["a text", None])])):
        answers[0]["prediction"]

Batches are cut anew: a chunk holds enough examples of different lengths that, sorted, hardly any padding is left, and
few enough that a worker's memory stays small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from sparkml.errors import UsageError
from sparkml.inference.batches import (
    SAID_FIELDS,
    ModelSource,
    answer_chunk,
    answer_values,
    chunks,
    worker_scorer,
)
from sparkml.tasks.task import Answer, column_type

ANSWER_SCHEMA = pa.schema(SAID_FIELDS)
_CHUNK_ROWS = 1024


def column_function(
    model: ModelSource, name: str, columns: Sequence[str]
) -> Callable[[Iterator[Any]], Iterator[pa.Array]]:
    """The function for an Arrow UDF over iterators: batches of the task's columns in, structs of `ANSWER_SCHEMA` out.

    There are as many answers as examples, in their order, in batches of another size. UsageError where `name`, as SQL
    knows the function, is called with other columns than the task reads.
    """

    def answers(given: Iterator[tuple[pa.Array, ...]]) -> Iterator[pa.Array]:
        for chunk in answered(model, (_examples(name, columns, arrays) for arrays in given)):
            arrays = [
                pa.array(values, ANSWER_SCHEMA.field(key).type)
                for key, values in answer_values(chunk).items()
            ]
            yield pa.StructArray.from_arrays(arrays, fields=list(ANSWER_SCHEMA))

    # What Spark reads from the annotation is that these are iterators; it gives the array of a single argument alone.
    def function(given: Iterator[pa.Array]) -> Iterator[pa.Array]:
        return answers(arrays if isinstance(arrays, tuple) else (arrays,) for arrays in given)

    return function


def answered(model: ModelSource, batches: Iterator[pa.RecordBatch]) -> Iterator[list[Answer]]:
    """The answers to batches of examples, a chunk at a time, by this process's copy of the model."""
    for chunk in chunks(batches, _CHUNK_ROWS):
        yield answer_chunk(worker_scorer(model), chunk)


def check_arity(name: str, columns: Sequence[str], given: int) -> None:
    """UsageError where a function gets more or fewer columns than its task reads."""
    if given != len(columns):
        raise UsageError(
            f"the function `{name}` is called with another number of columns than its task reads",
            got=str(given),
            expected=f"{name}({', '.join(columns)})",
        )


def _examples(name: str, columns: Sequence[str], arrays: tuple[pa.Array, ...]) -> pa.RecordBatch:
    check_arity(name, columns, len(arrays))
    return pa.RecordBatch.from_arrays(
        [_as_read(name, column, array) for column, array in zip(columns, arrays, strict=True)],
        names=list(columns),
    )


def _as_read(name: str, column: str, array: pa.Array) -> pa.Array:
    try:
        return array.cast(column_type(column))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UsageError(
            f"the function `{name}` is called with a column of another type than its task reads",
            where=f"argument `{column}`",
            got=str(array.type),
            expected=str(column_type(column)),
        ) from error
