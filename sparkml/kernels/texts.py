"""A batch of documents as the kernels read it: the UTF-8 bytes of an Arrow array and where each document ends."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


class Texts(NamedTuple):
    """Document d is `data[offsets[d]:offsets[d + 1]]`."""

    data: NDArray[np.uint8]
    offsets: NDArray[np.int64]


def read_texts(column: pa.Array) -> Texts:
    """The bytes of a string column, without a copy; a null reads as an empty document."""
    if column.null_count:
        column = column.fill_null("")
    wide = pa.types.is_large_string(column.type)
    _, bounds, content = column.buffers()
    if bounds is None or len(column) == 0:
        offsets = np.zeros(1, np.int64)
    else:
        ends = np.frombuffer(bounds, np.int64 if wide else np.int32)
        offsets = ends[column.offset : column.offset + len(column) + 1].astype(np.int64)
    data = np.frombuffer(content, np.uint8) if content is not None and content.size else np.zeros(1, np.uint8)
    data.flags.writeable = False  # one type for the compiler, whoever owns the bytes
    return Texts(data, offsets)


def trimmed(texts: Texts) -> Texts:
    """The same documents, with no bytes but theirs; not a copy."""
    first, last = int(texts.offsets[0]), int(texts.offsets[-1])
    return Texts(texts.data[first : max(last, first + 1)], texts.offsets - first)


def contents(texts: Texts) -> Iterator[bytes]:
    """The UTF-8 of each document, where a library takes one at a time."""
    own = trimmed(texts)
    data = own.data.tobytes()
    return (data[start:stop] for start, stop in itertools.pairwise(own.offsets.tolist()))


def as_texts(documents: Sequence[bytes]) -> Texts:
    """The documents of these bytes."""
    offsets = np.cumsum([0, *map(len, documents)], dtype=np.int64)
    return Texts(np.frombuffer(b"".join(documents) or b"\0", np.uint8), offsets)


def as_column(texts: Texts, kind: pa.DataType) -> pa.Array:
    """The documents as a column of this kind of string, without a copy of their bytes; what `read_texts` reads."""
    width = np.int64 if pa.types.is_large_string(kind) else np.int32
    buffers = [None, pa.py_buffer(texts.offsets.astype(width)), pa.py_buffer(texts.data)]
    return pa.Array.from_buffers(kind, len(texts.offsets) - 1, buffers)


def pieces(column: pa.Array, most_bytes: int) -> Iterator[tuple[int, int]]:
    """Row ranges (start, stop) of at most this many bytes of text each; a longer document stands alone."""
    offsets, start = read_texts(column).offsets, 0
    while start < len(column):
        stop = int(np.searchsorted(offsets, offsets[start] + most_bytes, side="right")) - 1
        stop = min(max(stop, start + 1), len(column))
        yield start, stop
        start = stop
