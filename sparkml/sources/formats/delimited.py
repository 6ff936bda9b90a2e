"""CSV and TSV: quoted fields, newlines inside them, and the original bytes of every record."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sparkml.sources.line_records import line_records
from sparkml.sources.lines import UTF8_BOM, Line
from sparkml.sources.open_split import OpenSplit
from sparkml.sources.records import Defect, Record, invalid_utf8, printable, too_large


@dataclass(frozen=True)
class Dialect:
    """How records are written. `quote` None: no quoting; `header` False: fields are named 0, 1, 2..."""

    delimiter: str
    quote: str | None
    header: bool


class _RecordTooLargeError(Exception):
    """The open record has grown over the limit: most often a quote that is never closed."""


class _Feed:
    """Hands lines to the csv reader and remembers what the current record was made of."""

    def __init__(self, lines: Iterable[Line], limit: int) -> None:
        self._lines = iter(lines)
        self._limit = limit
        self.next_offset = 0
        self.begin()

    def begin(self) -> None:
        """A new record starts here."""
        self.offset = self.next_offset
        self.raw = bytearray()
        self.size = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        if not self.raw:
            self.offset = line.offset
        self.next_offset = line.offset + line.length + 1
        self.size += line.length + 1
        if line.data is None or self.size > self._limit + 1:
            raise _RecordTooLargeError
        data = line.data
        if line.offset == 0 and data.startswith(UTF8_BOM):
            data = data[len(UTF8_BOM) :]
        self.raw += data
        self.raw += b"\n"
        # Quoted newlines belong to the field; wrong bytes pass here and are judged with the whole record.
        return data.decode("utf-8", "surrogateescape") + "\n"

    def record_bytes(self) -> bytes:
        """The record as it is in the file, without its last line end."""
        end = 2 if self.raw.endswith(b"\r\n") else 1
        return bytes(self.raw[:-end])


def read_csv(opened: OpenSplit) -> Iterator[Record | Defect]:
    """A record for every row with as many fields as the header (or, without one, as the first row)."""
    return _read_delimited(opened, delimiter=",", quote='"')


def read_tsv(opened: OpenSplit) -> Iterator[Record | Defect]:
    """As `read_csv`; a quote is text like any other."""
    return _read_delimited(opened, delimiter="\t", quote="")


def _read_delimited(opened: OpenSplit, delimiter: str, quote: str) -> Iterator[Record | Defect]:
    options = opened.options
    chosen = options.quote if options.quote is not None else quote
    dialect = Dialect(options.delimiter or delimiter, chosen or None, options.header)
    return line_records(
        opened, lambda lines: _records(lines, dialect, options.max_record_bytes), in_parts=False
    )


def _records(lines: Iterable[Line], dialect: Dialect, limit: int) -> Iterator[Record | Defect]:
    # The csv module's limit (131,072 characters a field) is for the whole process; the feed keeps ours.
    csv.field_size_limit(max(csv.field_size_limit(), limit + 1))
    feed = _Feed(lines, limit)
    names: list[str] | None = None
    for item in _rows(feed, dialect, limit):
        if isinstance(item, Defect):
            yield item
            continue
        if names is None:
            names = _unique(item) if dialect.header else [str(index) for index in range(len(item))]
            if dialect.header:
                continue
        yield _record(feed, item, names)


def _rows(feed: _Feed, dialect: Dialect, limit: int) -> Iterator[list[str] | Defect]:
    rows = csv.reader(
        feed,
        delimiter=dialect.delimiter,
        quotechar=dialect.quote or '"',
        quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
        strict=True,
    )
    while True:
        feed.begin()
        try:
            row = next(rows)
        except StopIteration:
            return
        except _RecordTooLargeError:
            yield too_large(feed.offset, str(feed.offset), feed.size - 1, limit)
            continue
        except csv.Error as error:
            shown = printable(f"{error}: {feed.record_bytes()[:100].decode('utf-8', 'replace')}")
            yield Defect(feed.offset, str(feed.offset), "malformed_csv", shown)
            continue
        if row and feed.record_bytes().strip():
            yield row


def _record(feed: _Feed, row: list[str], names: list[str]) -> Record | Defect:
    locator = str(feed.offset)
    raw = feed.record_bytes()
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return invalid_utf8(feed.offset, locator, error, feed.offset)
    if len(row) != len(names):
        detail = printable(f"{len(row)} fields, expected {len(names)}: {' | '.join(row)}")
        return Defect(feed.offset, locator, "wrong_field_count", detail, len(row), len(names))
    return Record(feed.offset, locator, dict(zip(names, row, strict=True)), raw)


def _unique(header: list[str]) -> list[str]:
    """Column names; a name that is given twice gets its position, so that no column hides another."""
    names: list[str] = []
    taken: set[str] = set()
    for index, name in enumerate(header):
        clean = name.strip()
        names.append(clean if clean and clean not in taken else f"{clean}_{index}")
        taken.add(names[-1])
    return names
