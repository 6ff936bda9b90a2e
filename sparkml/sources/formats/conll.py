"""CoNLL: one token a line with its tag, a blank line after each sentence; a sentence is a record."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sparkml.sources.compression import BrokenStreamError
from sparkml.sources.labelled import bad_tag
from sparkml.sources.line_records import line_bytes
from sparkml.sources.lines import Line, split_lines
from sparkml.sources.open_split import OpenSplit
from sparkml.sources.records import Defect, ReadOptions, Record, invalid_utf8, printable, too_large
from sparkml.sources.tags import is_tag

_BLANKS = re.compile(" +")
_NEW_DOCUMENT = "-DOCSTART-"


def read_conll(opened: OpenSplit) -> Iterator[Record | Defect]:
    """A record for every sentence; its locator is the number of its first line, counted from 1.

    A line that cannot be read costs its sentence: the defect's locator is that line's number.
    """
    sentence = _Sentence(opened.options)
    number = 0
    try:
        lines = split_lines(opened.utf8_chunks(), limit=opened.options.max_record_bytes)
        for number, line in enumerate(lines, 1):
            if (ended := sentence.take(number, line)) is not None:
                yield ended
    except BrokenStreamError as error:  # the sentence that was open is lost with the rest
        place = number + 1
        value = place if error.value is None else error.value
        yield Defect(place, str(place), error.reason, error.detail, value, error.threshold)
        return
    if (last := sentence.end()) is not None:
        yield last


class _Sentence:
    """The sentence that is being read: its lines, or the first thing that is wrong with it."""

    def __init__(self, options: ReadOptions) -> None:
        self._options = options
        self._begin()

    def _begin(self) -> None:
        self._first = 0
        self._lines: list[bytes] = []
        self._rows: list[list[str]] = []
        self._bytes = 0
        self._defect: Defect | None = None

    def take(self, number: int, line: Line) -> Record | Defect | None:
        """Add a line; the sentence, where the line ends it."""
        raw = line_bytes(line)
        if line.data is not None and not raw.strip():
            return self.end()
        limit = self._options.max_record_bytes
        self._bytes += line.length + 1
        if self._bytes > limit + 1:
            self._reject(too_large(number, str(number), None, limit))
            return None
        try:
            columns = _columns(raw.decode())
        except UnicodeDecodeError as error:
            self._reject(invalid_utf8(number, str(number), error, line.offset))
            return None
        if columns[0].startswith(_NEW_DOCUMENT):
            return self.end()
        if not self._is_comment(columns):
            self._add(number, raw, columns)
        return None

    def end(self) -> Record | Defect | None:
        """The sentence so far, None where there is none; the next line begins another."""
        found: Record | Defect | None = self._defect
        if found is None and self._rows:
            columns: list[list[str]] = [list(column) for column in zip(*self._rows, strict=True)]
            labelled = self._options.labelled
            tags = self._options.tag_column % len(columns)
            names = {0: labelled.tokens or "tokens", tags: labelled.tags or "tags"}
            fields = {names.get(index, str(index)): column for index, column in enumerate(columns)}
            found = Record(self._first, str(self._first), fields, b"\n".join(self._lines))
        self._begin()
        return found

    def _is_comment(self, columns: list[str]) -> bool:
        """A line that begins with `#` and has no tag, before a sentence, or with the mark alone, also in it."""
        if not columns[0].startswith("#"):
            return False
        tag = self._tag(columns)
        return (tag is None or not is_tag(tag)) and (not self._rows or columns[0] == "#")

    def _add(self, number: int, raw: bytes, columns: list[str]) -> None:
        tag = self._tag(columns)
        width = len(self._rows[0]) if self._rows else len(columns)
        if tag is None or not columns[0]:
            self._malformed(number, columns, "a token and its tag")
        elif len(columns) != width:
            self._malformed(number, columns, f"{width} columns as in the sentence's first line")
        elif not is_tag(tag):
            detail = printable(f"line {number}: {bad_tag(len(self._rows), tag)}")
            self._reject(Defect(number, str(number), "bad_tag", detail, number))
        elif self._defect is None:
            self._first = self._first or number
            self._lines.append(raw)
            self._rows.append(columns)

    def _tag(self, columns: list[str]) -> str | None:
        """The tag of a line; None where the line has too few columns, or the token's stands there."""
        place = self._options.tag_column
        place = place + len(columns) if place < 0 else place
        return columns[place] if 0 < place < len(columns) else None

    def _malformed(self, number: int, columns: list[str], expected: str) -> None:
        detail = f"line {number}: {len(columns)} columns, expected {expected}: {' | '.join(columns)}"
        self._reject(Defect(number, str(number), "malformed_conll", printable(detail), len(columns)))

    def _reject(self, defect: Defect) -> None:
        self._defect = self._defect or defect
        self._lines, self._rows = [], []


def _columns(line: str) -> list[str]:
    """The columns of a line: between tabs where it has any, else between blanks."""
    line = line.rstrip(" \t")
    if "\t" in line:
        return [column.strip(" ") for column in line.split("\t")]
    return _BLANKS.split(line.strip(" "))
