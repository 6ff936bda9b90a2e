"""Text files: one document a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from sparkml.sources.formats.json_lines import invalid_utf8
from sparkml.sources.lines import UTF8_BOM
from sparkml.sources.records import Defect, Record, too_large

_WHOLE_FILE = "0"


def read_text_file(
    chunks: Iterable[bytes], relative: str, limit: int, text_field: str
) -> Iterator[Record | Defect]:
    """The file as one record with its text, `folder` and `file_name`; an empty file holds no record."""
    held: list[bytes] = []
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > limit:
            held.clear()
        else:
            held.append(chunk)
    if size > limit:
        yield too_large(0, _WHOLE_FILE, size, limit)
        return
    raw = b"".join(held).removeprefix(UTF8_BOM)
    if not raw:
        return
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        yield invalid_utf8(0, _WHOLE_FILE, error, size - len(raw))
        return
    place = PurePosixPath(relative)
    fields = {"folder": place.parent.name, "file_name": place.name, text_field: text}
    yield Record(0, _WHOLE_FILE, fields, raw)
