"""Plain lines: one document per line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sparkml.sources.line_records import line_bytes, line_records, line_text
from sparkml.sources.lines import Line
from sparkml.sources.open_split import OpenSplit
from sparkml.sources.records import Defect, Record


def read_plain_lines(opened: OpenSplit) -> Iterator[Record | Defect]:
    """A record for every line that is not blank."""
    limit, text_field = opened.options.max_record_bytes, opened.options.text_field
    return line_records(opened, lambda lines: _documents(lines, limit, text_field))


def _documents(lines: Iterable[Line], limit: int, text_field: str) -> Iterator[Record | Defect]:
    for line in lines:
        item = line_text(line, limit)
        if isinstance(item, str):
            yield Record(line.position, line.locator, {text_field: item}, line_bytes(line))
        elif item is not None:
            yield item
