"""What a reader yields: a record with its fields, or a defect with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple


class Record(NamedTuple):
    """A record of the source, not yet checked: `raw` are its original bytes, `fields` what they mean."""

    position: int  # orders the records of a file
    locator: str
    fields: dict[str, Any]
    raw: bytes


class Defect(NamedTuple):
    """Something in the source that cannot be a document."""

    position: int
    locator: str
    reason: str
    detail: str
    value: float | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class Split:
    """A part of a file: bytes [start, stop), row groups [start, stop) of Parquet, or all of it."""

    ordinal: int
    group: int
    format: str
    path: str
    uri: str
    relative: str
    start: int
    stop: int  # -1: to the end
    label: str | None
    version: str | None


@dataclass(frozen=True)
class ReadOptions:
    """How to read, as plain data that travels to the tasks."""

    root: str
    dataset: str
    text_field: str
    id_field: str | None
    label_field: str | None
    header: bool
    delimiter: str | None
    quote: str | None
    max_record_bytes: int
    batch_bytes: int
    max_inflation: int


def too_large(position: int, locator: str, size: int | None, limit: int) -> Defect:
    """The defect of a record that is longer than a record may be; `size` None: not read to its end."""
    shown = f"more than {limit} bytes" if size is None else f"{size} bytes, at most {limit}"
    return Defect(position, locator, "record_too_large", shown, limit + 1 if size is None else size, limit)


def invalid_utf8(position: int, locator: str, error: UnicodeDecodeError, base: int) -> Defect:
    """The defect of bytes that are not UTF-8; its value is the offset of the first wrong byte."""
    at = base + error.start
    return Defect(position, locator, "invalid_utf8", f"{error.reason} at byte {at}", at)


def printable(text: str, length: int = 200) -> str:
    """One short line: control characters and broken code points as escapes, cut to `length` characters."""
    cut = text[: length + 1]
    shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in cut)
    return shown if len(shown) <= length else shown[: length - 1] + "…"
