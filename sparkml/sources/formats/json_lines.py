"""JSON Lines: one record per line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from sparkml.sources.line_records import line_bytes, line_records, line_text
from sparkml.sources.lines import Line
from sparkml.sources.open_split import OpenSplit
from sparkml.sources.records import Defect, Record, printable

_decode = json.JSONDecoder().decode


def read_json_lines(opened: OpenSplit) -> Iterator[Record | Defect]:
    """A record for every line that is a JSON object; blank lines are left out."""
    limit = opened.options.max_record_bytes
    return line_records(opened, lambda lines: _objects(lines, limit))


def _objects(lines: Iterable[Line], limit: int) -> Iterator[Record | Defect]:
    for line in lines:
        item = line_text(line, limit)
        if not isinstance(item, str):
            if item is not None:
                yield item
            continue
        try:
            fields = _decode(item)
        except (ValueError, RecursionError) as error:
            yield Defect(line.position, line.locator, "malformed_json", printable(f"{error}: {item[:100]}"))
            continue
        if type(fields) is dict:
            yield Record(line.position, line.locator, fields, line_bytes(line))
        else:
            kind = type(fields).__name__
            yield Defect(line.position, line.locator, "not_an_object", printable(f"{kind}: {item[:100]}"))
