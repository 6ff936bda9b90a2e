"""How many bytes each row of an Arrow batch holds once it is written out: dictionaries share values, rows do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Sizes = NDArray[np.int64]
ROW_BYTES = 16  # about what a line of JSON takes besides its values: rows of nulls are not free
_is = pa.types


def row_bytes(batch: pa.RecordBatch) -> Sizes:
    """Bytes of every row: those of its values, and `ROW_BYTES` for the row itself."""
    total = np.full(batch.num_rows, ROW_BYTES, np.int64)
    for column in batch.columns:
        total += value_bytes(column)
    return total


def value_bytes(array: Any) -> Sizes:
    """Bytes of every value of an array, as `row_bytes` counts them."""
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return value_bytes(array.storage)
    if _is.is_dictionary(kind):
        sizes = np.append(value_bytes(array.dictionary), 0)  # the last is a null's
        found: Sizes = sizes[array.indices.fill_null(len(array.dictionary)).to_numpy()]
        return found
    if _is.is_struct(kind):
        fields = (value_bytes(array.field(index)) for index in range(kind.num_fields))
        return sum(fields, np.zeros(len(array), np.int64))
    if _is.is_list(kind) or _is.is_map(kind):
        return _sums(array.values, _offsets(array, np.int32))
    if _is.is_large_list(kind):
        return _sums(array.values, _offsets(array, np.int64))
    if _is.is_fixed_size_list(kind):
        return _sums(array.values, (array.offset + np.arange(len(array) + 1)) * kind.list_size)
    if _is.is_string(kind) or _is.is_binary(kind):
        return np.diff(_offsets(array, np.int32))
    if _is.is_large_string(kind) or _is.is_large_binary(kind):
        return np.diff(_offsets(array, np.int64))
    if _is.is_string_view(kind) or _is.is_binary_view(kind):
        return _view_bytes(array)
    width = 1 if _is.is_null(kind) else max(kind.bit_width // 8, 1)
    return np.full(len(array), width, np.int64)


def _sums(values: Any, offsets: NDArray[Any]) -> Sizes:
    """Bytes of the runs of `values` between neighbouring offsets."""
    before = np.concatenate([[0], np.cumsum(value_bytes(values), dtype=np.int64)])
    sums: Sizes = np.diff(before[offsets])
    return sums


def _offsets(array: Any, kind: type[np.integer[Any]]) -> Sizes:
    """Where the values of a string or list array begin, and where its last ends."""
    if len(array) == 0:
        return np.zeros(1, np.int64)  # an empty array may lack the buffer
    offsets = np.frombuffer(array.buffers()[1], kind)[array.offset : array.offset + len(array) + 1]
    return offsets.astype(np.int64)


def _view_bytes(array: Any) -> Sizes:
    """A view is 16 bytes, of which the first four are the length (Arrow's columnar format)."""
    lengths = np.frombuffer(array.buffers()[1], np.int32)[::4][array.offset : array.offset + len(array)]
    return np.where(array.is_valid().to_numpy(zero_copy_only=False), lengths, 0).astype(np.int64)
