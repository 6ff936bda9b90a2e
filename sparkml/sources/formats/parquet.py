"""Parquet: one record per row, streamed in batches whose bytes are bounded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sparkml.sources.documents import canonical
from sparkml.sources.formats.parquet_limits import (
    compressed_bytes,
    declared_bytes,
    inflation_limits,
    plan_group,
)
from sparkml.sources.open_split import OpenSplit
from sparkml.sources.records import Defect, ReadOptions, Record, printable, too_large
from sparkml.sources.row_bytes import Sizes, row_bytes

# The last: names of columns need not be UTF-8 either.
_FAULTS = (pa.ArrowException, OSError, UnicodeDecodeError)


def read_parquet(opened: OpenSplit) -> Iterator[Record | Defect]:
    """The rows of the split's row groups (`stop` -1: all); the locator is the row number in the file.

    A row group that does not decode, or inflates too much, becomes one reject for the rows lost with it.
    """
    try:
        footer = pq.ParquetFile(opened.file).metadata
        sizes = compressed_bytes(footer)
    except _FAULTS as error:
        yield Defect(0, "file", "corrupt_parquet", printable(str(error)))
        return
    limits = inflation_limits(sizes, opened.file.size(), opened.options.max_inflation)
    stop = len(sizes) if opened.split.stop < 0 else opened.split.stop
    row = 0
    for index in range(stop):
        rows = footer.row_group(index).num_rows
        if index >= opened.split.start:
            group = _Group(opened.file, footer, index, row, row + rows, sizes[index], limits[index])
            yield from group.records(opened.options)
        row += rows


def row_groups(file: pa.NativeFile) -> list[int]:
    """Compressed bytes of every row group; empty where the footer does not decode (the reader says why)."""
    try:
        return compressed_bytes(pq.ParquetFile(file).metadata)
    except _FAULTS:
        return []


@dataclass
class _Group:
    """Row group `index`: its rows [row, stop) of the file, and the bytes that it may inflate to."""

    file: pa.NativeFile
    footer: pq.FileMetaData
    index: int
    row: int  # the next to be read
    stop: int
    compressed: int
    limit: int

    def records(self, options: ReadOptions) -> Iterator[Record | Defect]:
        try:
            inflated = declared_bytes(self.footer.row_group(self.index), self.footer.schema)
            if inflated > self.limit:
                yield self._too_much(inflated, options)
                return
            inflated = 0
            for batch in self._batches(options.batch_bytes):
                sizes = row_bytes(batch)
                within = int(np.searchsorted(inflated + np.cumsum(sizes), self.limit, side="right"))
                yield from _records(batch.slice(0, within), sizes[:within], self.row, options)
                inflated += int(sizes[: within + 1].sum())
                self.row += within
                if within < batch.num_rows:
                    yield self._too_much(inflated, options)
                    return
        except _FAULTS as error:
            yield self._rest("corrupt_parquet", str(error), self.stop - self.row)

    def _batches(self, batch_bytes: int) -> Iterator[pa.RecordBatch]:
        plan = plan_group(self.file, self.footer, self.index, batch_bytes)
        parquet = pq.ParquetFile(
            self.file,
            metadata=self.footer,
            read_dictionary=plan.dictionaries,
            page_checksum_verification=True,
        )
        yield from parquet.iter_batches(plan.batch_rows, row_groups=[self.index])

    def _too_much(self, inflated: int, options: ReadOptions) -> Defect:
        detail = f"{self.compressed} bytes inflate to {inflated} or more; the limit is max_inflation"
        ratio = inflated / max(self.compressed, 1)
        return self._rest("decompression_limit", detail, ratio, options.max_inflation)

    def _rest(self, reason: str, why: str, value: float, threshold: float | None = None) -> Defect:
        """One defect for all rows that are not read."""
        detail = printable(f"row group {self.index}, {self.stop - self.row} rows lost: {why}")
        return Defect(self.row, f"{self.row}-{self.stop - 1}", reason, detail, value, threshold)


def _records(
    batch: pa.RecordBatch, sizes: Sizes, first_row: int, options: ReadOptions
) -> Iterator[Record | Defect]:
    """The rows of a batch, converted to Python in runs of at most `batch_bytes`."""
    limit = options.max_record_bytes
    for start, stop in _runs(sizes, min(options.batch_bytes, limit)):
        row = first_row + start
        if sizes[start] > limit:
            yield too_large(row, str(row), int(sizes[start]), limit)
        else:
            yield from _converted(batch.slice(start, stop - start), row)


def _runs(sizes: Sizes, most: int) -> Iterator[tuple[int, int]]:
    """Neighbouring rows of together at most `most` bytes; a larger row stands alone."""
    ends = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        before = int(ends[start]) - int(sizes[start])
        stop = max(int(np.searchsorted(ends, before + most, side="right")), start + 1)
        yield start, stop
        start = stop


def _converted(batch: pa.RecordBatch, row: int) -> Iterator[Record | Defect]:
    try:
        rows = batch.to_pylist()
    except UnicodeDecodeError:
        # Parquet does not check its strings: one wrong row must not cost its neighbours.
        for index in range(batch.num_rows):
            yield _single(batch.slice(index, 1), row + index)
        return
    for index, fields in enumerate(rows, row):
        yield Record(index, str(index), fields, canonical(fields))


def _single(batch: pa.RecordBatch, row: int) -> Record | Defect:
    try:
        fields = batch.to_pylist()[0]
    except UnicodeDecodeError as error:
        detail = f"{error.reason} at byte {error.start} of a field"
        return Defect(row, str(row), "invalid_utf8", detail, error.start)
    return Record(row, str(row), fields, canonical(fields))
