"""Normalise text: Unicode NFC, one kind of white space, nothing invisible; lines and paragraphs stay.

What changes, in this order:

- bytes that are not UTF-8 (lone surrogates among them) become U+FFFD;
- CR LF, CR, vertical tab, form feed, NEL and the Unicode line and paragraph separators become a line feed;
- control characters, zero-width spaces, byte order marks, soft hyphens, marks of writing direction and tags are
  removed; joiners stay only between two characters beyond ASCII, where scripts and emoji need them;
- every other kind of space becomes a space; a run of spaces and tabs inside a line becomes one space, at the end of a
  line nothing; at its start it stays, because the indentation of code and lists means something;
- at most one blank line stands between two paragraphs, none at either end; the text begins with its first visible
  character;
- canonical composition (NFC): an e and its accent become one character.

Text in ASCII or already composed never leaves the compiled pass.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sparkml.kernels.characters import CODE_POINTS
from sparkml.kernels.compiled import as_int, kernel, part
from sparkml.kernels.texts import read_texts
from sparkml.kernels.utf8 import decode, sequence_length

_KEEP, _SPACE, _TAB, _BREAK, _DROP, _JOINER = 0, 1, 2, 3, 4, 5
_ACTION = 7
_MAY_COMPOSE = 8

_BREAKS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
_SPACES = (
    "\x1f \xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
)
_JOINERS = "\u200c\u200d"
_INVISIBLE = "\u00ad\u061c\u180e\u200b\u200e\u200f\ufeff" + "".join(
    map(
        chr,
        (*range(0x202A, 0x202F), *range(0x2060, 0x2065), *range(0x2066, 0x2070), *range(0xE0000, 0xE0080)),
    )
)
_HANGUL_VOWELS_AND_FINALS = (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))
_CANONICAL = (range(0xC0, 0x3100), range(0xA000, 0xAC00), range(0xF900, 0x1E000), range(0x2F800, 0x2FA20))


def normalise(column: pa.Array) -> pa.Array:
    """Normalised text of a string column, of the same type and length; a null stays null."""
    squeezed, invalid, doubtful = _squeezed(column)
    if invalid.any():
        column = _rewritten(column, invalid, compose=False)
        squeezed, _, doubtful = _squeezed(column)
    return _rewritten(squeezed, doubtful, compose=True) if doubtful.any() else squeezed


def _squeezed(column: pa.Array) -> tuple[pa.Array, NDArray[np.bool_], NDArray[np.bool_]]:
    """The column without superfluous characters, which rows are not UTF-8, and which may not be composed."""
    texts = read_texts(column)
    out = np.empty(int(texts.offsets[-1] - texts.offsets[0]), np.uint8)
    ends = np.zeros(len(column) + 1, np.int64)
    invalid, doubtful = np.zeros(len(column), np.bool_), np.zeros(len(column), np.bool_)
    squeeze(texts.data, texts.offsets, _actions(), out, ends, invalid, doubtful)
    bounds = ends if pa.types.is_large_string(column.type) else ends.astype(np.int32)
    validity = column.is_valid().buffers()[1] if column.null_count else None
    buffers = [validity, pa.py_buffer(bounds), pa.py_buffer(out[: ends[-1]])]
    return pa.Array.from_buffers(column.type, len(column), buffers), invalid, doubtful


def _rewritten(column: pa.Array, rows: NDArray[np.bool_], *, compose: bool) -> pa.Array:
    """The column with the marked rows as valid UTF-8, and composed on demand."""
    binary = pa.large_binary() if pa.types.is_large_string(column.type) else pa.binary()
    values: list[bytes | None] = column.cast(binary).to_pylist()
    for row in np.flatnonzero(rows):
        text = (values[row] or b"").decode("utf-8", "replace")
        values[row] = (unicodedata.normalize("NFC", text) if compose else text).encode()
    return pa.array(values, binary).cast(column.type)


@lru_cache(maxsize=1)
def _actions() -> NDArray[np.uint8]:
    """What happens to each code point: one of the actions, and whether it may compose with its neighbours."""
    table = np.zeros(CODE_POINTS, np.uint8)
    table[[*range(0x20), *range(0x7F, 0xA0), *map(ord, _INVISIBLE)]] = _DROP
    for action, members in ((_BREAK, _BREAKS), (_SPACE, _SPACES), (_TAB, "\t"), (_JOINER, _JOINERS)):
        table[[ord(char) for char in members]] = action
    for code in (code for block in _CANONICAL for code in block):
        char = chr(code)
        if unicodedata.combining(char) or not unicodedata.is_normalized("NFC", char):
            table[code] |= _MAY_COMPOSE
        parts = unicodedata.decomposition(char).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            table[int(parts[1], 16)] |= _MAY_COMPOSE
    table[list(_HANGUL_VOWELS_AND_FINALS)] |= _MAY_COMPOSE
    table.flags.writeable = False
    return table


@kernel
def squeeze(
    data: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    actions: NDArray[np.uint8],
    out: NDArray[np.uint8],
    ends: NDArray[np.int64],
    invalid: NDArray[np.bool_],
    doubtful: NDArray[np.bool_],
) -> None:
    """Write every document without what is invisible or superfluous; never longer than it was."""
    write = 0
    for doc in range(len(offsets) - 1):
        at, end, first = offsets[doc], offsets[doc + 1], write
        line, breaks, gap = at, 0, False
        while at < end:
            code, width = as_int(data[at]), 1
            if code >= 0x80:
                width = sequence_length(data, at, end)
                if width == 0:
                    invalid[doc] = True
                    break
                code, _ = decode(data, at, end)
                if actions[code] & _MAY_COMPOSE:
                    doubtful[doc] = True
            action = actions[code] & _ACTION
            joiner = (
                action == _JOINER
                and not gap
                and breaks == 0
                and joins(data, at, end, actions, out, first, write)
            )
            if action == _KEEP or joiner:
                if breaks:
                    write = put_breaks(out, write, breaks)
                    write = put_indentation(data, line, at, actions, out, write)
                elif gap:
                    out[write] = 32
                    write += 1
                breaks, gap = 0, False
                for position in range(at, at + width):
                    out[write] = data[position]
                    write += 1
            elif action == _BREAK:
                if code == 13 and at + 1 < end and data[at + 1] == 10:
                    width = 2
                breaks += 1 if write > first else 0
                line, gap = at + width, False
            elif action in (_SPACE, _TAB):
                gap = write > first
            at += width
        ends[doc + 1] = write


@part
def joins(
    data: NDArray[np.uint8],
    at: int,
    end: int,
    actions: NDArray[np.uint8],
    out: NDArray[np.uint8],
    first: int,
    write: int,
) -> bool:
    """Whether a joiner is between two visible characters beyond ASCII, the one before it as it was written."""
    if write == first or out[write - 1] < 0x80 or at + 3 >= end or data[at + 3] < 0x80:
        return False
    code, _ = decode(data, at + 3, end)
    return bool(actions[code] & _ACTION == _KEEP)


@part
def put_breaks(out: NDArray[np.uint8], write: int, breaks: int) -> int:
    """A line feed, or two where a paragraph begins. Where to write on."""
    out[write] = 10
    if breaks > 1:
        out[write + 1] = 10
    return write + min(breaks, 2)


@part
def put_indentation(
    data: NDArray[np.uint8],
    line: int,
    at: int,
    actions: NDArray[np.uint8],
    out: NDArray[np.uint8],
    write: int,
) -> int:
    """The spaces and tabs that a line begins with. Where to write on."""
    while line < at:
        code, width = decode(data, line, at)
        action = actions[code] & _ACTION
        if action in (_SPACE, _TAB):
            out[write] = 32 if action == _SPACE else 9
            write += 1
        line += width
    return write
