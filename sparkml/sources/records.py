"""What a reader yields: a record with its fields, or a defect with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple


class Record(NamedTuple):
    """A record of the source, not yet checked: `raw` are its original bytes, `fields` what they mean."""

    position: int  # orders the records of a file
    locator: str
    fields: dict[str, Any]
    raw: bytes
    path: str | None = None  # inside an archive


class Defect(NamedTuple):
    """Something in the source that cannot be a document."""

    position: int
    locator: str
    reason: str
    detail: str
    value: float | None = None
    threshold: float | None = None


class BadRecordError(Exception):
    """Something that cannot be a document; `why` are the last four fields of its `Defect`."""

    def __init__(
        self, reason: str, detail: str, value: float | None = None, threshold: float | None = None
    ) -> None:
        super().__init__(detail)
        self.why = (reason, printable(detail), value, threshold)


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
class LabelledFields:
    """Which fields hold the labelled columns, and which part of a path says a label or a split; None: none."""

    text_b: str | None = None
    tokens: str | None = None
    tags: str | None = None
    media: str | None = None
    split: str | None = None
    label_pattern: str | None = None
    split_pattern: str | None = None

    def fields(self) -> tuple[str, ...]:
        """The named fields."""
        named = (self.text_b, self.tokens, self.tags, self.media, self.split)
        return tuple(name for name in named if name is not None)


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
    labelled: LabelledFields = LabelledFields()
    tag_column: int = -1

    def nested(self) -> tuple[str, ...]:
        """The named fields that may lie within others: `a.b` is the field `b` of the object `a`."""
        named = (self.text_field, self.id_field, self.label_field, *self.labelled.fields())
        return tuple(name for name in named if name is not None and "." in name)

    def with_columns(self, columns: Sequence[str]) -> ReadOptions:
        """For a format that itself says what these columns are: each is its own field, where none is named."""
        named = {name: getattr(self.labelled, name) or name for name in columns if name != "label"}
        label = "label" if "label" in columns else None
        return replace(self, label_field=self.label_field or label, labelled=replace(self.labelled, **named))


def lifted(record: Record, names: Sequence[str]) -> Record:
    """The record with nested fields as fields of their own, by their whole names, and gone from where they were."""
    fields = record.fields
    for name in names:
        if name not in fields:
            parts = name.split(".")
            found, rest = _taken_out(fields, parts)
            if found is not _NOTHING:
                fields = {**rest, name: found}
    return record if fields is record.fields else record._replace(fields=fields)


_NOTHING = object()


def _taken_out(value: Any, parts: Sequence[str]) -> tuple[Any, Any]:
    """What lies below `value` at a path (numbers are places in lists), and the value without it."""
    key: Any = parts[0]
    if isinstance(value, list) and key.isdecimal() and int(key) < len(value):
        key = int(key)
    elif not isinstance(value, dict) or key not in value:
        return _NOTHING, value
    if len(parts) == 1:
        left = [item for at, item in enumerate(value) if at != key] if isinstance(value, list) else {**value}
        if isinstance(left, dict):
            del left[key]
        return value[key], left
    found, below = _taken_out(value[key], parts[1:])
    copy = value.copy()
    copy[key] = below
    return found, copy


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


def is_encodable(text: str) -> bool:
    """False for half of a surrogate pair, which JSON can write and UTF-8 cannot."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
