"""How much a Parquet file may inflate to, and how many of its rows are decoded at a time.

A page may hold a run of one byte a gigabyte long, and a dictionary's value may stand for a million rows: a file of
500 bytes can hold 100 GB. What the footer declares is refused where it is too much, what it does not declare
is measured row by row, and a batch takes as many rows as fit the memory even if each of them holds the
dictionary's longest value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sparkml.sources.compression import FREE_BYTES
from sparkml.sources.row_bytes import ROW_BYTES, value_bytes

_MOST_ROWS = 1_000  # long rows may be neighbours: a smaller batch bounds them better and costs no time
_MOST_BATCH_BYTES = 64 * 1024**2
# Decoding a value of a list takes its levels, the value and its place in the builder.
_NESTED_VALUE_BYTES = 16
# Values that share prefixes may be as long as all of their column: of them a batch takes no more.
_MOST_PREFIX_ROWS = 16
_PROBE_BUFFER_BYTES = 64 * 1024


@dataclass(frozen=True)
class GroupPlan:
    """How a row group is decoded: rows a batch, and the columns that stay dictionaries in memory."""

    batch_rows: int
    dictionaries: tuple[str, ...]


def compressed_bytes(footer: pq.FileMetaData) -> list[int]:
    """Compressed bytes of every row group."""
    groups = (footer.row_group(index) for index in range(footer.num_row_groups))
    columns = range(footer.num_columns)
    return [sum(group.column(column).total_compressed_size for column in columns) for group in groups]


def inflation_limits(group_bytes: Sequence[int], file_bytes: int, max_inflation: int) -> list[int]:
    """Bytes that each row group may inflate to: of the file's limit, the share of its compressed bytes.

    In sum `max_inflation` times the file or `FREE_BYTES`, also where row groups share pages.
    """
    total = max(sum(group_bytes), 1)
    most = max(max_inflation * min(total, file_bytes), FREE_BYTES)
    return [most * size // total for size in group_bytes]


def declared_bytes(group: pq.RowGroupMetaData, schema: pq.ParquetSchema) -> int:
    """What decoding a row group takes at least, as its footer says."""
    total = int(group.num_rows) * ROW_BYTES
    for index in range(group.num_columns):
        column = group.column(index)
        nested = schema.column(index).max_repetition_level > 0
        total += column.total_uncompressed_size + (column.num_values * _NESTED_VALUE_BYTES if nested else 0)
    return total


def plan_group(file: pa.NativeFile, footer: pq.FileMetaData, index: int, batch_bytes: int) -> GroupPlan:
    """Batches of about `batch_bytes`, and of at most 64 MiB whichever value of a dictionary a row holds."""
    group = footer.row_group(index)
    mean = group.total_byte_size / max(group.num_rows, 1)
    rows = min(max(int(batch_bytes / max(mean, 1.0)), 1), _MOST_ROWS)
    longest = 0  # bytes of a row in which every value is the longest of its column
    dictionaries = []
    for number in range(group.num_columns):
        chunk, column = group.column(number), footer.schema.column(number)
        is_nested = column.max_repetition_level > 0
        times = chunk.num_values if is_nested else rows
        path = chunk.path_in_schema
        value = _longest_value(chunk, column, times, partial(_dictionary, file, footer, index, path))
        if not is_nested:
            longest += value
        elif value * times > _MOST_BATCH_BYTES:
            # A row is the least that can be read, whatever number of values it has.
            dictionaries.append(path)
    return GroupPlan(max(min(rows, _MOST_BATCH_BYTES // max(longest, 1)), 1), tuple(dictionaries))


def _longest_value(
    chunk: pq.ColumnChunkMetaData,
    column: pq.ColumnSchema,
    times: int,
    dictionary: Callable[[], list[pa.Array]],
) -> int:
    """Bytes of a value that `times` rows may share; 0 where sharing cannot take too much memory."""
    is_nested = column.max_repetition_level > 0
    if column.physical_type == "FIXED_LEN_BYTE_ARRAY" and not is_nested:
        return int(column.length)
    if column.physical_type != "BYTE_ARRAY" or chunk.total_uncompressed_size * times <= _MOST_BATCH_BYTES:
        return 0
    if "DELTA_BYTE_ARRAY" in chunk.encodings:
        most = min(chunk.total_uncompressed_size, _MOST_BATCH_BYTES // _MOST_PREFIX_ROWS)
        return 0 if is_nested else int(most)
    values = dictionary() if chunk.has_dictionary_page else []
    return max((int(value_bytes(part).max(initial=0)) for part in values), default=0)


def _dictionary(file: pa.NativeFile, footer: pq.FileMetaData, index: int, path: str) -> list[pa.Array]:
    """The values of a column's dictionary: its first value, read as a dictionary, brings all of them."""
    probe = pq.ParquetFile(
        file, metadata=footer, read_dictionary=[path], pre_buffer=False, buffer_size=_PROBE_BUFFER_BYTES
    )
    for batch in probe.iter_batches(_MOST_ROWS, row_groups=[index], columns=[path], use_threads=False):
        found = [values for column in batch for values in _dictionaries(column)]
        if any(len(values) for values in found):  # none where all the rows are null
            return found
    return []


def _dictionaries(array: Any) -> Iterator[pa.Array]:
    kind = array.type
    if pa.types.is_dictionary(kind):
        yield array.dictionary
    elif pa.types.is_struct(kind):
        for index in range(kind.num_fields):
            yield from _dictionaries(array.field(index))
    elif pa.types.is_nested(kind):
        yield from _dictionaries(array.values)
