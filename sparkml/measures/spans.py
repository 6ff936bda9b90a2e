"""Spans of tagged tokens, as the CoNLL-2000 script and seqeval's default mode read them.

Tags are `O`, or `B-`, `I-`, `E-`, `S-` and a type; a bare letter has the type `_`. Sequences that no scheme allows are
read as the script does: an `I-` after `O`, or after another type, starts a span; `E-` and `S-` end one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sparkml.errors import InputError
from sparkml.measures.arrays import I64, Flags

Tags = Sequence[Sequence[str]]  # a sequence of tags a row

_OUTSIDE = "O"
_BEGIN, _INSIDE, _END, _SINGLE, _NONE = range(5)
_KINDS = {"B": _BEGIN, "I": _INSIDE, "E": _END, "S": _SINGLE, _OUTSIDE: _NONE}


class Span(NamedTuple):
    """Tokens `start` up to, but without, `end` of one row, and their type."""

    label: str
    start: int
    end: int


@dataclass(frozen=True)
class SpanArrays:
    """All spans of many rows, in order: row, type (an index), first token and the token after the last, int64[m]."""

    row: I64
    label: I64
    start: I64
    end: I64

    def __len__(self) -> int:
        return len(self.row)


def spans_of(tags: Sequence[str]) -> list[Span]:
    """The spans of one row's tags, in order."""
    labels, spans = decode([tags])
    bounds = zip(spans.label.tolist(), spans.start.tolist(), spans.end.tolist(), strict=True)
    return [Span(labels[label], start, end) for label, start, end in bounds]


def decode(rows: Tags) -> tuple[list[str], SpanArrays]:
    """The types, sorted, and all spans of the rows, with indices of these types."""
    flat: list[str] = []
    for tags in rows:
        flat.extend(tags)
        flat.append(_OUTSIDE)  # ends what is open, so that all rows are read as one
    vocabulary = sorted(set(flat), key=str)
    kinds, types, labels = _read_vocabulary(vocabulary, rows)
    number = {tag: index for index, tag in enumerate(vocabulary)}
    codes = np.fromiter(map(number.__getitem__, flat), np.int64, len(flat))
    starts, ends = _boundaries(kinds[codes], types[codes])
    places = np.arange(len(flat))
    begun = np.maximum.accumulate(np.where(starts, places, 0))
    after = np.flatnonzero(ends)
    lengths = np.fromiter(map(len, rows), np.int64, len(rows)) + 1
    offsets = np.cumsum(lengths) - lengths
    row = np.repeat(np.arange(len(rows)), lengths)[after - 1]
    first = offsets[row]
    used, label = np.unique(types[codes[after - 1]], return_inverse=True)
    spans = SpanArrays(row, label.astype(np.int64), begun[after - 1] - first, after - first)
    return [labels[index] for index in used], spans


def _boundaries(kind: I64, label: I64) -> tuple[Flags, Flags]:
    """Where a span starts, and where one has ended before the token: the rules of the CoNLL-2000 script."""
    before = np.empty_like(kind)
    before[:1], before[1:] = _NONE, kind[:-1]
    changed = np.ones(len(kind), bool)
    changed[1:] = label[1:] != label[:-1]
    within = (before == _BEGIN) | (before == _INSIDE)
    opens = (kind == _BEGIN) | (kind == _SINGLE)
    ended = (before == _END) | (before == _SINGLE)
    ends = ended | (within & (opens | (kind == _NONE))) | ((before != _NONE) & changed)
    continues = (kind == _INSIDE) | (kind == _END)
    starts = opens | (continues & (ended | (before == _NONE))) | ((kind != _NONE) & changed)
    return starts, ends


def _read_vocabulary(vocabulary: list[str], rows: Tags) -> tuple[I64, I64, list[str]]:
    """Kind and type of every distinct tag, and the names of the types; InputError for what is no tag."""
    names = []
    for tag in vocabulary:
        if not _is_tag(tag):
            row = next(index for index, tags in enumerate(rows) if tag in tags)
            raise InputError(
                "not a tag of IOB2 or IOBES",
                where=f"row {row}",
                got=repr(tag),
                expected="O, or B-, I-, E- or S- followed by a type",
                next_action="write tags such as B-PER, or map the data's own scheme first",
            )
        names.append(tag[2:] or "_")
    labels = sorted(set(names))
    number = {label: index for index, label in enumerate(labels)}
    kinds = np.array([_KINDS[tag[0]] for tag in vocabulary], np.int64)
    return kinds, np.array([number[name] for name in names], np.int64), labels


def _is_tag(tag: str) -> bool:
    if not isinstance(tag, str) or tag == _OUTSIDE:
        return tag == _OUTSIDE
    return tag[:1] in "BIES" and tag[1:2] in ("", "-") and tag != ""
