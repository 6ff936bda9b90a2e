"""Scoring in the Python workers, without Spark: Arrow batches of documents in, a score row a document out."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparkml.errors import SparkmlError
from sparkml.frame import artifacts

Float32 = npt.NDArray[np.float32]

SCORED_SCHEMA = pa.schema(
    [
        ("doc_id", pa.string()),
        ("text_hash", pa.string()),
        ("prediction", pa.string()),
        ("score", pa.float64()),
        ("scores", pa.map_(pa.string(), pa.float64())),
        ("error", pa.string()),
        ("n_tokens", pa.int32()),
    ]
)
# Also a chunk of few, long documents ends: what a worker holds is bounded.
_CHUNK_CHARACTERS = 8_000_000
# float32 probabilities have 7 digits; the last one is noise of the order of summation.
_DECIMALS = 6
_ERROR_CHARACTERS = 500


class Scores(Protocol):
    """What this module needs of `sparkml.inference.scorer.Scorer`."""

    @property
    def labels(self) -> Sequence[str]:
        """The labels in the order of the columns of `score_ids`."""
        ...

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, as the model sees it."""
        ...

    def score_ids(self, input_ids: Sequence[Sequence[int]]) -> Float32:
        """Probabilities, float32 [texts, labels]."""
        ...


@dataclass(frozen=True)
class ModelSource:
    """The model that a worker loads. `identity` tells two models apart that were written to one place."""

    location: str
    identity: str
    threads: int


@dataclass(frozen=True)
class Document:
    """One document to score."""

    doc_id: str
    text_hash: str
    text: str | None


@dataclass(frozen=True)
class Answer:
    """What the model said to one text: probabilities (float32 [labels]) from so many tokens, or why not."""

    probabilities: Float32
    n_tokens: int
    error: str | None = None


Scored = dict[str, object]
_NO_PROBABILITIES: Float32 = np.zeros(0, dtype=np.float32)


@functools.lru_cache(maxsize=1)
def worker_scorer(model: ModelSource) -> Scores:
    """The scorer of this Python process, loaded at its first chunk and kept for its later tasks."""
    # torch takes seconds to import: once in the worker, never in the driver.
    from sparkml.inference.scorer import load_scorer

    if model.threads == 1:
        # The tokenizers library would start a thread for every core of the machine.
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
    return load_scorer(artifacts.localise(model.location, verify=False), model.threads)


def scoring(
    model: ModelSource, chunk_documents: int, top_labels: int | None
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The function for `mapInArrow`: columns `doc_id`, `text_hash`, `text` in, `SCORED_SCHEMA` out."""

    def score(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for chunk in chunks(documents_of(batches), chunk_documents):
            rows = score_chunk(worker_scorer(model), chunk, top_labels)
            yield pa.RecordBatch.from_pylist(rows, schema=SCORED_SCHEMA)

    return score


def documents_of(batches: Iterator[pa.RecordBatch]) -> Iterator[Document]:
    """The documents of Arrow batches, in order."""
    for batch in batches:
        columns = (batch.column(name).to_pylist() for name in ("doc_id", "text_hash", "text"))
        yield from map(Document, *columns)


def chunks(documents: Iterator[Document], size: int) -> Iterator[list[Document]]:
    """Runs of `size` documents, fewer where they are very long.

    Arrow's batches would do, but their borders follow Spark settings, and padding follows the borders: the
    last bits of a score would depend on how the cluster is set up.
    """
    chunk: list[Document] = []
    characters = 0
    for document in documents:
        chunk.append(document)
        characters += len(document.text or "")
        if len(chunk) >= size or characters >= _CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def score_chunk(scorer: Scores, chunk: Sequence[Document], top_labels: int | None) -> list[Scored]:
    """One row a document, in order. Where a chunk fails, its documents are tried one by one."""
    texts = [document.text for document in chunk if document.text is not None]
    try:
        answers = _ask(scorer, texts)
    except Exception:
        # Whatever the model raises is about some document of the chunk; the next line finds out which.
        answers = [_ask_alone(scorer, text) for text in texts]
    remaining = iter(answers)
    null = Answer(_NO_PROBABILITIES, 0, "text is null")
    return [
        _row(document, null if document.text is None else next(remaining), scorer.labels, top_labels)
        for document in chunk
    ]


def _ask(scorer: Scores, texts: Sequence[str]) -> list[Answer]:
    if not texts:
        return []
    input_ids = scorer.encode(texts)
    probabilities = scorer.score_ids(input_ids)
    if probabilities.shape != (len(texts), len(scorer.labels)):
        raise SparkmlError(
            "the model answered with scores of another shape",
            got=str(probabilities.shape),
            expected=str((len(texts), len(scorer.labels))),
        )
    return [Answer(row, len(ids)) for row, ids in zip(probabilities, input_ids, strict=True)]


def _ask_alone(scorer: Scores, text: str) -> Answer:
    try:
        return _ask(scorer, [text])[0]
    except Exception as error:  # kept in the document's row: one bad document must not end the job
        return Answer(_NO_PROBABILITIES, 0, f"{type(error).__name__}: {error}"[:_ERROR_CHARACTERS])


def _row(document: Document, answer: Answer, labels: Sequence[str], top_labels: int | None) -> Scored:
    row: Scored = {
        "doc_id": document.doc_id,
        "text_hash": document.text_hash,
        "prediction": None,
        "score": None,
        "scores": None,
        "error": answer.error,
        "n_tokens": answer.n_tokens,
    }
    if answer.error is not None:
        return row
    if not np.isfinite(answer.probabilities).all():
        return {**row, "error": "the model's scores are not finite"}
    # Stable: of equal scores the label that the model names first comes first.
    order = np.argsort(-answer.probabilities, kind="stable")[:top_labels]
    ranked = [(labels[index], round(float(answer.probabilities[index]), _DECIMALS)) for index in order]
    return {**row, "prediction": ranked[0][0], "score": ranked[0][1], "scores": ranked}
