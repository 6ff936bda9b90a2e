"""What comes off a run of characters without white space, after the rules of spaCy's English tokenizer; compiled.

Runs come as arrays of code points; `low` and `high` bound the part of a run that is still whole.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparkml.kernels.characters import (
    ALPHABETIC,
    BEFORE_DOT,
    BOUNDARY,
    CURRENCY,
    DIGIT,
    HYPHEN,
    INNER,
    LOWER,
    PREFIX,
    QUOTE,
    SUFFIX,
    UPPER,
)
from sparkml.kernels.compiled import part
from sparkml.kernels.rolling import BASE, ONE, slot_of

LETTER = UPPER | LOWER
UNIT_SLOTS = 256
_LINK_CHARS = 2048  # longer runs are not links


@part
def is_digit(code: int) -> bool:
    """An ASCII digit."""
    return 48 <= code <= 57


@part
def prefix_length(codes: NDArray[np.int64], flags: NDArray[np.uint16], low: int, high: int) -> int:
    """Characters that come off the front of the run."""
    code = codes[low]
    after = codes[low + 1] if low + 1 < high else 0
    if code == 46:
        return dots_from(codes, low, high) if after == 46 else 0
    if code == 43:
        return 0 if is_digit(after) else 1
    if flags[code] & PREFIX:
        return 1
    if (code == 67 or code == 65) and after == 36:
        return 2
    return 3 if code == 85 and after == 83 and low + 2 < high and codes[low + 2] == 36 else 0


@part
def dots_from(codes: NDArray[np.int64], low: int, high: int) -> int:
    """Length of the run of full stops that starts here."""
    at = low
    while at < high and codes[at] == 46:
        at += 1
    return at - low


@part
def suffix_length(
    codes: NDArray[np.int64], flags: NDArray[np.uint16], units: NDArray[np.uint64], low: int, high: int
) -> int:
    """Characters that come off the end of the run; the longest rule wins."""
    code, before = codes[high - 1], codes[high - 2] if high - 2 >= low else 0
    if code == 46:
        return final_dot(codes, flags, low, high)
    longest = 0
    if flags[code] & SUFFIX:
        longest = 2 if code == 0x2026 and before == 0x2026 else 1
    if (code == 115 or code == 83) and (before == 39 or before == 0x2019):
        longest = 2
    if is_digit(before) and (code == 43 or flags[code] & CURRENCY):
        longest = 1
    if code == 36 and high - low > 2:
        if (before == 67 or before == 65) and is_digit(codes[high - 3]):
            longest = 2
        if before == 83 and codes[high - 3] == 85 and high - low > 3 and is_digit(codes[high - 4]):
            longest = 3
    return max(longest, unit_length(codes, units, low, high))


@part
def final_dot(codes: NDArray[np.int64], flags: NDArray[np.uint16], low: int, high: int) -> int:
    """Full stops that come off the end: an ellipsis whole, a single one after what may end a sentence."""
    at = high - 1
    while at > low and codes[at - 1] == 46:
        at -= 1
    if high - at > 1:
        return high - at
    if at == low:
        return 0
    before = codes[at - 1]
    if flags[before] & (BEFORE_DOT | LOWER):
        return 1
    if at - 2 < low:
        return 0
    second = codes[at - 2]
    scale = before == 70 or before == 67 or before == 75
    return 1 if (flags[before] & UPPER and flags[second] & UPPER) or (scale and second == 0xB0) else 0


@part
def unit_length(codes: NDArray[np.int64], units: NDArray[np.uint64], low: int, high: int) -> int:
    """Length of a unit of measurement that ends the run after a digit."""
    at = high
    while at > low and high - at <= 4 and not is_digit(codes[at - 1]):
        at -= 1
    if at in (high, low) or high - at > 4:
        return 0
    value = np.uint64(0)
    for index in range(at, high):
        code = codes[index]
        if code < 0x80:
            value = value * BASE + np.uint64(code) + ONE
        elif code < 0x800:
            value = value * BASE + np.uint64(code >> 6 | 0xC0) + ONE
            value = value * BASE + np.uint64(code & 0x3F | 0x80) + ONE
        else:
            return 0
    slot = slot_of(value, UNIT_SLOTS - 1)
    while units[slot] != 0:
        if units[slot] == value:
            return high - at
        slot = (slot + 1) & (UNIT_SLOTS - 1)
    return 0


@part
def infix_length(codes: NDArray[np.int64], flags: NDArray[np.uint16], low: int, at: int, high: int) -> int:
    """How many characters from here split the run in two, 0 if none."""
    code = codes[at]
    if not flags[code] & BOUNDARY:
        return 0
    after = codes[at + 1] if at + 1 < high else 0
    if code == 46 and after == 46:
        return dots_from(codes, at, high)
    if flags[code] & INNER:
        return 1
    if at == low or after == 0:
        return 0
    before, behind = flags[codes[at - 1]], flags[after]
    digit = is_digit(codes[at - 1])
    if digit and (code == 43 or code == 45 or code == 42 or code == 94) and (is_digit(after) or after == 45):
        return 1
    if code == 46:
        return 1 if before & (LOWER | QUOTE) and behind & (UPPER | QUOTE) else 0
    if code == 44:
        return 1 if before & LETTER and behind & LETTER else 0
    if not (digit or before & LETTER):
        return 0
    if flags[code] & HYPHEN:
        return hyphen_length(codes, flags, at, high)
    colon_or_sign = code == 58 or code == 60 or code == 62 or code == 61 or code == 47
    return 1 if colon_or_sign and behind & LETTER else 0


@part
def hyphen_length(codes: NDArray[np.int64], flags: NDArray[np.uint16], at: int, high: int) -> int:
    """One hyphen of any kind, two or three minus signs, or two long dashes, before a letter."""
    code = codes[at]
    most = 3 if code == 45 else 2 if code == 0x2014 else 1
    length = 1
    while length < most and at + length < high and codes[at + length] == code:
        length += 1
    if at + length < high and flags[codes[at + length]] & LETTER:
        return length
    return 0


@part
def is_host_char(code: int) -> bool:
    """A character that a host name may hold, the full stop aside."""
    letter = 97 <= code <= 122 or 65 <= code <= 90
    return letter or is_digit(code) or 0xA1 <= code <= 0xFFFF or code == 45 or code == 95


@part
def is_host(codes: NDArray[np.int64], flags: NDArray[np.uint16], low: int, high: int) -> bool:
    """A host name or dotted address, then perhaps a port, then nothing or a path."""
    end, dot, numeric, dots = low, -1, True, 0
    while end < high and (codes[end] == 46 or is_host_char(codes[end])):
        if codes[end] == 46:
            if end == dot + 1 or end == low or codes[end - 1] == 45 or codes[end - 1] == 95:
                return False
            dot, dots = end, dots + 1
        elif codes[end] == 45 or codes[end] == 95:
            if end == low or end == dot + 1:
                return False
        elif not is_digit(codes[end]):
            numeric = False
        end += 1
    if dots == 0 or end - dot - 1 < (1 if numeric else 2) or (numeric and dots != 3):
        return False
    if not numeric:
        for at in range(dot + 1, end):
            if not flags[codes[at]] & LOWER:
                return False
    if end < high and codes[end] == 58:
        port = end + 1
        while port < high and is_digit(codes[port]):
            port += 1
        if port - end - 1 < 2 or port - end - 1 > 5:
            return False
        end = port
    return end == high or codes[end] == 47 or codes[end] == 63 or codes[end] == 35


@part
def scheme_length(codes: NDArray[np.int64], flags: NDArray[np.uint16], low: int, high: int) -> int:
    """Length of `https://` and the like at the front, 0 if there is none."""
    at = low
    while at < high and (flags[codes[at]] & (ALPHABETIC | DIGIT) or codes[at] in (43, 45, 46, 95)):
        at += 1
    if at - low < 2 or at + 2 >= high or codes[at] != 58 or codes[at + 1] != 47 or codes[at + 2] != 47:
        return 0
    return at + 3 - low


@part
def is_link(codes: NDArray[np.int64], flags: NDArray[np.uint16], low: int, high: int) -> bool:
    """A web address, a host name or a mail address."""
    if high - low > _LINK_CHARS:
        return False
    start = low + scheme_length(codes, flags, low, high)
    if is_host(codes, flags, start, high):
        return True
    at = high - 1
    while at > start and codes[at] != 64:
        at -= 1
    return at > start and is_host(codes, flags, at + 1, high)
