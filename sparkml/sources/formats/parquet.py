"""Parquet: one record a row, streamed in batches whose bytes are bounded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sparkml.sources.documents import json_value
from sparkml.sources.records import Defect, Record, printable

_MOST_ROWS = 10_000


def read_parquet(
    file: pa.NativeFile, first_group: int, stop_group: int, batch_bytes: int
) -> Iterator[Record | Defect]:
    """The rows of row groups [first_group, stop_group) (-1: all); the locator is the row number in the file.

    A row group that does not decode becomes one reject, whose value is the number of rows lost with it.
    """
    try:
        parquet = pq.ParquetFile(file, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        yield Defect(0, "file", "corrupt_parquet", printable(str(error)))
        return
    footer = parquet.metadata
    stop_group = footer.num_row_groups if stop_group < 0 else stop_group
    row = sum(footer.row_group(group).num_rows for group in range(first_group))
    for group in range(first_group, stop_group):
        rows = footer.row_group(group).num_rows
        last = row + rows
        try:
            for batch in parquet.iter_batches(_batch_rows(footer, group, batch_bytes), row_groups=[group]):
                yield from _records(batch, row)
                row += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            detail = f"row group {group}, {last - row} rows lost: {printable(str(error))}"
            yield Defect(row, f"{row}-{last - 1}", "corrupt_parquet", detail, last - row)
        row = last


def row_groups(file: pa.NativeFile) -> list[int]:
    """Compressed bytes of every row group; empty where the footer does not decode (the reader says why)."""
    try:
        footer = pq.ParquetFile(file).metadata
    except (pa.ArrowException, OSError):
        return []
    groups = [footer.row_group(group) for group in range(footer.num_row_groups)]
    columns = range(footer.num_columns)
    return [sum(group.column(column).total_compressed_size for column in columns) for group in groups]


def _batch_rows(footer: pq.FileMetaData, group: int, batch_bytes: int) -> int:
    described = footer.row_group(group)
    mean = described.total_byte_size / max(described.num_rows, 1)
    return int(min(max(batch_bytes / max(mean, 1.0), 1), _MOST_ROWS))


def _records(batch: pa.RecordBatch, row: int) -> Iterator[Record | Defect]:
    try:
        rows = batch.to_pylist()
    except UnicodeDecodeError:
        # Parquet does not check its strings: one wrong row must not cost its neighbours.
        for index in range(batch.num_rows):
            yield _single(batch.slice(index, 1), row + index)
        return
    for index, fields in enumerate(rows, row):
        yield Record(index, str(index), fields, _canonical(fields))


def _single(batch: pa.RecordBatch, row: int) -> Record | Defect:
    try:
        fields = batch.to_pylist()[0]
    except UnicodeDecodeError as error:
        detail = f"{error.reason} at byte {error.start} of a field"
        return Defect(row, str(row), "invalid_utf8", detail, error.start)
    return Record(row, str(row), fields, _canonical(fields))


def _canonical(fields: dict[str, Any]) -> bytes:
    """A columnar row has no bytes of its own: its fields by name, each as JSON."""
    parts = [f"{name}\0{json_value(fields[name])}" for name in sorted(fields)]
    return "\0".join(parts).encode("utf-8", "surrogatepass")
