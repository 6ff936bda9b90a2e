"""Scoring in the Python workers, without Spark: Arrow batches of examples in, one answer row per example out."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sparkml.errors import InputError
from sparkml.frame import artifacts
from sparkml.tasks.asked import asked_spec
from sparkml.tasks.task import Answer, Task, TaskChoice, task_class

SPAN = pa.struct(
    [("start", pa.int32()), ("end", pa.int32()), ("label", pa.string()), ("score", pa.float64())]
)
SAID_FIELDS = [
    ("prediction", pa.string()),
    ("score", pa.float64()),
    ("scores", pa.map_(pa.string(), pa.float64())),
    ("spans", pa.list_(SPAN)),
    ("embedding", pa.list_(pa.float32())),
    ("output", pa.string()),
    ("error", pa.string()),
]
ANSWER_FIELDS = [*SAID_FIELDS, ("n_tokens", pa.int32()), ("engine", pa.string())]
# What names an example: these columns go through as they are.
KEY_FIELDS = [("doc_id", pa.string()), ("text_hash", pa.string())]
SCORED_SCHEMA = pa.schema([*KEY_FIELDS, *ANSWER_FIELDS])
# Also a chunk of few, large examples ends: what a worker holds is bounded.
_CHUNK_BYTES = 16_000_000
# float32 probabilities have 7 digits; the last one is noise of the order of summation.
_DECIMALS = 6
_ERROR_CHARACTERS = 500
# Models that a worker keeps: those of a query with several functions, not those of a whole day.
_KEPT_MODELS = 4


class Answers(Protocol):
    """What this module needs of `sparkml.inference.scorer.Scorer`."""

    @property
    def engine(self) -> str:
        """What runs the network."""
        ...

    def answer_batch(self, examples: pa.RecordBatch) -> list[Answer]:
        """An answer to each example of a batch, in order."""
        ...


@dataclass(frozen=True)
class ModelSource:
    """The model that a worker loads. `identity` tells two models apart that were written to one place.

    `engine`: what runs it, `auto` for the fastest. `inputs`: what its task says of its tokenizer or processor: read
    once, by the driver, because that takes a worker seconds of imports. `asked`: see `asked_spec`.
    """

    location: str
    identity: str
    threads: int
    engine: str = "auto"
    inputs: Any = None
    asked: str = ""  # a `TaskChoice` as JSON: sources are compared
    device: str = "auto"  # see `device_for`


def answering_task(folder: str | Path, asked: TaskChoice | None = None) -> type[Task[Any]]:
    """The task of a model directory, or the one that is asked for; InputError where it cannot answer."""
    task = task_class(asked_spec(folder, asked)["name"])
    if not task.has_answers:
        raise InputError(
            "the model has no answers: it is something to start from",
            where=str(folder),
            got=f"task {task.name}",
            next_action="make a model of it that answers (the stage finetune), or name a task that needs no training",
        )
    return task


def worker_scorer(model: ModelSource) -> Answers:
    """The scorer of this Python process, loaded at its first chunk and kept for its later tasks."""
    # torch takes seconds to import: once in the worker, never in the driver.
    from sparkml.inference.device import gpu_of_task

    # The tasks of a worker may be given different GPUs.
    return _kept_scorer(model, gpu_of_task(model.device))


@functools.lru_cache(maxsize=_KEPT_MODELS)
def _kept_scorer(model: ModelSource, gpu: int | None) -> Answers:
    # Spark gives a worker to the functions of a query in turn: with one place for a model each would load its own
    # again.
    from sparkml.inference.device import device_for
    from sparkml.inference.scorer import load_scorer

    if model.threads == 1:
        # The tokenizers library would start a thread for every core of the machine.
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
    folder = artifacts.localise(model.location, verify=False)
    asked = TaskChoice.model_validate_json(model.asked) if model.asked else None
    return load_scorer(
        folder,
        model.threads,
        engine_name=model.engine,
        inputs=model.inputs,
        task=asked,
        device=device_for(model.device, model.engine, folder, gpu),
    )


def scoring(
    model: ModelSource, chunk_rows: int, top_labels: int | None
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The function for `mapInArrow`: `doc_id`, `text_hash` and what the task reads in, `SCORED_SCHEMA` out."""

    def score(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for chunk in chunks(batches, chunk_rows):
            scorer = worker_scorer(model)
            yield answer_rows(chunk, answer_chunk(scorer, chunk), top_labels, scorer.engine)

    return score


def chunks(batches: Iterator[pa.RecordBatch], size: int) -> Iterator[pa.RecordBatch]:
    """Runs of `size` examples, fewer where they are very large.

    Arrow's batches would do, but their borders follow Spark settings, and padding follows the borders: the
    last bits of a score would depend on how the cluster is set up.
    """
    held: list[pa.RecordBatch] = []
    rows = held_bytes = 0
    for batch in batches:
        start = 0
        sizes = row_bytes(batch)
        for row in range(batch.num_rows):
            rows += 1
            held_bytes += sizes[row]
            if rows >= size or held_bytes >= _CHUNK_BYTES:
                held.append(batch.slice(start, row + 1 - start))
                yield _together(held)
                held, rows, held_bytes, start = [], 0, 0, row + 1
        if start < batch.num_rows:
            held.append(batch.slice(start))
    if held:
        yield _together(held)


def row_bytes(batch: pa.RecordBatch) -> list[int]:
    """Bytes of the texts, media and words of each row."""
    total = np.zeros(batch.num_rows, np.int64)
    for column in batch.columns:
        if pa.types.is_list(column.type) and _has_bytes(column.type.value_type):
            ends = np.concatenate([[0], np.cumsum(_lengths(column.values))])[column.offsets.to_numpy()]
            total += np.diff(ends)
        elif _has_bytes(column.type):
            total += _lengths(column)
    return total.tolist()  # type: ignore[no-any-return]  # numbers of Python


def _has_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_binary(kind))


def _lengths(column: pa.Array) -> npt.NDArray[np.int64]:
    return np.asarray(pc.fill_null(pc.binary_length(column), 0).to_numpy(zero_copy_only=False), np.int64)


def _together(parts: list[pa.RecordBatch]) -> pa.RecordBatch:
    return pa.Table.from_batches(parts).combine_chunks().to_batches()[0]


def answer_chunk(scorer: Answers, chunk: pa.RecordBatch) -> list[Answer]:
    """One answer per example, in order. A chunk that fails is halved until the example is found that it fails for."""
    try:
        return scorer.answer_batch(chunk)
    except Exception as error:  # kept in the example's row: one bad example must not end the job
        if chunk.num_rows == 1:
            return [Answer(error=f"{type(error).__name__}: {error}"[:_ERROR_CHARACTERS])]
    half = chunk.num_rows // 2
    return [*answer_chunk(scorer, chunk.slice(0, half)), *answer_chunk(scorer, chunk.slice(half))]


def answer_rows(
    chunk: pa.RecordBatch, answers: list[Answer], top_labels: int | None, engine: str
) -> pa.RecordBatch:
    """The rows of `SCORED_SCHEMA`."""
    values = {
        **answer_values(answers, top_labels),
        "n_tokens": [answer.n_tokens for answer in answers],
        "engine": [engine] * len(answers),
    }
    keys = [chunk.column(name).cast(kind) for name, kind in KEY_FIELDS]
    arrays = [pa.array(values[name], kind) for name, kind in ANSWER_FIELDS]
    return pa.RecordBatch.from_arrays([*keys, *arrays], schema=SCORED_SCHEMA)


def answer_values(answers: Sequence[Answer], top_labels: int | None = None) -> dict[str, list[Any]]:
    """The values of `SAID_FIELDS` by column. `top_labels`: how many of the labels, best first; None: all."""
    return {
        "prediction": [answer.prediction for answer in answers],
        "score": [_rounded(answer.score) for answer in answers],
        "scores": [_ranked(answer, top_labels) for answer in answers],
        "spans": [_spans(answer) for answer in answers],
        "embedding": [answer.embedding for answer in answers],
        "output": [answer.output for answer in answers],
        "error": [answer.error for answer in answers],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DECIMALS)


def _ranked(answer: Answer, top_labels: int | None) -> list[tuple[str, float]] | None:
    if answer.scores is None:
        return None
    return [(label, round(score, _DECIMALS)) for label, score in answer.scores[:top_labels]]


def _spans(answer: Answer) -> list[dict[str, Any]] | None:
    if answer.spans is None:
        return None
    return [{**span, "score": round(span["score"], _DECIMALS)} for span in answer.spans]
