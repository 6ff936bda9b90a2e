"""Splits -> rows, inside a Spark task: opens files, chooses the reader of the format, bounds memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing

import pyarrow as pa
from pyarrow import fs

from sparkml.sources.compression import BrokenStreamError, compression_suffix, decompressed
from sparkml.sources.documents import DocumentBatches
from sparkml.sources.formats.delimited import Dialect, read_delimited
from sparkml.sources.formats.json_lines import read_json_lines, read_plain_lines
from sparkml.sources.formats.parquet import read_parquet
from sparkml.sources.formats.plain_text import read_text_file
from sparkml.sources.lines import Line, as_utf8, split_lines, wide_encoding
from sparkml.sources.listing import open_filesystem
from sparkml.sources.records import Defect, ReadOptions, Record, Split, printable

_CHUNK_BYTES = 1024 * 1024
_LINE_FORMATS = ("jsonl", "lines", "csv", "tsv")


def split_reader(options: ReadOptions) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """A function for `mapInArrow`: batches of splits in, batches of `documents.ROW_SCHEMA` out."""

    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        splits = [Split(**row) for batch in batches for row in batch.to_pylist()]
        yield from read_splits(sorted(splits, key=lambda split: split.ordinal), options)

    return read


def read_splits(splits: Iterable[Split], options: ReadOptions) -> Iterator[pa.RecordBatch]:
    """The rows of splits in their order."""
    filesystem = open_filesystem(options.root)[0]
    collected = DocumentBatches(options)
    for split in splits:
        yield from collected.add(split, read_split(filesystem, split, options))
    yield from collected.rest()


def read_split(filesystem: fs.FileSystem, split: Split, options: ReadOptions) -> Iterator[Record | Defect]:
    """The records and defects of a split.

    A file that is gone or forbidden is a defect. Any other fault of the storage is raised: it may pass, and
    Spark tries the task again.
    """
    if split.format == "unknown":
        detail = "no reader for this extension; name the format with ingest.source.format"
        yield Defect(0, "file", "unknown_format", detail)
        return
    try:
        with closing(filesystem.open_input_file(split.path)) as file:
            yield from _records(file, split, options)
    except (FileNotFoundError, PermissionError) as error:
        yield Defect(0, "file", "unreadable_file", printable(str(error)))


def _records(file: pa.NativeFile, split: Split, options: ReadOptions) -> Iterator[Record | Defect]:
    limit, text = options.max_record_bytes, options.text_field
    if split.format == "parquet":
        yield from read_parquet(file, split.start, split.stop, options.batch_bytes)
    elif split.format == "docstrings":
        # numba takes a worker a second to import, and no other format needs it.
        from sparkml.sources.formats.docstrings import read_docstrings

        yield from read_docstrings(file.read(limit + 1), split, limit, text)
    elif split.format in _LINE_FORMATS:
        yield from _line_records(file, split, options)
    else:
        yield from _text_records(file, split, options)


def _line_records(file: pa.NativeFile, split: Split, options: ReadOptions) -> Iterator[Record | Defect]:
    tail = _Tail(split.start)
    lines = tail.watch(_lines(file, split, options.max_record_bytes))
    limit = options.max_record_bytes
    if split.format == "jsonl":
        records = read_json_lines(lines, limit)
    elif split.format == "lines":
        records = read_plain_lines(lines, limit, options.text_field)
    else:
        delimiter = options.delimiter or ("\t" if split.format == "tsv" else ",")
        quote = options.quote if options.quote is not None else ("" if split.format == "tsv" else '"')
        records = read_delimited(lines, Dialect(delimiter, quote or None, options.header), limit)
    try:
        yield from records
    except BrokenStreamError as error:
        yield Defect(tail.offset, str(tail.offset), error.reason, error.detail, tail.offset)


def _text_records(file: pa.NativeFile, split: Split, options: ReadOptions) -> Iterator[Record | Defect]:
    chunks = as_utf8(_chunks(file, split.path))
    try:
        for item in read_text_file(chunks, split.relative, options.max_record_bytes, options.text_field):
            if isinstance(item, Record) and split.label is not None:
                item.fields.update(title=split.relative, kind="file", version=split.version)
            yield item
    except BrokenStreamError as error:
        yield Defect(0, "0", error.reason, error.detail)


def _lines(file: pa.NativeFile, split: Split, limit: int) -> Iterator[Line]:
    if split.stop < 0:
        return split_lines(as_utf8(_chunks(file, split.path)), limit=limit)
    if wide_encoding(file.read(4)) is not None:
        # Its lines do not end in the byte 10: the first split takes the whole file.
        file.seek(0)
        return split_lines(as_utf8(_chunks(file, split.path)), limit=limit) if split.start == 0 else iter(())
    begin = max(split.start - 1, 0)  # a line that begins at `start` is ours: look at the byte before
    file.seek(begin)
    chunks = _chunks(file, split.path)
    return split_lines(chunks, limit=limit, offset=begin, stop=split.stop, skip_first=split.start > 0)


def _chunks(file: pa.NativeFile, path: str) -> Iterator[bytes]:
    raw = iter(lambda: file.read(_CHUNK_BYTES), b"")
    suffix = compression_suffix(path)
    return raw if suffix is None else decompressed(raw, suffix)


class _Tail:
    """Remembers where the line after the last complete one begins: there a broken stream is cut."""

    def __init__(self, offset: int) -> None:
        self.offset = offset

    def watch(self, lines: Iterator[Line]) -> Iterator[Line]:
        for line in lines:
            self.offset = line.offset + line.length + 1
            yield line
