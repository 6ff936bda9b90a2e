"""MinHash over word n-grams: text -> 64-bit shingles -> minima of permutations -> one hash a band.

The text is normalised as datatrove's `simplify_text` does it (see `folding`); a run of digits, with one
decimal mark and fraction, becomes one `0`. Words are what white space separates, whereas the reference uses
spaCy: a text in a script without spaces has few words and mostly gets no signature.

One pass over the UTF-8 bytes: a table maps each code point to what it becomes, no string is built in between.
Hashes depend on the text and the seed alone: equal on every machine and in every process.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparkml.kernels.compiled import kernel, part
from sparkml.kernels.folding import DIGIT, EXPANSION, LAST_CODE_POINT, SEPARATOR, fold_table

U64 = npt.NDArray[np.uint64]

_ZERO = np.int64(ord("0"))
_REPLACEMENT = np.int64(0xFFFD)

_FNV_BASIS = np.uint64(0xCBF29CE484222325)
_FNV_PRIME = np.uint64(0x100000001B3)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_S27, _S30, _S31, _S32 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)


def band_hashes(texts: pa.Array, *, n_bands: int, n_rows: int, ngram: int, seed: int) -> pa.ListArray:
    """Per document its `n_bands` band hashes (int64; the band's number is part of the hash).

    Documents of Jaccard similarity s share a band with probability s**n_rows (Broder 1997), independently for each
    band. A document under `ngram` words, or a null, gets an empty list.
    """
    data, offsets = _utf8(texts)
    fold, expansions = fold_table()
    multipliers, increments = permutations(n_bands * n_rows, seed)
    hashes = np.zeros(len(texts) * n_bands, dtype=np.int64)
    signed = np.zeros(len(texts), dtype=np.bool_)
    scratch = _scratch(offsets)
    minima = np.empty(n_bands * n_rows, dtype=np.uint32)
    # fmt: off
    _signatures(
        data, offsets, ngram, fold, expansions, multipliers, increments, n_bands, scratch, minima, hashes, signed
    )
    # fmt: on
    bounds = np.concatenate([[0], np.cumsum(signed, dtype=np.int32) * n_bands]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(bounds), pa.array(hashes[np.repeat(signed, n_bands)]))


def shingle_sets(texts: pa.Array, ngram: int) -> list[U64]:
    """Per document the sorted distinct 64-bit hashes of its word n-grams; empty under `ngram` words."""
    data, offsets = _utf8(texts)
    fold, expansions = fold_table()
    scratch = _scratch(offsets)
    found = []
    for start, end in pairwise(offsets.tolist()):
        count = _document_shingles(data, start, end, ngram, fold, expansions, scratch)
        scratch[:count].sort()
        found.append(scratch[: _drop_repeats(scratch, count)].copy())
    return found


def jaccard(left: U64, right: U64) -> float:
    """|A & B| / |A | B| of two sorted distinct arrays; 0 where both are empty."""
    if not len(left) or not len(right):
        return 0.0
    shared = int(_overlap(left, right))
    return shared / (len(left) + len(right) - shared)


def permutations(count: int, seed: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """Multipliers (odd, so that x -> a*x + b is a bijection modulo 2**32) and increments."""
    random = np.random.Generator(np.random.PCG64(seed))  # PCG64's stream is fixed by NumPy's own promise
    words = random.bit_generator.random_raw(2 * count)
    drawn = (np.asarray(words, dtype=np.uint64) >> _S32).astype(np.uint32)
    return drawn[:count] | np.uint32(1), drawn[count:].copy()


def _utf8(texts: pa.Array) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """The bytes of a string array and where each document begins and ends; a null is an empty document."""
    wide = texts.fill_null("").cast(pa.large_string())
    _, bounds, values = wide.buffers()
    # Empty arrays may come without buffers; the stand-ins are read-only too, or kernels compile twice.
    data = np.frombuffer(values if values is not None and values.size else b"\0", dtype=np.uint8)
    if len(wide) == 0:
        return data, np.frombuffer(bytes(8), dtype=np.int64)
    return data, np.frombuffer(bounds, dtype=np.int64)[wide.offset : wide.offset + len(wide) + 1]


def _scratch(offsets: npt.NDArray[np.int64]) -> U64:
    # A word takes at least two bytes: itself and what separates it from the next.
    longest = int(np.diff(offsets).max(initial=0))
    return np.empty(longest // 2 + 2, dtype=np.uint64)


@part
def _mix(value: np.uint64) -> np.uint64:
    """Finaliser of splitmix64 (Steele, Lea, Flood 2014): a bijection in which every bit reaches every bit."""
    value = (value ^ (value >> _S30)) * _MIX_1
    value = (value ^ (value >> _S27)) * _MIX_2
    return value ^ (value >> _S31)


@part
def _code_point(data: npt.NDArray[np.uint8], at: np.int64, end: int) -> tuple[np.int64, np.int64]:
    """The code point at a byte and where the next one begins; stays inside the document on broken UTF-8."""
    first = np.int64(data[at])
    length = 1 if first < 0xC0 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4
    if first < 0x80:
        return first, at + 1
    if length == 1 or at + length > end:
        return _REPLACEMENT, at + 1
    point = first & (0xFF >> (length + 1))
    for step in range(1, length):
        point = (point << 6) | (np.int64(data[at + step]) & 0x3F)
    return min(point, np.int64(LAST_CODE_POINT)), at + length


@part
def _is_decimal_mark(point: np.int64) -> bool:
    """`.` and `,`, the Arabic comma and decimal separator, the three decimal separator key symbols."""
    return bool(
        point == 0x2E
        or point == 0x2C
        or point == 0x60C
        or point == 0x66B
        or (point >= 0x2396 and point <= 0x2398)
    )


@part
def _words(
    data: npt.NDArray[np.uint8],
    start: int,
    end: int,
    fold: npt.NDArray[np.int32],
    expansions: npt.NDArray[np.int32],
    out: U64,
) -> int:
    """Hash the words of one document into `out` (FNV-1a over code points, then mixed); returns how many."""
    at, count = np.int64(start), 0
    length = 0  # 0: no word has begun
    number = 0  # 0: outside a number; 1: in its integer part; 2: in its fraction
    value = _FNV_BASIS
    while at < end:
        point = np.int64(data[at])
        if point < 0x80:
            at += 1
            folded = np.int64(fold[point])
            if folded > 0:  # nearly every byte of a Latin text: no other case needs looking at
                value = (value ^ np.uint64(folded)) * _FNV_PRIME
                number, length = 0, 1
                continue
        else:
            point, at = _code_point(data, at, end)
            folded = np.int64(fold[point])
        if folded == DIGIT:
            if number:
                continue
            number, folded = 1, _ZERO
        elif number == 1 and at < end and _is_decimal_mark(point):
            if fold[_code_point(data, at, end)[0]] == DIGIT:
                number = 2
                continue
            number = 0
        else:
            number = 0
        if folded > 0:
            value = (value ^ np.uint64(folded)) * _FNV_PRIME
            length = 1
        elif folded == SEPARATOR:
            if length:
                out[count] = _mix(value)
                count += 1
            length, value = 0, _FNV_BASIS
        elif folded <= EXPANSION:
            place = EXPANSION - folded
            for step in range(expansions[place]):
                value = (value ^ np.uint64(expansions[place + 1 + step])) * _FNV_PRIME
            length = 1
    if length:
        out[count] = _mix(value)
        count += 1
    return count


@part
def _shingles(
    data: npt.NDArray[np.uint8],
    start: int,
    end: int,
    ngram: int,
    fold: npt.NDArray[np.int32],
    expansions: npt.NDArray[np.int32],
    out: U64,
) -> int:
    """Hash the word n-grams of one document into `out`, in text order; returns how many."""
    count = _words(data, start, end, fold, expansions, out) - ngram + 1
    for first in range(count):
        value = _GOLDEN
        for step in range(ngram):
            value = (value ^ out[first + step]) * _MIX_1
            value ^= value >> _S32
        out[first] = _mix(value)  # the word that stood here begins no later n-gram
    return max(count, 0)


@kernel
def _document_shingles(
    data: npt.NDArray[np.uint8],
    start: int,
    end: int,
    ngram: int,
    fold: npt.NDArray[np.int32],
    expansions: npt.NDArray[np.int32],
    out: U64,
) -> int:
    return _shingles(data, start, end, ngram, fold, expansions, out)


@kernel
def _signatures(
    data: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    ngram: int,
    fold: npt.NDArray[np.int32],
    expansions: npt.NDArray[np.int32],
    multipliers: npt.NDArray[np.uint32],
    increments: npt.NDArray[np.uint32],
    n_bands: int,
    scratch: U64,
    minima: npt.NDArray[np.uint32],
    hashes: npt.NDArray[np.int64],
    signed: npt.NDArray[np.bool_],
) -> None:
    """Band hashes of every document of a batch."""
    n_permutations = len(multipliers)
    n_rows = n_permutations // n_bands
    for document in range(len(offsets) - 1):
        count = _shingles(data, offsets[document], offsets[document + 1], ngram, fold, expansions, scratch)
        signed[document] = count > 0
        if count == 0:
            continue
        minima[:] = np.uint32(0xFFFFFFFF)
        for shingle in range(count):
            x = np.uint32(scratch[shingle] >> _S32)
            # Plain 32-bit arithmetic over contiguous arrays: the compiler turns it into vector instructions.
            for row in range(n_permutations):
                image = np.uint32(multipliers[row] * x + increments[row])
                minima[row] = min(minima[row], image)
        for band in range(n_bands):
            value = _mix(np.uint64(band + 1) * _GOLDEN)
            for row in range(band * n_rows, (band + 1) * n_rows):
                value = _mix((value ^ np.uint64(minima[row])) + _GOLDEN)
            hashes[document * n_bands + band] = np.int64(value)


@kernel
def _drop_repeats(values: U64, count: int) -> int:
    """Move the distinct ones of `count` sorted values to the front; returns how many."""
    distinct = min(count, 1)
    for at in range(1, count):
        if values[at] != values[distinct - 1]:
            values[distinct] = values[at]
            distinct += 1
    return distinct


@kernel
def _overlap(left: U64, right: U64) -> int:
    """How many values two sorted distinct arrays share."""
    i, j, shared = 0, 0, 0
    while i < len(left) and j < len(right):
        if left[i] == right[j]:
            shared += 1
            i += 1
            j += 1
        elif left[i] < right[j]:
            i += 1
        else:
            j += 1
    return shared
