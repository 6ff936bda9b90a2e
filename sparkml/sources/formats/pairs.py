"""Pairs: two texts a line and, where there is one, their label, between tabs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sparkml.sources.line_records import line_bytes, line_records, line_text
from sparkml.sources.lines import Line
from sparkml.sources.open_split import OpenSplit
from sparkml.sources.records import Defect, ReadOptions, Record, printable

_TEXTS, _WITH_LABEL = 2, 3


def read_pairs(opened: OpenSplit) -> Iterator[Record | Defect]:
    """A record for every line that is not blank; the file has no header."""
    return line_records(opened, lambda lines: _pairs(lines, opened.options))


def _pairs(lines: Iterable[Line], options: ReadOptions) -> Iterator[Record | Defect]:
    names = (options.text_field, options.labelled.text_b or "text_b", options.label_field or "label")
    for line in lines:
        item = line_text(line, options.max_record_bytes)
        if not isinstance(item, str):
            if item is not None:
                yield item
            continue
        columns = item.split(options.delimiter or "\t")
        if _TEXTS <= len(columns) <= _WITH_LABEL:
            fields: dict[str, str | None] = dict(zip(names, columns, strict=False))
            if len(columns) == _WITH_LABEL:
                fields[names[-1]] = columns[-1] or None
            yield Record(line.position, line.locator, fields, line_bytes(line))
        else:
            detail = printable(f"{len(columns)} columns, expected two texts and perhaps a label: {item}")
            yield Defect(line.position, line.locator, "wrong_field_count", detail, len(columns), _WITH_LABEL)
