"""The labelled columns of a record: second text, tokens with tags, media, split, and what a path says."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from sparkml.sources.magic import media_type_of
from sparkml.sources.records import BadRecordError, Defect, LabelledFields, Record, is_encodable
from sparkml.sources.tags import as_iob2, first_bad_tag

SPLITS = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "t10k": "test",  # as the files of MNIST call it
}
_MEDIA_BYTES = "bytes"  # of the struct that image and audio columns of Parquet files usually are
_NO_FIELDS = LabelledFields()


class Labelled(NamedTuple):
    """What a record has besides its text and its label."""

    text_b: str | None = None
    tokens: list[str] | None = None
    tags: list[str] | None = None
    media: bytes | None = None
    media_type: str | None = None
    split: str | None = None
    path_label: str | None = None  # the label, as the path says it
    fields: tuple[str, ...] = ()  # of the record that stand in these columns
    rest: tuple[tuple[str, Any], ...] = ()  # fields that come from within them

    def columns(self) -> tuple[Any, ...]:
        """The columns of a row that stand behind its text."""
        return self[:5]

    def size(self) -> int:
        """About how many bytes it takes."""
        strings = (*(self.tokens or ()), *(self.tags or ()), self.text_b or "")
        return len(self.media or b"") + sum(map(len, strings)) + 8 * len(strings)


_NOTHING = Labelled()


def labelled_columns(record: Record, relative: str, names: LabelledFields) -> Labelled | Defect:
    """The labelled columns of a record of the file `relative`, or why they cannot be used."""
    if names == _NO_FIELDS:
        return _NOTHING
    fields = record.fields
    try:
        tokens = _strings(fields, names.tokens, "tokens_not_strings")
        media, media_type, rest = _media(fields, names.media)
        return Labelled(
            text_b=_text_b(fields, names.text_b),
            tokens=tokens,
            tags=_tags(tokens, _strings(fields, names.tags, "tags_not_strings")),
            media=media,
            media_type=media_type,
            split=_split(record, relative, names),
            path_label=_matched(names.label_pattern, record, relative),
            fields=names.fields(),
            rest=((names.media or "", rest),) if rest is not None else (),
        )
    except BadRecordError as error:
        reason, detail, value, threshold = error.why
        return Defect(record.position, record.locator, reason, detail, value, threshold)


def _text_b(fields: dict[str, Any], name: str | None) -> str | None:
    found = _field(fields, name)
    if found is None:
        return None
    if not isinstance(found, str):
        raise BadRecordError("text_b_not_a_string", f"`{name}` is {_shown(found)}")
    return _checked(found, name)


def _strings(fields: dict[str, Any], name: str | None, reason: str) -> list[str] | None:
    """A field that is a list of strings."""
    found = _field(fields, name)
    if found is None:
        return None
    if not isinstance(found, list):
        raise BadRecordError(reason, f"`{name}` is no list: {_shown(found)}")
    for index, text in enumerate(found):
        if not isinstance(text, str):
            raise BadRecordError(reason, f"item {index} of `{name}` is {_shown(text)}")
        _checked(text, name)
    return found


def _tags(tokens: list[str] | None, tags: list[str] | None) -> list[str] | None:
    if tags is None:
        return None
    if len(tags) != len(tokens or ()):
        detail = f"{len(tokens or ())} tokens, {len(tags)} tags"
        raise BadRecordError("tags_mismatch", detail, len(tags), len(tokens or ()))
    if (bad := first_bad_tag(tags)) is not None:
        raise BadRecordError("bad_tag", bad_tag(bad, tags[bad]), bad)
    return as_iob2(tags)


def bad_tag(index: int, tag: str) -> str:
    """What is wrong with a tag, in words."""
    return f"tag {index} is `{tag}`, expected O, or B-, I-, E- or S- with a kind"


def _media(
    fields: dict[str, Any], name: str | None
) -> tuple[bytes | None, str | None, dict[str, Any] | None]:
    """The bytes of a field that is bytes or a struct with `bytes`, their type, and the struct's other fields."""
    found = _field(fields, name)
    rest = None
    if isinstance(found, dict):
        rest = {key: value for key, value in found.items() if key != _MEDIA_BYTES} or None
        found = found.get(_MEDIA_BYTES, found)
        if found is None:
            raise BadRecordError("media_not_bytes", f"`{name}` holds no bytes, only {_shown(rest)}")
    if found is None:
        return None, None, None
    if not isinstance(found, bytes):
        raise BadRecordError("media_not_bytes", f"`{name}` is {_shown(found)}")
    media_type = media_type_of(found)
    if media_type is None:
        detail = f"`{name}`, {len(found)} bytes, is no image and no sound: it begins {found[:16].hex(' ')}"
        raise BadRecordError("unknown_media", detail)
    return found, media_type, rest


def _split(record: Record, relative: str, names: LabelledFields) -> str | None:
    """The field's value, else what the path says, under its usual name."""
    found = _field(record.fields, names.split)
    where = f"`{names.split}`"
    if found is None:
        found, where = _matched(names.split_pattern, record, relative), "the path's part"
    if found is None:
        return None
    known = SPLITS.get(found.strip().lower()) if isinstance(found, str) else None
    if known is None:
        raise BadRecordError(
            "unknown_split", f"{where} is {_shown(found)}, expected one of {', '.join(SPLITS)}"
        )
    return known


def _matched(pattern: str | None, record: Record, relative: str) -> str | None:
    """The pattern's group in the path inside the archive, else in the path of the file below the root."""
    if pattern is None:
        return None
    for path in (record.path, relative):
        match = re.search(pattern, path) if path is not None else None
        if match is not None and match[1] is not None:
            return match[1]
    return None


def _field(fields: dict[str, Any], name: str | None) -> Any:
    return fields.get(name) if name is not None else None


def _checked(text: str, name: str | None) -> str:
    if not is_encodable(text):
        raise BadRecordError("lone_surrogate", f"`{name}` holds half of a surrogate pair")
    return text


def _shown(value: object) -> str:
    return f"{type(value).__name__} {value!r:.100}"
