"""Signals behind the Gopher repetition rules (Rae et al. 2021, table A1): shares of a document's characters.

Paragraphs are separated by two or more line feeds in the stripped text, lines by one or more; a duplicate is any
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
from sparkml.kernels.word_splitting import END, HASH, SHAPE, START
from sparkml.kernels.words import Memory, Words

_POWERS = powers(1024)
_SEPARATOR = np.uint64(ord(" ") + 1)  # as `rolling.hash_word` counts it

# Columns of the sums over a document's words: hash with and without spaces between them, bytes, code points.
_SPACED, _JOINED, _BYTES, _CHARS = 0, 1, 2, 3
_COUNT_BITS = 32
_COUNT = 1 << _COUNT_BITS  # a slot of the most frequent runs holds count x _COUNT + first occurrence


def measure_repetition(
    texts: Texts, words: Words, memory: Memory | None = None
) -> dict[str, NDArray[np.float64]]:
    """The repetition signals of each document; 0 where it is too short for a run of n words."""
    memory = memory or Memory()
    out = np.zeros((len(REPETITION_SIGNALS), len(words.doc_chars)))
    most_words = int(np.diff(words.offsets).max(initial=0))
    most_lines = int(np.count_nonzero(texts.data[texts.offsets[0] : texts.offsets[-1]] == 10)) + 1
    slots = 2 << max(most_words, most_lines, 2).bit_length()
    keys = memory.array("grams", slots, 1, np.uint64).reshape(-1)
    counts = memory.array("counts", slots, 1, np.int64).reshape(-1)
    sums = memory.array("sums", most_words + 1, 4, np.int64)
    repeat_blocks(texts.data, texts.offsets, flags_table(), words.doc_chars, keys, out)
    repeat_grams(words.offsets, words.table, words.doc_chars, _POWERS, sums, keys, counts, out)
    return dict(zip(REPETITION_SIGNALS, out, strict=True))


@kernel
def repeat_blocks(
    data: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    flags: NDArray[np.uint16],
    doc_chars: NDArray[np.int64],
    keys: NDArray[np.uint64],
    out: NDArray[np.float64],
) -> None:
    """Signals of paragraphs and lines."""
    for doc in range(len(offsets) - 1):
        start, end, breaks = offsets[doc], offsets[doc + 1], 0
        for at in range(start, end):
            breaks += data[at] == 10
        low, high = strip(data, start, end, flags)
        mask, chars = table_mask(breaks + 2), max(doc_chars[doc], 1)
        blocks, repeated, length = count_repeats(data, low, high, 2, keys, mask)
        out[0, doc], out[1, doc] = repeated / blocks, length / chars
        blocks, repeated, length = count_repeats(data, start, end, 1, keys, mask)
        out[2, doc], out[3, doc] = repeated / blocks, length / chars


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
    data: NDArray[np.uint8], at: int, end: int, least_breaks: int, keys: NDArray[np.uint64], mask: int
) -> tuple[int, int, int]:
    """Blocks between this many line feeds or more: how many, how many repeated, the characters of those."""
    blocks, repeated, length = 0, 0, 0
    value, chars, done = ONE, 0, False
    clear(keys, mask)
    while not done:
        run = 0
        while at + run < end and data[at + run] == 10:
            run += 1
        done = at >= end
        if done or run >= least_breaks:
            blocks += 1
            slot = find_slot(keys, mask, value)
            if keys[slot]:
                repeated, length = repeated + 1, length + chars
            keys[slot] = value
            value, chars = ONE, 0
            at += run
        else:
            value = value * BASE + np.uint64(data[at]) + ONE
            chars += data[at] & 0xC0 != 0x80
            at += 1
    return blocks, repeated, length


@part
def table_mask(entries: int) -> int:
    """Slots, less one, of a table that these entries fill to half at most."""
    size = 4
    while size < 2 * entries:
        size *= 2
    return size - 1


@part
def clear(keys: NDArray[np.uint64], mask: int) -> None:
    """Empty the slots of a table."""
    for slot in range(mask + 1):
        keys[slot] = 0


@part
def find_slot(keys: NDArray[np.uint64], mask: int, value: np.uint64) -> int:
    """The slot of a hash, or the empty one where it belongs."""
    slot = slot_of(value, mask)
    while keys[slot] and keys[slot] != value:
        slot = (slot + 1) & mask
    return slot


@kernel
def repeat_grams(
    doc_words: NDArray[np.int64],
    table: NDArray[np.int64],
    doc_chars: NDArray[np.int64],
    base_powers: NDArray[np.uint64],
    sums: NDArray[np.int64],
    keys: NDArray[np.uint64],
    counts: NDArray[np.int64],
    out: NDArray[np.float64],
) -> None:
    """Signals of runs of n words."""
    for doc in range(len(doc_words) - 1):
        first, count = doc_words[doc], doc_words[doc + 1] - doc_words[doc]
        sum_words(table, first, count, base_powers, sums)
        mask, chars = table_mask(count), max(doc_chars[doc], 1)
        for n in TOP_GRAMS:
            out[n + 2, doc] = top_gram(base_powers, sums, count, n, keys, counts, mask) / chars
        for n in REPEATED_GRAMS:
            out[n + 2, doc] = repeated_grams(base_powers, sums, count, n, keys, mask) / chars


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
    keys: NDArray[np.uint64],
    counts: NDArray[np.int64],
    mask: int,
) -> int:
    """Characters in the most frequent run of n words, with spaces between, times its count; ties: the earliest."""
    most, earliest = 0, 0
    clear(keys, mask)
    for index in range(count - n + 1):
        size = sums[index + n, _BYTES] - sums[index, _BYTES] + n
        before = np.uint64(sums[index, _SPACED]) * power(base_powers, size)
        value = np.uint64(sums[index + n, _SPACED]) - before
        slot = find_slot(keys, mask, value)
        if keys[slot]:
            counts[slot] += _COUNT
        else:
            keys[slot], counts[slot] = value, _COUNT + index
        seen, first = counts[slot] >> _COUNT_BITS, counts[slot] & (_COUNT - 1)
        if seen > most or (seen == most and first < earliest):
            most, earliest = seen, first
    if most == 0:
        return 0
    return int(most * (sums[earliest + n, _CHARS] - sums[earliest, _CHARS] + n - 1))


@part
def repeated_grams(
    base_powers: NDArray[np.uint64],
    sums: NDArray[np.int64],
    count: int,
    n: int,
    keys: NDArray[np.uint64],
    mask: int,
) -> int:
    """Characters in runs of n words that repeat an earlier run; the scan jumps over such a run."""
    index, chars = 0, 0
    clear(keys, mask)
    while index <= count - n:
        size = sums[index + n, _BYTES] - sums[index, _BYTES]
        before = np.uint64(sums[index, _JOINED]) * power(base_powers, size)
        value = np.uint64(sums[index + n, _JOINED]) - before
        slot = find_slot(keys, mask, value)
        if keys[slot]:
            chars += sums[index + n, _CHARS] - sums[index, _CHARS]
            index += n
        else:
            keys[slot] = value
            index += 1
    return chars
