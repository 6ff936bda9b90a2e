"""Runs of words that a text shares with others: hashes of word n-grams, looked up in a table of them.

Words are runs of letters and digits, in lower case and without accents (as `folding` has it, but that digits stay);
what separates them does not count. A character of a script without spaces between words (Han, kana, Thai, Lao,
Khmer, Burmese) is a word of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparkml.kernels.compiled import as_int, kernel, part
from sparkml.kernels.folding import DIGIT, DROPPED, EXPANSION, SEPARATOR, fold_table
from sparkml.kernels.rolling import BASE, ONE, home_slot, slot_of
from sparkml.kernels.texts import Texts
from sparkml.kernels.utf8 import decode
from sparkml.kernels.words import Memory

U64 = NDArray[np.uint64]
Longs = NDArray[np.int64]
MOST_SETS = 64
_MASK = 0xFFFFFFFFFFFFFFFF
_START, _END, _HASH = 0, 1, 2


class GramTable(NamedTuple):
    """An open hash table of n-grams: the sets that hold one are the bits of its slot."""

    n: int
    keys: U64
    sets: U64


class Overlaps(NamedTuple):
    """What documents share. Spans are rows (document, start, end, bits of the sets), in bytes of all texts."""

    grams: NDArray[np.float64]  # n-grams of each document that are in the table
    share: NDArray[np.float64]  # words that lie in one, of all words
    spans: Longs


def word_hashes(texts: Texts, memory: Memory | None = None) -> tuple[Longs, Longs]:
    """Words of documents: int64[words, 3] (start, end, hash), and where each document's begin, int64[n + 1]."""
    memory = memory or Memory()
    fold, expansions = fold_table()
    table = memory.array("plain words", int(texts.offsets[-1] - texts.offsets[0]) + 1, 3, np.int64)
    ends = np.zeros(len(texts.offsets), np.int64)
    count = scan_plain_words(texts.data, texts.offsets, fold, expansions, table, ends)
    return table[:count], ends


def gram_table(sets: list[Texts], n: int) -> GramTable:
    """The n-grams of sets of documents, at most `MOST_SETS`."""
    found: dict[int, int] = {}
    for bit, texts in enumerate(sets):
        words, ends = word_hashes(texts)
        grams = np.zeros(max(len(words), 1), np.uint64)
        for gram in np.unique(grams[: hash_grams(words, ends, n, grams)]).tolist():
            found[gram] = found.get(gram, 0) | 1 << bit
    slots = 1 << max(4, (2 * len(found)).bit_length())
    keys, bits = np.zeros(slots, np.uint64), np.zeros(slots, np.uint64)
    for gram, held in found.items():
        slot = home_slot(gram, slots - 1)
        while bits[slot]:
            slot = (slot + 1) & (slots - 1)
        keys[slot], bits[slot] = gram, held
    return GramTable(n, keys, bits)


def find_overlaps(texts: Texts, table: GramTable, memory: Memory | None = None) -> Overlaps:
    """Which runs of words of each document are in the table."""
    words, ends = word_hashes(texts, memory)
    docs = len(texts.offsets) - 1
    grams, share = np.zeros(docs), np.zeros(docs)
    spans = np.empty((max(len(words), 1), 4), np.int64)
    count = scan_overlaps(words, ends, table.n, table.keys, table.sets, grams, share, spans)
    return Overlaps(grams, share, spans[:count].copy())


@kernel
def scan_plain_words(
    data: NDArray[np.uint8],
    offsets: Longs,
    fold: NDArray[np.int32],
    expansions: NDArray[np.int32],
    out: Longs,
    ends: Longs,
) -> int:
    """Write the words of every document to `out`; returns how many there are."""
    count = 0
    for doc in range(len(offsets) - 1):
        at, end = offsets[doc], offsets[doc + 1]
        begin, value = -1, np.uint64(0)
        while at < end:
            code, width = as_int(data[at]), 1
            if code >= 0x80:
                code, width = decode(data, at, end)
            folded = as_int(fold[code])
            if folded == SEPARATOR or stands_alone(code):
                if begin >= 0:
                    out[count, _START], out[count, _END], out[count, _HASH] = begin, at, np.int64(value)
                    count, begin, value = count + 1, -1, np.uint64(0)
                if folded != SEPARATOR:
                    value = np.uint64(code) + ONE
                    out[count, _START], out[count, _END], out[count, _HASH] = at, at + width, np.int64(value)
                    count, value = count + 1, np.uint64(0)
            elif folded != DROPPED:
                if begin < 0:
                    begin = at
                if folded <= EXPANSION:
                    place = EXPANSION - folded
                    for step in range(1, as_int(expansions[place]) + 1):
                        value = value * BASE + np.uint64(expansions[place + step]) + ONE
                else:
                    value = value * BASE + np.uint64(code if folded == DIGIT else folded) + ONE
            at += width
        if begin >= 0:
            out[count, _START], out[count, _END], out[count, _HASH] = begin, end, np.int64(value)
            count += 1
        ends[doc + 1] = count
    return count


@part
def stands_alone(code: int) -> bool:
    """Whether this is a character of a script that has no spaces between words."""
    if code < 0x0E00:
        return False
    return bool(
        code < 0x0F00  # Thai, Lao
        or (code >= 0x1000 and code < 0x10A0)  # Burmese
        or (code >= 0x1780 and code < 0x1800)  # Khmer
        or (code >= 0x3040 and code < 0x3100)  # kana
        or (code >= 0x3400 and code < 0xA000)  # Han
        or (code >= 0xF900 and code < 0xFB00)
        or (code >= 0x20000 and code < 0x32000)
    )


@part
def gram_at(words: Longs, first: int, n: int) -> np.uint64:
    """The hash of n words."""
    value = np.uint64(0)
    for word in range(first, first + n):
        value = (value * BASE + np.uint64(words[word, _HASH]) + ONE) * BASE
    return value


@kernel
def hash_grams(words: Longs, ends: Longs, n: int, out: U64) -> int:
    """Write the hash of every n-gram of every document to `out`; returns how many there are."""
    count = 0
    for doc in range(len(ends) - 1):
        for first in range(ends[doc], ends[doc + 1] - n + 1):
            out[count] = gram_at(words, first, n)
            count += 1
    return count


@kernel
def scan_overlaps(
    words: Longs,
    ends: Longs,
    n: int,
    keys: U64,
    sets: U64,
    grams: NDArray[np.float64],
    share: NDArray[np.float64],
    spans: Longs,
) -> int:
    """Count the n-grams that are in the table, and write the spans that they cover; returns how many those are."""
    count, mask = 0, len(keys) - 1
    for doc in range(len(ends) - 1):
        covered, last = 0, -1  # words in spans; the word behind the last span
        for first in range(ends[doc], ends[doc + 1] - n + 1):
            value = gram_at(words, first, n)
            slot = slot_of(value, mask)
            while sets[slot] != 0 and keys[slot] != value:
                slot = (slot + 1) & mask
            if sets[slot] == 0:
                continue
            grams[doc] += 1
            held = np.int64(sets[slot])
            if first <= last and last >= 0:
                spans[count - 1, 2] = words[first + n - 1, _END]
                spans[count - 1, 3] |= held
                covered += first + n - last
            else:
                spans[count, 0], spans[count, 1] = doc, words[first, _START]
                spans[count, 2], spans[count, 3] = words[first + n - 1, _END], held
                count, covered = count + 1, covered + n
            last = first + n
        total = ends[doc + 1] - ends[doc]
        share[doc] = covered / total if total else 0.0
    return count
