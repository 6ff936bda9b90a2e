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

    def with_columns(self, columns: Sequence[str]) -> ReadOptions:
        """For a format that itself says what these columns are: each is its own field, where none is named."""
        named = {name: getattr(self.labelled, name) or name for name in columns if name != "label"}
        label = "label" if "label" in columns else None
        return replace(self, label_field=self.label_field or label, labelled=replace(self.labelled, **named))


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
