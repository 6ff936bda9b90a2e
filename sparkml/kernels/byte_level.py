"""Byte-level tokenizers: the words that a tokenizer's model sees one by one, cut and looked up, compiled.

GPT-2's pattern, which `ByteLevel` of Hugging Face's tokenizers has, cuts a text into words:

    's|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+

What the model makes of a word follows from the word alone, and most words of a text have come before. So each distinct
word goes to the tokenizer once, and its ids are kept.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparkml.kernels.characters import CODE_POINTS
from sparkml.kernels.compiled import as_int, kernel, part
from sparkml.kernels.utf8 import decode

# UNKNOWN: this Python's Unicode has no such character; the tokenizer's may.
OTHER, LETTER, NUMBER, SPACE, UNKNOWN = 0, 1, 2, 3, 4
# Unicode's White_Space.
_WHITE = (
    0x09,
    0x0A,
    0x0B,
    0x0C,
    0x0D,
    0x20,
    0x85,
    0xA0,
    0x1680,
    *range(0x2000, 0x200B),
    0x2028,
    0x2029,
    0x202F,
)
_WHITE_TOO = (0x205F, 0x3000)
_APOSTROPHE, _BLANK = 0x27, 0x20
_PRIME, _START = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xCBF29CE484222325)


@lru_cache(maxsize=1)
def classes_table() -> NDArray[np.uint8]:
    """What the pattern takes a code point for, uint8[0x110000]."""
    kinds = {"L": LETTER, "N": NUMBER}
    categories = (unicodedata.category(chr(code)) for code in range(CODE_POINTS))
    found = (UNKNOWN if name == "Cn" else kinds.get(name[0], OTHER) for name in categories)
    table = np.fromiter(found, np.uint8, CODE_POINTS)
    table[[*_WHITE, *_WHITE_TOO]] = SPACE
    table.flags.writeable = False
    return table


class Words(NamedTuple):
    """Distinct words in a hash table: word w is `keys[key_starts[w]:key_starts[w + 1]]`, `slots` hold w + 1 or 0."""

    slots: NDArray[np.int32]
    hashes: NDArray[np.uint64]
    key_starts: NDArray[np.int64]
    keys: NDArray[np.uint8]


@part
def _class(classes: Any, data: Any, at: int, end: int) -> tuple[int, int]:
    """Class of the code point at a byte, and its length."""
    code, size = decode(data, at, end)
    return as_int(classes[code]), size


@part
def _contraction(data: Any, at: int, end: int) -> int:
    """Bytes of 's, 't, 're, 've, 'm, 'll or 'd at an apostrophe; 0 where none is there."""
    if at + 1 >= end:
        return 0
    first = as_int(data[at + 1])
    if first == 0x73 or first == 0x74 or first == 0x6D or first == 0x64:
        return 2
    if at + 2 >= end:
        return 0
    second = as_int(data[at + 2])
    if (first == 0x72 or first == 0x76) and second == 0x65:
        return 3
    return 3 if first == 0x6C and second == 0x6C else 0


@part
def _run(classes: Any, data: Any, at: int, end: int, kind: int) -> int:
    """Where a run of code points of one class ends."""
    while at < end:
        found, size = _class(classes, data, at, end)
        if found != kind:
            return at
        at += size
    return at


@part
def _word_end(classes: Any, data: Any, at: int, end: int) -> int:
    """Where the word that begins at a byte ends."""
    kind, size = _class(classes, data, at, end)
    if as_int(data[at]) == _APOSTROPHE:
        short = _contraction(data, at, end)
        if short:
            return at + short
    if kind != SPACE:
        return _run(classes, data, at, end, kind)
    after = at + size
    if after >= end:
        return end
    follows, _ = _class(classes, data, after, end)
    if follows != SPACE:
        # One space of this kind joins what follows; any other stands alone.
        return _run(classes, data, after, end, follows) if as_int(data[at]) == _BLANK else after
    last = after
    while after < end:
        follows, size = _class(classes, data, after, end)
        if follows != SPACE:
            return last  # all but the last, which may join what follows
        last = after
        after += size
    return end


@part
def _equal(data: Any, start: int, words: Any, word: int, size: int) -> bool:
    first = words.key_starts[word]
    if words.key_starts[word + 1] - first != size:
        return False
    for offset in range(size):  # noqa: SIM110  # a generator is none of a kernel's things
        if data[start + offset] != words.keys[first + offset]:
            return False
    return True


@kernel
def all_known(classes: NDArray[np.uint8], data: NDArray[np.uint8], at: int, end: int) -> bool:
    """Whether the classes of all characters are known."""
    while at < end:
        if data[at] < 0x80:
            at += 1
            continue
        kind, size = _class(classes, data, at, end)
        if kind == UNKNOWN:
            return False
        at += size
    return True


@kernel
def find_words(
    classes: NDArray[np.uint8],
    data: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    words: Words,
    n_words: int,
    found: NDArray[np.int32],
    ends: NDArray[np.int64],
) -> int:
    """Which words the texts consist of, one after the other, into `found`; the number of distinct words then.

    Text t is `data[offsets[t]:offsets[t + 1]]`, and `found[:ends[t]]` are its words and those of the texts before it.
    `words` has room for as many more as there are bytes.
    """
    mask = np.uint64(len(words.slots) - 1)
    count = 0
    for text in range(len(offsets) - 1):
        at, end = offsets[text], offsets[text + 1]
        while at < end:
            stop = _word_end(classes, data, at, end)
            size = stop - at
            code = _START
            for place in range(at, stop):
                code = (code ^ np.uint64(data[place])) * _PRIME
                code ^= code >> np.uint64(29)
            slot = code & mask
            while True:
                held = words.slots[slot]
                if held == 0:
                    first = words.key_starts[n_words]
                    for offset in range(size):
                        words.keys[first + offset] = data[at + offset]
                    words.key_starts[n_words + 1] = first + size
                    words.hashes[n_words] = code
                    n_words += 1
                    words.slots[slot] = n_words
                    held = n_words
                    break
                if words.hashes[held - 1] == code and _equal(data, at, words, held - 1, size):
                    break
                slot = (slot + np.uint64(1)) & mask
            found[count] = held - 1
            count += 1
            at = stop
        ends[text] = count
    return n_words


@kernel
def put_ids(
    found: NDArray[np.int32],
    ends: NDArray[np.int64],
    id_starts: NDArray[np.int64],
    ids: NDArray[np.int32],
    tokens: NDArray[np.int32],
    lengths: NDArray[np.int64],
) -> None:
    """The ids of the words of each text, one after the other, and how many each text has."""
    count, word = 0, 0
    for text in range(len(ends)):
        before = count
        while word < ends[text]:
            held = found[word]
            for place in range(id_starts[held], id_starts[held + 1]):
                tokens[count] = ids[place]
                count += 1
            word += 1
        lengths[text] = count - before
