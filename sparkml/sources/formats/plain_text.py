"""Text files: one document per file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from sparkml.sources.compression import BrokenStreamError, compression_suffix
from sparkml.sources.lines import UTF8_BOM
from sparkml.sources.open_split import OpenSplit
from sparkml.sources.records import Defect, Record, invalid_utf8, too_large

_WHOLE_FILE = "0"


def read_text_file(opened: OpenSplit) -> Iterator[Record | Defect]:
    """The file as one record with its text, `folder` and `file_name`; an empty file holds no record.

    A file over the limit is not read to its end.
    """
    limit = opened.options.max_record_bytes
    if (known := _bytes_over(limit, opened)) is not None:
        yield too_large(0, _WHOLE_FILE, known, limit)
        return
    held: list[bytes] = []
    size = 0
    try:
        for chunk in opened.utf8_chunks():
            size += len(chunk)
            if size > limit:
                yield too_large(0, _WHOLE_FILE, None, limit)
                return
            held.append(chunk)
    except BrokenStreamError as error:
        yield Defect(0, _WHOLE_FILE, error.reason, error.detail, error.value, error.threshold)
        return
    raw = b"".join(held).removeprefix(UTF8_BOM)
    if not raw:
        return
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        yield invalid_utf8(0, _WHOLE_FILE, error, size - len(raw))
        return
    yield _record(opened, raw, text)


def _bytes_over(limit: int, opened: OpenSplit) -> int | None:
    """The size of a file over the limit; None for others, and for compressed or UTF-16 and UTF-32 files."""
    if compression_suffix(opened.split.path) is not None:
        return None
    size = int(opened.file.size())
    return size if size > limit and not opened.is_wide() else None


def _record(opened: OpenSplit, raw: bytes, text: str) -> Record:
    split = opened.split
    place = PurePosixPath(split.relative)
    fields: dict[str, str | None] = {
        "folder": place.parent.name,
        "file_name": place.name,
        opened.options.text_field: text,
    }
    if split.label is not None:  # a file of the embedded corpus
        fields.update(title=split.relative, kind="file", version=split.version)
    return Record(0, _WHOLE_FILE, fields, raw)
