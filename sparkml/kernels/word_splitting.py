"""Words of one run of text without white space: affixes come off, links and special words stay whole.

The rules of `words`; each word is written into its table. A run that is one plain word does not come here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparkml.kernels.affixes import infix_length, is_digit, is_link, prefix_length, suffix_length
from sparkml.kernels.characters import ALPHABETIC, BOUNDARY, PUNCTUATION, SPACE
from sparkml.kernels.compiled import as_int, part
from sparkml.kernels.rolling import BASE, ONE, slot_of
from sparkml.kernels.utf8 import decode

HAS_LETTER = 1  # at least one alphabetic character
ONLY_PUNCTUATION = 2  # nothing but punctuation: not a word to the Gopher rules

SPECIAL_BYTES = 16  # the longest special word
SPECIAL_SLOTS = 4096
_JOINED_WORDS = 5  # the most words that a special word inside a run is made of


# Columns of the table of words, one row per word: numba passes one plain array faster than records or tuples.
START, END = 0, 1  # byte positions in the batch
HASH = 2  # polynomial over the word's bytes (`rolling.hash_word`), the bits of a uint64
SHAPE = 3  # code points x 4 + kind

Bytes = NDArray[np.uint8]
Longs = NDArray[np.int64]
Hashes = NDArray[np.uint64]
Lengths = NDArray[np.uint32]
Flags = NDArray[np.uint16]


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
    if length <= 0 or length > SPECIAL_BYTES or not openings[data[start]] >> np.uint32(length) & 1:
        return -1
    value = np.uint64(0)
    for at in range(start, end):
        value = value * BASE + np.uint64(data[at]) + ONE
    return find_key(keys, value)


@part
def find_key(keys: Hashes, value: np.uint64) -> int:
    """Slot of the special word with this hash, -1 if there is none."""
    slot = slot_of(value, SPECIAL_SLOTS - 1)
    while keys[slot] != 0:
        if keys[slot] == value:
            return slot
        slot = (slot + 1) & (SPECIAL_SLOTS - 1)
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
    """Write the words of a run of `high` characters that is not a plain word; returns the number of words so far.

    `scratch` is working memory.
    """
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
    """Write the words of a run whose prefixes and suffixes are gone; returns the number of words so far."""
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
    """Write the parts of a special word; returns the number of words so far."""
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
    """Join special words that affixes took apart: `(sad:(` holds a face. Returns the number of words so far."""
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
    """Measure one word and write it; returns the position of the next."""
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
