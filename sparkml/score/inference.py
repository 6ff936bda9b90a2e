"""Scoring in the Python workers, without Spark: Arrow batches of documents in, a score row a document out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparkml.errors import SparkmlError

Float32 = npt.NDArray[np.float32]

SCORED_SCHEMA = pa.schema(
    [
        ("doc_id", pa.string()),
        ("text_hash", pa.string()),
        ("prediction", pa.string()),
        ("score", pa.float64()),
        ("scores", pa.map_(pa.string(), pa.float64())),
        ("error", pa.string()),
    ]
)
SCORED_DDL = (
    "doc_id string, text_hash string, prediction string, score double, "
    "scores map<string,double>, error string"
)
# Also a chunk of few, long documents ends: what a worker holds is bounded.
_CHUNK_CHARACTERS = 8_000_000
# float32 probabilities have 7 digits; the last one is noise of the order of summation.
_DECIMALS = 6
_ERROR_CHARACTERS = 500


class Scores(Protocol):
    """What this module needs of `sparkml.models.scorer.Scorer`."""

    @property
    def labels(self) -> Sequence[str]:
        """The labels in the order of the columns of `score`."""
        ...

    def score(self, texts: Sequence[str]) -> Float32:
        """Probabilities, float32 [texts, labels]."""
        ...


@dataclass(frozen=True)
class ModelSource:
    """The model that a worker loads. `identity` tells two models apart that were written to one folder."""

    folder: str
    identity: str
    threads: int


@dataclass(frozen=True)
class Document:
    """One document to score."""

    doc_id: str
    text_hash: str
    text: str | None


Scored = dict[str, object]


@functools.lru_cache(maxsize=1)
def worker_scorer(model: ModelSource) -> Scores:
    """The scorer of this Python process, loaded at its first chunk and kept for its later tasks."""
    from sparkml.models.scorer import load_scorer

    return load_scorer(model.folder, model.threads)


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
    results: list[Float32 | str]
    try:
        results = list(_probabilities(scorer, texts))
    except Exception:
        # Whatever the model raises is about some document of the chunk; the next line finds out which.
        results = [_alone(scorer, text) for text in texts]
    remaining = iter(results)
    rows = []
    for document in chunk:
        result = "text is null" if document.text is None else next(remaining)
        rows.append(_row(document, result, scorer.labels, top_labels))
    return rows


def _probabilities(scorer: Scores, texts: Sequence[str]) -> Float32:
    if not texts:
        return np.zeros((0, len(scorer.labels)), dtype=np.float32)
    probabilities = scorer.score(texts)
    if probabilities.shape != (len(texts), len(scorer.labels)):
        raise SparkmlError(
            "the model answered with scores of another shape",
            got=str(probabilities.shape),
            expected=str((len(texts), len(scorer.labels))),
        )
    return probabilities


def _alone(scorer: Scores, text: str) -> Float32 | str:
    try:
        found: Float32 = _probabilities(scorer, [text])[0]
    except Exception as error:  # kept in the document's row: one bad document must not end the job
        return f"{type(error).__name__}: {error}"[:_ERROR_CHARACTERS]
    return found


def _row(document: Document, result: Float32 | str, labels: Sequence[str], top_labels: int | None) -> Scored:
    row: Scored = {
        "doc_id": document.doc_id,
        "text_hash": document.text_hash,
        "prediction": None,
        "score": None,
        "scores": None,
        "error": None,
    }
    if isinstance(result, str):
        return {**row, "error": result}
    if not np.isfinite(result).all():
        return {**row, "error": "the model's scores are not finite"}
    # Stable: of equal scores the label that the model names first comes first.
    order = np.argsort(-result, kind="stable")[:top_labels]
    ranked = [(labels[index], round(float(result[index]), _DECIMALS)) for index in order]
    return {**row, "prediction": ranked[0][0], "score": ranked[0][1], "scores": ranked}
