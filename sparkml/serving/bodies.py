"""Bodies of requests and answers: JSON as in the contract, or Arrow streams."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json

from sparkml.inference.batches import SAID_FIELDS, row_bytes
from sparkml.serving.arrow_stream import StreamError, read_stream
from sparkml.tasks.task import column_type

JSON, ARROW = "application/json", "application/vnd.apache.arrow.stream"
# How the columns that a task answers from stand in a body.
_FIELDS = {
    ("text",): "texts",
    ("text", "text_b"): "pairs",
    ("tokens",): "tokens",
    ("media",): "media",
}
_COLUMNS = {name for columns in _FIELDS for name in columns}
_SAID = [name for name, _ in SAID_FIELDS]


BodyT = TypeVar("BodyT", bound=BaseModel)


class RefusedError(Exception):
    """A request that is not answered: its status, and what is wrong with which field."""

    def __init__(
        self,
        status: int,
        what: str,
        *where: str | int,
        retry_after: float | None = None,
        scheme: str = "Bearer",
    ) -> None:
        self.status, self.what, self.where, self.retry_after = status, what, where, retry_after
        self.scheme = scheme  # of the header that a refusal with status 401 asks for
        super().__init__(what)

    def body(self) -> bytes:
        """As FastAPI reports what is wrong: `detail` with places and messages."""
        return to_json({"detail": [{"loc": ["body", *self.where] if self.where else [], "msg": self.what}]})


class ScoreBody(BaseModel):
    """What is to be answered: one of `texts`, `pairs`, `tokens` and `media`, as the model's task reads it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str | None = Field(
        None, description="Name of a model of this service; needed where it has several"
    )
    texts: list[str | None] | None = Field(None, description="Texts")
    pairs: list[tuple[str, str]] | None = Field(None, description="Pairs of texts")
    tokens: list[list[str]] | None = Field(None, description="Texts as words")
    media: list[str] | None = Field(None, description="Images or sounds, the bytes of a file in base64")
    top_labels: int | None = Field(
        None, ge=1, description="So many of the labels in `scores`, the best; null: all"
    )


class AnswerBody(BaseModel):
    """The answer to one example; what its task does not say is null."""

    prediction: str | None = None
    score: float | None = None
    scores: dict[str, float] | None = None
    spans: list[dict[str, Any]] | None = None
    embedding: list[float] | None = None
    output: str | None = None
    error: str | None = Field(
        None, description="Why there is no answer to this example; the others have theirs"
    )


class AnswersBody(BaseModel):
    """The answers in the order of the examples, and the version that gave them."""

    model: str
    answers: list[AnswerBody]


@dataclass(frozen=True)
class Limits:
    """Examples of a request, and bytes of one of them."""

    examples: int
    example_bytes: int


@dataclass(frozen=True)
class Asked:
    """A request that can be answered."""

    model: str | None
    examples: pa.RecordBatch
    top_labels: int | None = None

    @classmethod
    def of(
        cls, model: str | None, columns: Mapping[str, Sequence[Any]], top_labels: int | None = None
    ) -> Asked:
        """A request for examples as plain values by column."""
        arrays = {name: pa.array(values, column_type(name)) for name, values in columns.items()}
        return cls(model, pa.RecordBatch.from_pydict(arrays), top_labels)

    def batch(self, columns: Sequence[str]) -> pa.RecordBatch:
        """The examples as a task reads them; `RefusedError` where the body has others."""
        given = self.examples.schema.names
        if set(columns) != set(given):
            raise RefusedError(422, f"this model answers from `{field_of(columns)}`", field_of(given))
        return self.examples.select(list(columns))


def field_of(columns: Sequence[str]) -> str:
    """The field of a body that holds these columns of examples."""
    return _FIELDS.get(tuple(columns), ", ".join(columns))


def parsed(kind: type[BodyT], body: bytes) -> BodyT:
    """A body of JSON; `RefusedError` names the first field that is wrong."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise RefusedError(422, str(first["msg"]), *first["loc"]) from error


def read_body(body: bytes, content_type: str, limits: Limits) -> Asked:
    """A request from its body; `RefusedError` names the field that is wrong."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == ARROW:
        asked = _from_arrow(body)
    elif kind in (JSON, ""):
        asked = _from_json(body)
    else:
        raise RefusedError(415, f"bodies are {JSON} or {ARROW}")
    _check(asked, limits)
    return asked


def _from_json(body: bytes) -> Asked:
    read = parsed(ScoreBody, body)
    given = [name for name in _FIELDS.values() if getattr(read, name) is not None]
    if len(given) != 1:
        raise RefusedError(422, f"one of {', '.join(_FIELDS.values())} is needed, and no other", *given[1:2])
    values: Any = getattr(read, given[0])
    if given[0] == "pairs":
        found = {"text": [pair[0] for pair in values], "text_b": [pair[1] for pair in values]}
    elif given[0] == "media":
        found = {"media": [_bytes_of(value, place) for place, value in enumerate(values)]}
    else:
        found = {"text" if given[0] == "texts" else "tokens": values}
    return Asked.of(read.model, found, read.top_labels)


def _bytes_of(value: str, place: int) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RefusedError(422, "not base64", "media", place) from error


def _from_arrow(body: bytes) -> Asked:
    try:
        table, named = read_stream(body)
    except StreamError as error:
        raise RefusedError(422, f"not an Arrow stream of examples: {error}") from error
    arrays = {name: _as_read(name, table.column(name)) for name in table.schema.names}
    return Asked(named.get("model"), pa.RecordBatch.from_pydict(arrays))


def _as_read(name: str, column: pa.ChunkedArray) -> pa.Array:
    kind = column_type(name)
    if column.type != kind and not (kind == pa.string() and column.type == pa.large_string()):
        raise RefusedError(422, f"must be {kind}, not {column.type}", name)
    return pa.concat_arrays(column.cast(kind).chunks) if column.num_chunks else pa.array([], kind)


def _check(asked: Asked, limits: Limits) -> None:
    examples, field = asked.examples, field_of(asked.examples.schema.names)
    for name in examples.schema.names:
        if name not in _COLUMNS:
            raise RefusedError(422, "there is no such column", name)
    if not examples.num_rows:
        raise RefusedError(422, "there is nothing to answer", field)
    if examples.num_rows > limits.examples:
        raise RefusedError(413, f"at most {limits.examples} examples a request, got {examples.num_rows}")
    sizes = row_bytes(examples)
    largest = max(sizes)
    if largest > limits.example_bytes:
        where = (field, sizes.index(largest))
        raise RefusedError(422, f"{largest} bytes, at most {limits.example_bytes}", *where)


def json_answers(model: str, answers: Sequence[Mapping[str, Any]], top_labels: int | None) -> bytes:
    """The body that answers JSON."""
    return to_json(
        {"model": model, "answers": [_said(one, top_labels) for one in answers]}, inf_nan_mode="null"
    )


def _said(answer: Mapping[str, Any], top_labels: int | None) -> dict[str, Any]:
    said = {name: answer[name] for name in _SAID}
    if said["scores"] is not None:
        said["scores"] = dict(said["scores"][:top_labels])
    return said


def arrow_answers(model: str, answers: Sequence[Mapping[str, Any]]) -> bytes:
    """The body that answers Arrow: the columns of `answers`, and the version in the schema's metadata."""
    schema = pa.schema(SAID_FIELDS, metadata={"model": model})
    rows = [{name: answer[name] for name in _SAID} for answer in answers]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema))
    return bytes(sink.getvalue())
