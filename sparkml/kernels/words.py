"""Words of a batch of documents: the one pass that the quality rules, the repetition rules and MinHash share.

A word is a token of spaCy's blank English tokenizer: white space parts the text, punctuation comes off both ends of
what stands between, hyphens, slashes and the like part it inside, contractions come apart (do|n't), abbreviations
(e.g.), numbers (3.14), links and faces stay whole. White space alone is no word. Where it differs from spaCy:

- letters and their case are Unicode's, not spaCy's list of scripts;
- links are recognised by a plain grammar of host, port and path, not by spaCy's regular expression;
- units after a number (10km) are the Latin ones;
- special words inside a longer run are found from the left, not the longest in the run first.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparkml.kernels import characters, english
from sparkml.kernels.affixes import UNIT_SLOTS, infix_length, is_digit, is_link, prefix_length, suffix_length
from sparkml.kernels.characters import ALPHABETIC, BOUNDARY, PUNCTUATION, SPACE
from sparkml.kernels.compiled import as_int, kernel, part
from sparkml.kernels.rolling import BASE, ONE, hash_word, home_slot, slot_of
from sparkml.kernels.texts import Texts
from sparkml.kernels.utf8 import decode

HAS_LETTER = 1  # at least one alphabetic character
ONLY_PUNCTUATION = 2  # nothing but punctuation: no word to the Gopher rules

_SPECIAL_BYTES = 16  # the longest special word
_SPECIAL_SLOTS = 4096
_CLOSING_MARKS = sum(1 << ord(mark) for mark in "!),.:;?")
_JOINED_WORDS = 5  # the most words that a special word inside a run is made of


# Columns of the table of words, one row a word: numba passes one plain array faster than records or tuples.
START, END = 0, 1  # byte positions in the batch
HASH = 2  # polynomial over the word's bytes (`rolling.hash_word`), the bits of a uint64
SHAPE = 3  # code points x 4 + kind

Bytes = NDArray[np.uint8]
Longs = NDArray[np.int64]
Hashes = NDArray[np.uint64]
Lengths = NDArray[np.uint32]
Flags = NDArray[np.uint16]


class Words(NamedTuple):
    """Words of n documents; word w belongs to document d where `offsets[d] <= w < offsets[d + 1]`."""

    offsets: Longs  # int64[n + 1]
    table: Longs  # int64[words, 4], see START, END, HASH, SHAPE
    doc_chars: Longs  # int64[n]: code points of the whole document

    @property
    def chars(self) -> Longs:
        """Code points of each word."""
        return self.table[:, SHAPE] >> 2

    @property
    def kinds(self) -> Longs:
        """HAS_LETTER | ONLY_PUNCTUATION of each word."""
        return self.table[:, SHAPE] & 3

    @property
    def hashes(self) -> Hashes:
        """Hash of each word's bytes, see `rolling.hash_word`."""
        return self.table[:, HASH].view(np.uint64)


class Lookups(NamedTuple):
    """What the scan looks up."""

    flags: Flags  # kinds of characters, uint16[0x110000]
    keys: Hashes  # open hash table of the special words
    parts: Lengths  # of the special word in the same slot: bytes of its three parts, 8 bits each
    openings: Lengths  # of each first byte, the lengths of special words: bit n for n bytes
    units: Hashes  # open hash table of the units


class Memory:
    """Working memory that later batches use again: fresh pages cost more than the scan itself."""

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[Any]] = {}

    def array(self, name: str, rows: int, columns: int, kind: type[np.generic]) -> NDArray[Any]:
        """At least `rows` x `columns` of this type, the content unspecified."""
        held = self._arrays.get(name)
        if held is None or len(held) < rows:
            held = self._arrays[name] = np.empty((rows, columns), kind)
        return held


def find_words(texts: Texts, memory: Memory | None = None) -> Words:
    """The words of a batch of documents; with `memory`, they are good until the next call with the same memory."""
    memory, docs = memory or Memory(), len(texts.offsets) - 1
    # Never more words than bytes; memory that is not touched costs nothing.
    table = memory.array("words", int(texts.offsets[-1] - texts.offsets[0]), 4, np.int64)
    longest = int(np.diff(texts.offsets).max(initial=0))
    scratch = memory.array("run", longest + 1, 3, np.int64)
    doc_words, doc_chars = np.zeros(docs + 1, np.int64), np.zeros(docs, np.int64)
    count = scan_words(texts.data, texts.offsets, *lookups(), scratch, table, doc_words, doc_chars)
    return Words(doc_words, table[:count], doc_chars)


def count_proper_words(words: Words) -> NDArray[np.float64]:
    """Of each document the words that are not wholly punctuation, float64[n]."""
    proper = np.concatenate([[0], np.cumsum(words.kinds & ONLY_PUNCTUATION == 0)])
    return np.diff(proper[words.offsets]).astype(np.float64)


@lru_cache(maxsize=1)
def lookups() -> Lookups:
    """Tables of the scan, built once per process."""
    keys, parts = np.zeros(_SPECIAL_SLOTS, np.uint64), np.zeros(_SPECIAL_SLOTS, np.uint32)
    openings = np.zeros(256, np.uint32)
    for word, pieces in english.special_words().items():
        coded = word.encode()
        slot = _add_key(keys, word)
        parts[slot] = sum(len(piece.encode()) << 8 * index for index, piece in enumerate(pieces))
        openings[coded[0]] |= 1 << len(coded)
    units = np.zeros(UNIT_SLOTS, np.uint64)
    for unit in english.units():
        _add_key(units, unit)
    return Lookups(characters.flags_table(), keys, parts, openings, units)


def _add_key(keys: Hashes, word: str) -> int:
    value = hash_word(word)
    slot = home_slot(value, len(keys) - 1)
    while keys[slot] not in (0, value):
        slot = (slot + 1) & (len(keys) - 1)
    keys[slot] = value
    return slot


@kernel
def scan_words(
    data: Bytes,
    offsets: Longs,
    flags: Flags,
    keys: Hashes,
    parts: Lengths,
    openings: Lengths,
    units: Hashes,
    scratch: Longs,
    out: Longs,
    doc_words: Longs,
    doc_chars: Longs,
) -> int:
    """Write the words of every document to `out`; how many there are."""
    count = 0
    for doc in range(len(offsets) - 1):
        at, end, chars = offsets[doc], offsets[doc + 1], 0
        while at < end:
            if data[at] == 32:
                at, chars = at + 1, chars + 1
                continue
            stop, value = letters(data, at, end)
            mark = closing_mark(data, stop, end)
            if stop > at and mark >= 0 and is_plain(data, keys, openings, at, stop, value, mark):
                put(out, count, at, stop, stop - at, HAS_LETTER, value)
                count, chars, at = count + 1, chars + stop - at, stop
                if mark:
                    put(out, count, at, at + 1, 1, ONLY_PUNCTUATION, np.uint64(data[at]) + ONE)
                    count, chars, at = count + 1, chars + 1, at + 1
                continue
            stop, length, plain, kind, value = scan_run(data, at, end, flags)
            if length == 0:
                chars, at = chars + 1, at + (1 if data[at] < 0x80 else decode(data, at, end)[1])
                continue
            chars += length
            if plain and find_special(data, keys, openings, at, stop) < 0:
                put(out, count, at, stop, length, kind, value)
                count += 1
            else:
                count = split_run(
                    data, flags, keys, parts, openings, units, at, stop, length, scratch, out, count
                )
            at = stop
        doc_words[doc + 1], doc_chars[doc] = count, chars
    return count


@part
def letters(data: Bytes, at: int, end: int) -> tuple[int, np.uint64]:
    """End and hash of the ASCII letters that start here."""
    value = np.uint64(0)
    while at < end and np.uint8((data[at] | np.uint8(32)) - np.uint8(97)) < 26:
        value = value * BASE + np.uint64(data[at]) + ONE
        at += 1
    return at, value


@part
def closing_mark(data: Bytes, at: int, end: int) -> int:
    """0 where a plain space, a line feed or the end follows the letters, the mark where one mark stands between.

    -1: something else follows, and the full rules decide.
    """
    if at >= end or data[at] == 32 or data[at] == 10:
        return 0
    mark = as_int(data[at])
    if at + 1 < end and data[at + 1] != 32 and data[at + 1] != 10:
        return -1
    return mark if mark == 44 or mark == 46 or (mark < 64 and _CLOSING_MARKS >> mark & 1) else -1


@part
def is_plain(
    data: Bytes,
    keys: Hashes,
    openings: Lengths,
    at: int,
    stop: int,
    value: np.uint64,
    mark: int,
) -> bool:
    """Whether ASCII letters are one word, and the mark after them another."""
    length = stop - at
    if length > _SPECIAL_BYTES:
        return mark != 46 or data[stop - 1] >= 97
    if openings[data[at]] >> np.uint32(length) & 1 and find_key(keys, value) >= 0:
        return False
    if mark == 0:
        return True
    if length < 3 or (mark == 46 and data[stop - 1] < 97):  # :D), F., USA.: the full rules know
        return False
    if length == _SPECIAL_BYTES or not openings[data[at]] >> np.uint32(length + 1) & 1:
        return True
    return find_key(keys, value * BASE + np.uint64(mark) + ONE) < 0


@part
def scan_run(data: Bytes, at: int, end: int, flags: Flags) -> tuple[int, int, bool, int, np.uint64]:
    """The run without white space that starts here: its end, code points, whether plain, kind and hash."""
    value, length, seen, common, digit_seen, mixed = np.uint64(0), 0, 0, 0xFFFF, False, False
    while at < end:
        byte, width = data[at], 1
        if byte < 0x80:
            flag = as_int(flags[byte])
        else:
            code, width = decode(data, at, end)
            flag = as_int(flags[code])
        if flag & SPACE:
            break
        if is_digit(byte):
            digit_seen = True
        elif digit_seen:
            mixed = True
        value = value * BASE + np.uint64(byte) + ONE
        for position in range(at + 1, at + width):
            value = value * BASE + np.uint64(data[position]) + ONE
        seen |= flag
        common &= flag
        at += width
        length += 1
    return at, length, not (seen & BOUNDARY or mixed), kind_of(seen, common), value


@part
def kind_of(seen: int, common: int) -> int:
    """Kind of a word from the flags that any, and that all of its characters have."""
    return (HAS_LETTER if seen & ALPHABETIC else 0) | (ONLY_PUNCTUATION if common & PUNCTUATION else 0)


@part
def read_codes(data: Bytes, at: int, end: int, codes: Longs, positions: Longs) -> None:
    """Code points of a run and the byte at which each starts; one position more, for the end."""
    count = 0
    while at < end:
        positions[count] = at
        codes[count], width = decode(data, at, end)
        count, at = count + 1, at + width
    positions[count] = end


@part
def find_special(data: Bytes, keys: Hashes, openings: Lengths, start: int, end: int) -> int:
    """Slot of the special word that these bytes are, -1 if none."""
    length = end - start
    if length <= 0 or length > _SPECIAL_BYTES or not openings[data[start]] >> np.uint32(length) & 1:
        return -1
    value = np.uint64(0)
    for at in range(start, end):
        value = value * BASE + np.uint64(data[at]) + ONE
    return find_key(keys, value)


@part
def find_key(keys: Hashes, value: np.uint64) -> int:
    """Slot of the special word with this hash, -1 if there is none."""
    slot = slot_of(value, _SPECIAL_SLOTS - 1)
    while keys[slot] != 0:
        if keys[slot] == value:
            return slot
        slot = (slot + 1) & (_SPECIAL_SLOTS - 1)
    return -1


@part
def split_run(
    data: Bytes,
    flags: Flags,
    keys: Hashes,
    parts: Lengths,
    openings: Lengths,
    units: Hashes,
    at: int,
    stop: int,
    high: int,
    scratch: Longs,
    out: Longs,
    count: int,
) -> int:
    """Write the words of a run of `high` characters that is no plain word; `scratch` is room. The words so far."""
    codes, positions, ends = scratch[:, 0], scratch[:, 1], scratch[:, 2]
    low, suffixes, first = 0, 0, count
    read_codes(data, at, stop, codes, positions)
    while low < high and find_special(data, keys, openings, positions[low], positions[high]) < 0:
        before = prefix_length(codes, flags, low, high)
        special = (
            before > 0 and find_special(data, keys, openings, positions[low + before], positions[high]) >= 0
        )
        after = 0
        if not special and low + before < high:
            after = suffix_length(codes, flags, units, low + before, high)
            if after and find_special(data, keys, openings, positions[low], positions[high - after]) >= 0:
                before, special = 0, True
        if before == 0 and after == 0:
            break
        if before:
            count = put_word(data, flags, positions[low], positions[low + before], out, count)
            low += before
        if after:
            ends[suffixes] = positions[high]
            suffixes, high = suffixes + 1, high - after
        if special:
            break
    if low < high:
        count = split_middle(data, flags, keys, parts, openings, codes, positions, low, high, out, count)
    start = positions[high]
    for index in range(suffixes - 1, -1, -1):
        count = put_word(data, flags, start, ends[index], out, count)
        start = ends[index]
    return join_special(data, flags, keys, parts, openings, out, first, count)


@part
def split_middle(
    data: Bytes,
    flags: Flags,
    keys: Hashes,
    parts: Lengths,
    openings: Lengths,
    codes: Longs,
    positions: Longs,
    low: int,
    high: int,
    out: Longs,
    count: int,
) -> int:
    """Write the words of a run whose prefixes and suffixes are gone. The words so far."""
    slot = find_special(data, keys, openings, positions[low], positions[high])
    if slot >= 0:
        return put_parts(data, flags, parts, slot, positions[low], out, count)
    start, at, checked = low, low, False
    while at < high:
        length = infix_length(codes, flags, low, at, high)
        if length == 0:
            at += 1
            continue
        if not checked and is_link(codes, flags, low, high):
            break
        checked = True
        if at > low:
            if at > start:
                count = put_word(data, flags, positions[start], positions[at], out, count)
            count = put_word(data, flags, positions[at], positions[at + length], out, count)
            start = at + length
        at += length
    if start < high:
        count = put_word(data, flags, positions[start], positions[high], out, count)
    return count


@part
def put_parts(
    data: Bytes, flags: Flags, parts: Lengths, slot: int, start: int, out: Longs, count: int
) -> int:
    """Write the parts of a special word. The words so far."""
    lengths = as_int(parts[slot])
    while lengths:
        count = put_word(data, flags, start, start + (lengths & 0xFF), out, count)
        start, lengths = start + (lengths & 0xFF), lengths >> 8
    return count


@part
def join_special(
    data: Bytes,
    flags: Flags,
    keys: Hashes,
    parts: Lengths,
    openings: Lengths,
    out: Longs,
    first: int,
    count: int,
) -> int:
    """Put special words together again that affixes took apart: `(sad:(` holds a face. The words so far."""
    read = write = first
    while read < count:
        slot, wide = -1, min(_JOINED_WORDS, count - read)
        while wide > 1:
            slot = find_special(data, keys, openings, out[read, START], out[read + wide - 1, END])
            # With more parts than words there is no room before the next word.
            if slot >= 0 and (wide > 2 or parts[slot] < 1 << 16):
                break
            slot, wide = -1, wide - 1
        if slot >= 0:
            write = put_parts(data, flags, parts, slot, out[read, START], out, write)
        else:
            if write < read:
                for column in range(4):
                    out[write, column] = out[read, column]
            write += 1
        read += wide
    return write


@part
def put_word(data: Bytes, flags: Flags, start: int, end: int, out: Longs, at: int) -> int:
    """Measure one word and write it; the position of the next."""
    _, length, _, kind, value = scan_run(data, start, end, flags)
    put(out, at, start, end, length, kind, value)
    return at + 1


@part
def put(out: Longs, at: int, start: int, end: int, chars: int, kind: int, value: np.uint64) -> None:
    """Write one word."""
    out[at, START], out[at, END], out[at, HASH], out[at, SHAPE] = (
        start,
        end,
        as_int(value),
        chars << 2 | kind,
    )
