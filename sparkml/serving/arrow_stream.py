"""Arrow streams from clients whom nobody knows: texts, bytes and lists of texts, read without Arrow's own reader.

Arrow's C++ reader ends the process on some forged streams. Here every length and place is checked first, and what
stands in the buffers is validated by Arrow (`Array.validate`) before anything looks at it.

A stream is a row of messages: -1 and the size of the metadata as int32, the metadata (a flatbuffer `Message`, see
Message.fbs and Schema.fbs of Arrow's format), the body. A schema comes first, then record batches.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

_SCHEMA, _BATCH = 1, 3  # MessageHeader
# Type: those that examples have.
_KINDS: dict[int, Callable[[list[pa.DataType]], pa.DataType]] = {
    4: lambda _: pa.binary(),
    5: lambda _: pa.string(),
    12: lambda children: pa.list_(children[0]),
    20: lambda _: pa.large_string(),
}
_MOST_COLUMNS = 16


class StreamError(ValueError):
    """Not a stream of examples."""


@dataclass(frozen=True)
class _Table:
    """A table of a flatbuffer; struct.error where a place lies outside."""

    buffer: bytes
    place: int

    def _at(self, number: int) -> int | None:
        """Where a field lies; None where it has its default."""
        vtable = self.place - self._read("<i", self.place)
        size, at = self._read("<H", vtable), 4 + 2 * number
        offset = self._read("<H", vtable + at) if at < size else 0
        return self.place + offset if offset else None

    def _read(self, layout: str, place: int) -> int:
        if place < 0:
            raise StreamError("a place before the beginning")
        found: int = struct.unpack_from(layout, self.buffer, place)[0]
        return found

    def number(self, field: int, layout: str) -> int:
        """A number; 0 where there is none."""
        place = self._at(field)
        return 0 if place is None else self._read(layout, place)

    def has(self, field: int) -> bool:
        """Whether the field is there."""
        return self._at(field) is not None

    def table(self, field: int) -> _Table:
        """A table that a field refers to."""
        place = self._at(field)
        if place is None:
            raise StreamError("a part of the message is missing")
        return _Table(self.buffer, place + self._read("<I", place))

    def text(self, field: int) -> str:
        """A text that a field refers to; none: empty."""
        start, size = self._vector(field)
        return self.buffer[start : start + size].decode()

    def tables(self, field: int) -> list[_Table]:
        """The tables that a field refers to."""
        start, count = self._vector(field)
        if count > _MOST_COLUMNS:
            raise StreamError(f"more than {_MOST_COLUMNS} columns")
        places = [start + 4 * number for number in range(count)]
        return [_Table(self.buffer, place + self._read("<I", place)) for place in places]

    def pairs(self, field: int) -> list[tuple[int, int]]:
        """Structs of two int64 that a field refers to."""
        start, count = self._vector(field)
        if count > 4 * _MOST_COLUMNS:
            raise StreamError("too many buffers")
        return [struct.unpack_from("<qq", self.buffer, start + 16 * number) for number in range(count)]

    def _vector(self, field: int) -> tuple[int, int]:
        place = self._at(field)
        if place is None:
            return 0, 0
        start = place + self._read("<I", place)
        return start + 4, self._read("<I", start)


def read_stream(content: bytes) -> tuple[pa.Table, dict[str, str]]:
    """The columns of a stream and its schema's metadata; StreamError for anything else than a stream of examples."""
    try:
        messages = _messages(content)
        schema, _ = next(messages, (None, b""))
        if schema is None or schema.number(1, "<B") != _SCHEMA:
            raise StreamError("no schema")
        names, types, metadata = _read_schema(schema.table(2))
        batches = [_read_batch(message, body, names, types) for message, body in messages]
    except (struct.error, UnicodeDecodeError, RecursionError, pa.ArrowException) as error:
        raise StreamError(str(error)[:200]) from error
    return pa.Table.from_batches(batches, pa.schema(list(zip(names, types, strict=True)))), metadata


def _messages(content: bytes) -> Iterator[tuple[_Table, bytes]]:
    place = 0
    while place < len(content):
        mark, size = struct.unpack_from("<iI", content, place)
        if mark != -1:
            raise StreamError("a message does not begin with -1")
        if size == 0:  # the mark of the end
            return
        start = place + 8
        head = content[start : start + size]
        if len(head) < size:
            raise StreamError("cut off")
        message = _Table(head, struct.unpack_from("<I", head)[0])
        length = message.number(3, "<q")
        place = start + size + length
        if length < 0 or place > len(content):
            raise StreamError("cut off")
        yield message, content[start + size : place]


def _read_schema(schema: _Table) -> tuple[list[str], list[pa.DataType], dict[str, str]]:
    fields = schema.tables(1)
    if schema.number(0, "<h"):
        raise StreamError("big-endian numbers")
    metadata = {one.text(0): one.text(1) for one in schema.tables(2)}
    names = [field.text(0) for field in fields]
    if len(set(names)) < len(names):
        raise StreamError("two columns have one name")
    return names, [_type_of(field) for field in fields], metadata


def _type_of(field: _Table, depth: int = 0) -> pa.DataType:
    kind = field.number(2, "<B")
    if field.has(4) or kind not in _KINDS:
        raise StreamError("a column is neither string, binary nor list<string>, or has a dictionary")
    children = [_type_of(child, depth + 1) for child in field.tables(5)] if depth < 1 else []
    if len(children) != (kind == 12):
        raise StreamError("a list of something else than texts")
    return _KINDS[kind](children)


def _read_batch(message: _Table, body: bytes, names: list[str], types: list[pa.DataType]) -> pa.RecordBatch:
    if message.number(1, "<B") != _BATCH:
        raise StreamError("a message that is no record batch")
    batch = message.table(2)
    if batch.has(3):
        raise StreamError("compressed: its small body could grow without end")
    rows = batch.number(0, "<q")
    nodes, buffers = iter(batch.pairs(1)), iter(batch.pairs(2))
    whole = pa.py_buffer(body)

    def next_buffer() -> pa.Buffer | None:
        offset, size = next(buffers, (-1, 0))
        if offset < 0 or offset % 8 or size < 0 or offset + size > len(body):
            raise StreamError("a buffer lies outside of its message, or across its words")
        return whole.slice(offset, size)

    def next_array(kind: pa.DataType) -> Any:
        length, nulls = next(nodes, (-1, 0))
        if not 0 <= length <= len(body) or not 0 <= nulls <= length:
            raise StreamError("more rows than the message can have")
        validity = next_buffer()
        own = [validity if nulls else None, next_buffer()]
        if pa.types.is_list(kind):
            children = [next_array(kind.value_type)]
        else:
            own.append(next_buffer())
            children = None
        array = pa.Array.from_buffers(kind, length, own, nulls, children=children)
        array.validate(full=True)
        return array

    arrays = [next_array(kind) for kind in types]
    if any(len(array) != rows for array in arrays):
        raise StreamError("columns of different lengths")
    return pa.RecordBatch.from_arrays(arrays, names)
