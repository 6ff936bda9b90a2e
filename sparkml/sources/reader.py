"""Splits -> rows, inside a Spark task: opens files and hands them to the reader of their format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing

import pyarrow as pa
from pyarrow import fs

from sparkml.frame import storage
from sparkml.sources.documents import DocumentBatches
from sparkml.sources.formats.table import FORMATS
from sparkml.sources.open_split import OpenSplit
from sparkml.sources.records import Defect, ReadOptions, Record, Split, printable


def split_reader(options: ReadOptions) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """A function for `mapInArrow`: batches of splits in, batches of `documents.ROW_SCHEMA` out."""

    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        splits = [Split(**row) for batch in batches for row in batch.to_pylist()]
        yield from read_splits(sorted(splits, key=lambda split: split.ordinal), options)

    return read


def read_splits(splits: Iterable[Split], options: ReadOptions) -> Iterator[pa.RecordBatch]:
    """The rows of splits in their order."""
    filesystem = storage.filesystem_of(options.root)[0]
    collected = DocumentBatches(options)
    for split in splits:
        own = _options_for(split, options)
        yield from collected.add(split, read_split(filesystem, split, own), own)
    yield from collected.rest()


def read_split(filesystem: fs.FileSystem, split: Split, options: ReadOptions) -> Iterator[Record | Defect]:
    """The records and defects of a split.

    A file that is gone or forbidden is a defect. Any other fault of the storage is raised: it may pass, and
    Spark tries the task again.
    """
    entry = FORMATS.get(split.format)
    if entry is None:
        detail = "no reader for this extension; name the format with ingest.source.format"
        yield Defect(0, "file", "unknown_format", detail)
        return
    try:
        with closing(filesystem.open_input_file(split.path)) as file:
            yield from entry.read(OpenSplit(file, split, options, filesystem))
    except (FileNotFoundError, PermissionError) as error:
        yield Defect(0, "file", "unreadable_file", printable(str(error)))


def _options_for(split: Split, options: ReadOptions) -> ReadOptions:
    entry = FORMATS.get(split.format)
    return options.with_columns(entry.columns) if entry is not None and entry.columns else options
