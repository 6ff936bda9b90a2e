"""Polynomial hashes of words: the hash of joined words follows from the hashes of the parts.

hash(word) is the sum of (byte + 1) x BASE^(bytes after it) modulo 2^64, so hash(ab) = hash(a) x BASE^len(b) + hash(b).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparkml.kernels.compiled import as_int, part

BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that powers of it never vanish modulo 2^64
ONE = np.uint64(1)
_MASK = 0xFFFFFFFFFFFFFFFF
_MIX = np.uint64(0xD6E8FEB86659FD93)


def hash_word(word: str) -> int:
    """The hash of a word as the compiled scan computes it."""
    value = 0
    for byte in word.encode():
        value = (value * int(BASE) + byte + 1) & _MASK
    return value


def powers(count: int) -> NDArray[np.uint64]:
    """BASE^0 ... BASE^(count - 1), uint64[count]."""
    table = np.ones(count, np.uint64)
    for exponent in range(1, count):
        table[exponent] = int(table[exponent - 1]) * int(BASE) & _MASK
    return table


@part
def power(table: NDArray[np.uint64], exponent: int) -> np.uint64:
    """BASE^exponent; by squaring beyond the table."""
    if exponent < len(table):
        return np.uint64(table[exponent])
    result, square, left = ONE, BASE, exponent
    while left > 0:
        if left & 1:
            result = result * square
        square = square * square
        left >>= 1
    return result


def home_slot(value: int, mask: int) -> int:
    """What `slot_of` computes, for building tables outside compiled code."""
    return (value * int(_MIX) & _MASK) >> 32 & mask


@part
def slot_of(value: np.uint64, mask: int) -> int:
    """Home slot of a hash in a table of mask + 1 slots, 2^32 at most; the low bits of a polynomial hash are poor."""
    return as_int((value * _MIX) >> np.uint64(32)) & mask
