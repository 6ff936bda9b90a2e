"""Records -> rows of `bronze` and of `rejects`, in Arrow batches whose bytes are bounded."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from json.encoder import encode_basestring
from typing import Any

import pyarrow as pa

from sparkml.kernels.hashing import content_hash, document_id
from sparkml.sources.labelled import Labelled, labelled_columns
from sparkml.sources.records import Defect, ReadOptions, Record, Split, is_encodable, lifted, printable

_MOST_ROWS = 10_000
_NO_VALUE = object()
_ISO = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?: ?(?:Z|[+-]\d\d:?\d\d))?)?")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

ROW_SCHEMA = pa.schema(
    [
        ("doc_id", pa.string()),
        ("source", pa.string()),
        ("locator", pa.string()),
        ("content_hash", pa.string()),
        ("text", pa.string()),
        ("text_b", pa.string()),
        ("tokens", pa.list_(pa.string())),
        ("tags", pa.list_(pa.string())),
        ("media", pa.binary()),
        ("media_type", pa.string()),
        ("url", pa.string()),
        ("title", pa.string()),
        ("published", pa.timestamp("us", tz="UTC")),
        ("label", pa.string()),
        ("split", pa.string()),
        ("meta", pa.map_(pa.string(), pa.string())),
        ("position", pa.int64()),
        ("place_id", pa.string()),  # the id by place, for records whose source gives another
        ("drop_reason", pa.string()),
        ("value", pa.float64()),
        ("threshold", pa.float64()),
        ("detail", pa.string()),
    ]
)
_NO_COLUMNS = [None] * (ROW_SCHEMA.get_field_index("position") - ROW_SCHEMA.get_field_index("content_hash"))


class DocumentBatches:
    """Collects rows and gives them out as batches of about `batch_bytes`."""

    def __init__(self, options: ReadOptions) -> None:
        self._options = options
        self._rows: list[tuple[Any, ...]] = []
        self._bytes = 0

    def add(
        self, split: Split, items: Iterable[Record | Defect], options: ReadOptions
    ) -> Iterator[pa.RecordBatch]:
        """Rows for all items of a split that was read with `options`; yields the batches that became full."""
        self._options = options
        nested = options.nested()
        for item in items:
            if nested and isinstance(item, Record):
                item = lifted(item, nested)
            row = self._document(split, item) if isinstance(item, Record) else item
            self._rows.append(self._reject(split, row) if isinstance(row, Defect) else row)
            if self._bytes >= options.batch_bytes or len(self._rows) >= _MOST_ROWS:
                yield self._flush()

    def rest(self) -> Iterator[pa.RecordBatch]:
        """What is left."""
        if self._rows:
            yield self._flush()

    def _document(self, split: Split, record: Record) -> tuple[Any, ...] | Defect:
        options, fields = self._options, record.fields
        found = labelled_columns(record, split.relative, options.labelled)
        if isinstance(found, Defect):
            return found
        text = _text(record, options, found)
        if isinstance(text, Defect):
            return text
        doc_id = self._doc_id(split, record)
        if isinstance(doc_id, Defect):
            return doc_id
        taken = {options.text_field, options.id_field, *found.fields}
        url, title = _string(fields, "url", taken), _string(fields, "title", taken)
        published = _published(fields, taken)
        label = found.path_label if split.label is None else split.label
        if options.label_field is not None and options.label_field in fields:
            given = _label(fields[options.label_field])
            label = found.path_label if given is None else given
            taken.add(options.label_field)
        meta = [(_key(name), json_value(value)) for name, value in fields.items() if name not in taken]
        meta += [(_key(name), json_value(value)) for name, value in found.rest]
        self._bytes += len(text or "") + found.size() + sum(len(name) + len(value) for name, value in meta)
        self._bytes += 256
        digest = content_hash(record.raw)
        place_id = None if options.id_field is None else self._place_id(split, record.locator)
        head = (doc_id, split.uri, record.locator, digest, text, *found.columns())
        tail = (url, title, published, label, found.split, meta, record.position, place_id)
        return (*head, *tail, None, None, None, None)

    def _doc_id(self, split: Split, record: Record) -> str | Defect:
        name = self._options.id_field
        if name is None:
            return self._place_id(split, record.locator)
        found = record.fields.get(name)
        if found is None or found == "":
            return _defect(record, "missing_id", f"`{name}` is missing or null; fields: {_names(record)}")
        given = found if isinstance(found, str) else json_value(found)
        if is_encodable(given):
            return given
        return _defect(record, "lone_surrogate", f"`{name}` holds half of a surrogate pair")

    def _place_id(self, split: Split, locator: str) -> str:
        return document_id(self._options.dataset, split.relative, locator)

    def _reject(self, split: Split, defect: Defect) -> tuple[Any, ...]:
        self._bytes += 512
        doc_id = self._place_id(split, defect.locator)
        # A whole number beyond 2^53 is no exact double, which Arrow refuses.
        value, threshold = (None if one is None else float(one) for one in (defect.value, defect.threshold))
        why = (defect.reason, value, threshold, defect.detail)
        return (doc_id, split.uri, defect.locator, *_NO_COLUMNS, defect.position, None, *why)

    def _flush(self) -> pa.RecordBatch:
        columns = zip(*self._rows, strict=True)
        arrays = [pa.array(values, field.type) for values, field in zip(columns, ROW_SCHEMA, strict=True)]
        self._rows = []
        self._bytes = 0
        return pa.RecordBatch.from_arrays(arrays, schema=ROW_SCHEMA)


def json_value(value: Any) -> str:
    """A field's value as JSON text; bytes, dates, decimals and other values that JSON does not know as a string."""
    kind = type(value)
    if kind is str:
        encoded = encode_basestring(value)
        return encoded if is_encodable(encoded) else _encode(value)
    if kind is int:
        return str(value)
    if value is None:
        return "null"
    return _encode(value)


def _plain(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    return str(value)


_encode = json.JSONEncoder(default=_plain).encode  # `json.dumps` would make an encoder for every value


def canonical(fields: dict[str, Any]) -> bytes:
    """Of a row that has no bytes of its own: its fields by name, each as JSON."""
    parts = [f"{name}\0{json_value(fields[name])}" for name in sorted(fields)]
    return "\0".join(parts).encode("utf-8", "surrogatepass")


def parse_published(value: Any) -> datetime | None:
    """A time of ISO 8601 or RFC 2822, a date, or seconds, milli- or microseconds since 1970; else None.

    A time without a zone is taken as UTC.
    """
    try:
        if isinstance(value, str):
            return _parse_time(value.strip())
        if isinstance(value, datetime):
            return _utc(value)
        if isinstance(value, date):
            return datetime(value.year, value.month, value.day, tzinfo=timezone.utc)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            scale = 1 if abs(value) < 1e11 else 1_000 if abs(value) < 1e14 else 1_000_000
            return _EPOCH + timedelta(microseconds=round(value * (1_000_000 // scale)))
    except (ValueError, OverflowError, TypeError):
        return None
    return None


def _parse_time(text: str) -> datetime | None:
    if _ISO.fullmatch(text):
        # Python 3.10 reads neither `Z` nor `+0200` nor other than 3 or 6 digits of a second.
        text = text.replace("Z", "+00:00").replace(" +", "+")
        text = re.sub(r"([+-]\d\d)(\d\d)$", r"\1:\2", text) if len(text) > 16 else text
        text = re.sub(r"\.(\d+)", lambda match: f".{match[1][:6]:0<6}", text)
        return _utc(datetime.fromisoformat(text))
    if "," in text or text.count(":") >= 1:
        return _utc(parsedate_to_datetime(text))
    return None


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)


def _text(record: Record, options: ReadOptions, found: Labelled) -> str | Defect | None:
    """The text; of tokens without one, the tokens; null where there is media instead."""
    name = options.text_field
    text = record.fields.get(name, _NO_VALUE)
    if type(text) is str:
        if is_encodable(text):
            return text
        return _defect(record, "lone_surrogate", f"`{name}` holds half of a surrogate pair")
    if text is not _NO_VALUE and text is not None:
        shown = json_value(text)
        return _defect(record, "text_not_a_string", f"`{name}` is {type(text).__name__}: {shown[:100]}")
    if found.tokens is not None:
        return " ".join(found.tokens)
    if found.media is not None:
        return None
    if text is None:
        return _defect(record, "null_text", f"`{name}` is null")
    media = options.labelled.media
    if media is not None:
        lacking = f"neither `{media}` nor `{name}` holds anything; fields: {_names(record)}"
        return _defect(record, "missing_media", lacking)
    return _defect(record, "missing_text", f"no field `{name}`; fields: {_names(record)}")


def _published(fields: dict[str, Any], taken: set[str | None]) -> datetime | None:
    if (value := fields.get("published")) is None or "published" in taken:
        return None
    published = parse_published(value)
    if published is not None:
        taken.add("published")
    return published


def _string(fields: dict[str, Any], name: str, taken: set[str | None]) -> str | None:
    """The field of this name where it is a string; it then gets its own column and is left out of `meta`."""
    found = fields.get(name)
    if type(found) is not str or name in taken or not is_encodable(found):
        return None
    taken.add(name)
    return found


def _key(name: str) -> str:
    return name if is_encodable(name) else printable(name)


def _label(value: Any) -> str | None:
    if value is None or (type(value) is str and is_encodable(value)):
        return value
    return json_value(value)


def _names(record: Record) -> str:
    return printable(", ".join(sorted(record.fields)), 120) or "none"


def _defect(record: Record, reason: str, detail: str) -> Defect:
    return Defect(record.position, record.locator, reason, printable(detail))
