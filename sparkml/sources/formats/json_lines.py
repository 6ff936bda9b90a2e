"""JSON Lines, and plain lines: one record a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from sparkml.sources.lines import UTF8_BOM, Line
from sparkml.sources.records import Defect, Record, printable, too_large

_decode = json.JSONDecoder().decode


def read_json_lines(lines: Iterable[Line], limit: int) -> Iterator[Record | Defect]:
    """A record for every line that is a JSON object; blank lines are no records."""
    for line in lines:
        item = _text_of(line, limit)
        if not isinstance(item, str):
            if item is not None:
                yield item
            continue
        try:
            fields = _decode(item)
        except (ValueError, RecursionError) as error:
            yield Defect(line.offset, str(line.offset), "malformed_json", printable(f"{error}: {item[:100]}"))
            continue
        if type(fields) is dict:
            yield Record(line.offset, str(line.offset), fields, _bytes_of(line))
        else:
            kind = type(fields).__name__
            yield Defect(line.offset, str(line.offset), "not_an_object", printable(f"{kind}: {item[:100]}"))


def read_plain_lines(lines: Iterable[Line], limit: int, text_field: str) -> Iterator[Record | Defect]:
    """A record for every line that is not blank."""
    for line in lines:
        item = _text_of(line, limit)
        if isinstance(item, str):
            yield Record(line.offset, str(line.offset), {text_field: item}, _bytes_of(line))
        elif item is not None:
            yield item


def invalid_utf8(position: int, locator: str, error: UnicodeDecodeError, base: int) -> Defect:
    """The defect of bytes that are no UTF-8; its value is the offset of the first wrong byte."""
    at = base + error.start
    return Defect(position, locator, "invalid_utf8", f"{error.reason} at byte {at}", at)


def _bytes_of(line: Line) -> bytes:
    data = line.data or b""
    if line.offset == 0 and data.startswith(UTF8_BOM):
        data = data[len(UTF8_BOM) :]
    return data[:-1] if data.endswith(b"\r") else data


def _text_of(line: Line, limit: int) -> str | Defect | None:
    """The text of a line, None for a blank one, or why there is no text."""
    if line.data is None:
        return too_large(line.offset, str(line.offset), line.length, limit)
    raw = _bytes_of(line)
    if not raw or raw.isspace():
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        return invalid_utf8(line.offset, str(line.offset), error, line.offset)
