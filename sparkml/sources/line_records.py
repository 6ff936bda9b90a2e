"""What the formats of lines share: a split's lines, the text of a line, and where a broken stream is cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sparkml.sources.compression import BrokenStreamError, compression_suffix
from sparkml.sources.lines import UTF8_BOM, Line, split_lines
from sparkml.sources.member_lines import member_lines
from sparkml.sources.open_split import OpenSplit
from sparkml.sources.records import Defect, Record, invalid_utf8, too_large

Parse = Callable[[Iterator[Line]], Iterator[Record | Defect]]


def line_records(opened: OpenSplit, parse: Parse, *, in_parts: bool = True) -> Iterator[Record | Defect]:
    """What `parse` makes of the lines of a split; where their stream breaks, one more defect.

    `in_parts`: several tasks may read the members of a compressed file, and lines are known by theirs.
    """
    is_packed = compression_suffix(opened.split.path) is not None
    start = opened.split.start
    tail = _Tail(Line(0, 0, None, start) if is_packed else Line(start, 0, None))
    try:
        yield from parse(tail.watch(member_lines(opened) if is_packed and in_parts else _lines(opened)))
    except BrokenStreamError as error:
        value = tail.next.offset if error.value is None else error.value
        place = tail.next.position, tail.next.locator
        yield Defect(*place, error.reason, error.detail, value, error.threshold)


def line_bytes(line: Line) -> bytes:
    """A line without the mark of its encoding and without its carriage return."""
    data = line.data or b""
    if line.offset == line.member == 0 and data.startswith(UTF8_BOM):
        data = data[len(UTF8_BOM) :]
    return data[:-1] if data.endswith(b"\r") else data


def line_text(line: Line, limit: int) -> str | Defect | None:
    """The text of a line, None for a blank one, or why there is no text."""
    if line.data is None:
        return too_large(line.position, line.locator, line.length, limit)
    raw = line_bytes(line)
    if not raw or raw.isspace():
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        return invalid_utf8(line.position, line.locator, error, line.offset)


def _lines(opened: OpenSplit) -> Iterator[Line]:
    split, limit = opened.split, opened.options.max_record_bytes
    if split.stop < 0:
        return split_lines(opened.utf8_chunks(), limit=limit)
    if opened.is_wide():
        # Its lines do not end in the byte 10: the first split takes the whole file.
        return split_lines(opened.utf8_chunks(), limit=limit) if split.start == 0 else iter(())
    begin = max(split.start - 1, 0)  # a line that begins at `start` is ours: look at the byte before
    opened.file.seek(begin)
    skip_first = split.start > 0
    return split_lines(opened.chunks(), limit=limit, offset=begin, stop=split.stop, skip_first=skip_first)


class _Tail:
    """Remembers where the line after the last complete one begins: there a broken stream is cut."""

    def __init__(self, first: Line) -> None:
        self.next = first

    def watch(self, lines: Iterator[Line]) -> Iterator[Line]:
        for line in lines:
            self.next = Line(line.offset + line.length + 1, 0, None, line.member)
            yield line
