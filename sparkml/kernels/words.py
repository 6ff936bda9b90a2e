"""Words of a batch of documents: one pass that the quality and the repetition rules share.

A word is a token of spaCy's blank English tokenizer: white space separates words, punctuation comes off both ends
of what is between, hyphens, slashes and the like split it inside, contractions come apart (do|n't), abbreviations
(e.g.), numbers (3.14), links and faces stay whole. White space alone is not a word. Where it differs from spaCy:

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
from sparkml.kernels.affixes import UNIT_SLOTS
from sparkml.kernels.compiled import as_int, kernel, part
from sparkml.kernels.rolling import BASE, ONE, hash_word, home_slot
from sparkml.kernels.texts import Texts
from sparkml.kernels.utf8 import decode
from sparkml.kernels.word_splitting import (
    HAS_LETTER,
    HASH,
    ONLY_PUNCTUATION,
    SHAPE,
    SPECIAL_BYTES,
    SPECIAL_SLOTS,
    Bytes,
    Flags,
    Hashes,
    Lengths,
    Longs,
    find_key,
    find_special,
    put,
    scan_run,
    split_run,
)

_CLOSING_MARKS = sum(1 << ord(mark) for mark in "!),.:;?")


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
    """For each document the number of words that are not wholly punctuation, float64[n]."""
    proper = np.concatenate([[0], np.cumsum(words.kinds & ONLY_PUNCTUATION == 0)])
    return np.diff(proper[words.offsets]).astype(np.float64)


@lru_cache(maxsize=1)
def lookups() -> Lookups:
    """Tables of the scan, built once per process."""
    keys, parts = np.zeros(SPECIAL_SLOTS, np.uint64), np.zeros(SPECIAL_SLOTS, np.uint32)
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
    """Write the words of every document to `out`; returns how many there are."""
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
            if length == 1 or (plain and find_special(data, keys, openings, at, stop) < 0):
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
    """0 where a plain space, a line feed or the end follows the letters, the mark where one is in between.

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
    if length > SPECIAL_BYTES:
        return mark != 46 or data[stop - 1] >= 97
    if openings[data[at]] >> np.uint32(length) & 1 and find_key(keys, value) >= 0:
        return False
    if mark == 0:
        return True
    if length < 3 or (mark == 46 and data[stop - 1] < 97):  # :D), F., USA.: the full rules decide
        return False
    if length == SPECIAL_BYTES or not openings[data[at]] >> np.uint32(length + 1) & 1:
        return True
    return find_key(keys, value * BASE + np.uint64(mark) + ONE) < 0
