"""Signals behind the Gopher repetition rules (Rae et al. 2021, table A1): shares of a document's characters.

Paragraphs are parted by two or more line feeds in the stripped text, lines by one or more; a duplicate is any
occurrence after the first. Words are those of `words.py`. Equality is that of 64-bit hashes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparkml.kernels.characters import SPACE, flags_table
from sparkml.kernels.compiled import as_int, kernel, part
from sparkml.kernels.rolling import BASE, ONE, power, powers, slot_of
from sparkml.kernels.signals import REPEATED_GRAMS, REPETITION_SIGNALS, TOP_GRAMS
from sparkml.kernels.texts import Texts
from sparkml.kernels.utf8 import decode
from sparkml.kernels.words import END, HASH, SHAPE, START, Memory, Words

_POWERS = powers(1024)
_SEPARATOR = np.uint64(ord(" ") + 1)  # as `rolling.hash_word` counts it

# Columns of the hash table: a slot is empty unless its mark is that of the count at hand.
_KEY, _MARK, _COUNT, _FIRST = 0, 1, 2, 3
# Columns of the sums over a document's words: hash with and without spaces between them, bytes, code points.
_SPACED, _JOINED, _BYTES, _CHARS = 0, 1, 2, 3


def measure_repetition(
    texts: Texts, words: Words, memory: Memory | None = None
) -> dict[str, NDArray[np.float64]]:
    """The repetition signals of each document; 0 where it is too short for a run of n words."""
    memory = memory or Memory()
    out = np.zeros((len(REPETITION_SIGNALS), len(words.doc_chars)))
    most_words = int(np.diff(words.offsets).max(initial=0))
    most_lines = int(np.count_nonzero(texts.data[texts.offsets[0] : texts.offsets[-1]] == 10)) + 1
    slots = memory.array("grams", 2 << max(most_words, most_lines, 2).bit_length(), 4, np.int64)
    slots[:, _MARK] = 0
    sums = memory.array("sums", most_words + 1, 4, np.int64)
    mark = repeat_blocks(texts.data, texts.offsets, flags_table(), words.doc_chars, slots, out)
    repeat_grams(words.offsets, words.table, words.doc_chars, _POWERS, sums, slots, mark, out)
    return dict(zip(REPETITION_SIGNALS, out, strict=True))


@kernel
def repeat_blocks(
    data: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    flags: NDArray[np.uint16],
    doc_chars: NDArray[np.int64],
    slots: NDArray[np.int64],
    out: NDArray[np.float64],
) -> int:
    """Signals of paragraphs and lines; the last mark that was used."""
    mark = 0
    for doc in range(len(offsets) - 1):
        start, end = offsets[doc], offsets[doc + 1]
        breaks = 0
        for at in range(start, end):
            breaks += data[at] == 10
        mask = table_mask(breaks + 2)
        low, high = strip(data, start, end, flags)
        chars = max(doc_chars[doc], 1)
        blocks, repeated, length = count_repeats(data, low, high, 2, slots, mask, mark + 1)
        out[0, doc], out[1, doc] = repeated / blocks, length / chars
        blocks, repeated, length = count_repeats(data, start, end, 1, slots, mask, mark + 2)
        out[2, doc], out[3, doc] = repeated / blocks, length / chars
        mark += 2
    return mark


@part
def table_mask(entries: int) -> int:
    """Slots, less one, of a table that these entries fill to half at most."""
    size = 4
    while size < 2 * entries:
        size *= 2
    return size - 1


@part
def strip(data: NDArray[np.uint8], low: int, high: int, flags: NDArray[np.uint16]) -> tuple[int, int]:
    """The bounds of the text without white space at its ends."""
    while low < high:
        code, width = decode(data, low, high)
        if not flags[code] & SPACE:
            break
        low += width
    while low < high:
        at = high - 1
        while at > low and data[at] & 0xC0 == 0x80:
            at -= 1
        if not flags[decode(data, at, high)[0]] & SPACE:
            break
        high = at
    return low, high


@part
def count_repeats(
    data: NDArray[np.uint8],
    at: int,
    end: int,
    least_breaks: int,
    slots: NDArray[np.int64],
    mask: int,
    mark: int,
) -> tuple[int, int, int]:
    """Blocks between so many line feeds or more: how many, how many repeated, the characters of those."""
    blocks, repeated, length = 0, 0, 0
    value, chars, done = np.uint64(0), 0, False
    while not done:
        run = 0
        while at + run < end and data[at + run] == 10:
            run += 1
        done = at >= end
        if done or run >= least_breaks:
            blocks += 1
            if slots[enter(slots, mask, mark, value, 0), _COUNT] > 1:
                repeated, length = repeated + 1, length + chars
            value, chars = np.uint64(0), 0
            at += run
        else:
            value = value * BASE + np.uint64(data[at]) + ONE
            chars += data[at] & 0xC0 != 0x80
            at += 1
    return blocks, repeated, length


@part
def enter(slots: NDArray[np.int64], mask: int, mark: int, value: np.uint64, first: int) -> int:
    """Count a hash in the table; its slot."""
    slot, key = slot_of(value, mask), as_int(value)
    while slots[slot, _MARK] == mark and slots[slot, _KEY] != key:
        slot = (slot + 1) & mask
    if slots[slot, _MARK] != mark:
        slots[slot, _KEY], slots[slot, _MARK] = key, mark
        slots[slot, _COUNT], slots[slot, _FIRST] = 0, first
    slots[slot, _COUNT] += 1
    return slot


@kernel
def repeat_grams(
    doc_words: NDArray[np.int64],
    table: NDArray[np.int64],
    doc_chars: NDArray[np.int64],
    base_powers: NDArray[np.uint64],
    sums: NDArray[np.int64],
    slots: NDArray[np.int64],
    mark: int,
    out: NDArray[np.float64],
) -> None:
    """Signals of runs of n words."""
    for doc in range(len(doc_words) - 1):
        first, count = doc_words[doc], doc_words[doc + 1] - doc_words[doc]
        sum_words(table, first, count, base_powers, sums)
        mask, chars = table_mask(count), max(doc_chars[doc], 1)
        for n in TOP_GRAMS:
            mark += 1
            out[n + 2, doc] = top_gram(base_powers, sums, count, n, slots, mask, mark) / chars
        for n in REPEATED_GRAMS:
            mark += 1
            out[n + 2, doc] = repeated_grams(base_powers, sums, count, n, slots, mask, mark) / chars


@part
def sum_words(
    table: NDArray[np.int64], first: int, count: int, base_powers: NDArray[np.uint64], sums: NDArray[np.int64]
) -> None:
    """Hashes and lengths of the first 0, 1, 2 ... words, so that any run of words is a difference."""
    spaced, joined, size, chars = np.uint64(0), np.uint64(0), 0, 0
    for index in range(count + 1):
        sums[index, _SPACED], sums[index, _JOINED] = as_int(spaced), as_int(joined)
        sums[index, _BYTES], sums[index, _CHARS] = size, chars
        if index == count:
            break
        word = first + index
        length, value = table[word, END] - table[word, START], np.uint64(table[word, HASH])
        shift = power(base_powers, length)
        joined = joined * shift + value
        spaced = (spaced * shift + value) * BASE + _SEPARATOR
        size, chars = size + length, chars + (table[word, SHAPE] >> 2)


@part
def top_gram(
    base_powers: NDArray[np.uint64],
    sums: NDArray[np.int64],
    count: int,
    n: int,
    slots: NDArray[np.int64],
    mask: int,
    mark: int,
) -> int:
    """Characters in the most frequent run of n words, with spaces between, times its count; ties: the earliest."""
    best, most, earliest = 0, 0, 0
    for index in range(count - n + 1):
        size = sums[index + n, _BYTES] - sums[index, _BYTES] + n
        value = np.uint64(sums[index + n, _SPACED]) - np.uint64(sums[index, _SPACED]) * power(
            base_powers, size
        )
        slot = enter(slots, mask, mark, value, index)
        seen, first = slots[slot, _COUNT], slots[slot, _FIRST]
        if seen > most or (seen == most and first < earliest):
            most, earliest = seen, first
            best = seen * (sums[first + n, _CHARS] - sums[first, _CHARS] + n - 1)
    return best


@part
def repeated_grams(
    base_powers: NDArray[np.uint64],
    sums: NDArray[np.int64],
    count: int,
    n: int,
    slots: NDArray[np.int64],
    mask: int,
    mark: int,
) -> int:
    """Characters in runs of n words that came before; the scan jumps over such a run."""
    index, chars = 0, 0
    while index <= count - n:
        size = sums[index + n, _BYTES] - sums[index, _BYTES]
        value = np.uint64(sums[index + n, _JOINED]) - np.uint64(sums[index, _JOINED]) * power(
            base_powers, size
        )
        if slots[enter(slots, mask, mark, value, index), _COUNT] == 1:
            index += 1
        else:
            chars += sums[index + n, _CHARS] - sums[index, _CHARS]
            index += n
    return chars
