"""Where a text may hold an address, a number or a key: places that slow patterns then look at, and no others.

One pass over the bytes. A place is a row (document, start, end, kind), in the order of their starts but for those of
different kinds. What lies inside one is up to who looks; what lies in none is neither of these:

AT      an `@`, with as much around it as an address may have (RFC 5321: 64 characters before, 255 behind it)
NUMBER  6 digits or more, or 3 dots or more, with nothing between but ` ()-./+`; 24 bytes before and behind it
COLONS  hexadecimal digits with two colons or more
CODE    16 letters, digits and `-_.+/=~` or more in one run, digits and letters among them; 32 bytes before
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparkml.kernels.compiled import kernel, part
from sparkml.kernels.texts import Texts
from sparkml.kernels.words import Memory

AT, NUMBER, COLONS, CODE = 0, 1, 2, 3
DOC, START, END, KIND = 0, 1, 2, 3  # columns

_BEFORE_AT, _BEHIND_AT = 65, 256
_LEAST_DIGITS, _LEAST_DOTS, _AROUND_NUMBER = 6, 3, 24
_LEAST_CODE, _BEFORE_CODE = 16, 32

_LETTER, _DIGIT, _HEX, _IN_NUMBER, _IN_CODE = 1, 2, 4, 8, 16


def _byte_kinds() -> NDArray[np.uint8]:
    table = np.zeros(256, np.uint8)
    letters = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    digits = b"0123456789"
    for flag, members in (
        (_LETTER, letters),
        (_DIGIT, digits),
        (_HEX, digits + b"abcdefABCDEF"),
        (_IN_NUMBER, digits + b" ()-./+"),
        (_IN_CODE, letters + digits + b"-_.+/=~"),
    ):
        table[list(members)] |= flag
    return table


_KINDS = _byte_kinds()


def find_candidates(texts: Texts, memory: Memory | None = None) -> NDArray[np.int64]:
    """The places, int64[n, 4]; with `memory`, they are good until the next call with the same memory."""
    memory = memory or Memory()
    size = int(texts.offsets[-1] - texts.offsets[0])
    # At most one place of each kind begins at a byte; memory that is not touched costs nothing.
    out = memory.array("candidates", 4 * size + 4, 4, np.int64)
    return out[: scan_candidates(texts.data, texts.offsets, _KINDS, out)]


@kernel
def scan_candidates(
    data: NDArray[np.uint8], offsets: NDArray[np.int64], kinds: NDArray[np.uint8], out: NDArray[np.int64]
) -> int:
    """Write the places of every document to `out`; returns how many there are."""
    count = 0
    for doc in range(len(offsets) - 1):
        begin, end = offsets[doc], offsets[doc + 1]
        # The last place with a number, and where the runs that are being read end.
        last, number, hexes, code = -1, begin, begin, begin
        for at in range(begin, end):
            byte = data[at]
            kind = kinds[byte]
            if byte == 64:
                low, high = max(begin, at - _BEFORE_AT), min(end, at + _BEHIND_AT)
                count = put_place(out, count, doc, low, high, AT)
            if at >= number and kind & _DIGIT:
                number, digits, dots = scan_number(data, at, end, kinds)
                if digits >= _LEAST_DIGITS or dots >= _LEAST_DOTS:
                    low, high = max(begin, at - _AROUND_NUMBER), min(end, number + _AROUND_NUMBER)
                    if last >= 0 and low <= out[last, END]:
                        out[last, END] = high
                    else:
                        last = count
                        count = put_place(out, count, doc, low, high, NUMBER)
            if at >= hexes and (kind & _HEX or byte == 58):
                hexes, colons = scan_colons(data, at, end, kinds)
                if colons >= 2:
                    count = put_place(out, count, doc, at, hexes, COLONS)
            if at >= code and kind & _IN_CODE:
                code, is_mixed = scan_code(data, at, end, kinds)
                if is_mixed and code - at >= _LEAST_CODE:
                    count = put_place(out, count, doc, max(begin, at - _BEFORE_CODE), code, CODE)
    return count


@part
def put_place(out: NDArray[np.int64], count: int, doc: int, start: int, end: int, kind: int) -> int:
    """Write one place; returns how many there are."""
    out[count, DOC], out[count, START], out[count, END], out[count, KIND] = doc, start, end, kind
    return count + 1


@part
def scan_number(data: NDArray[np.uint8], at: int, end: int, kinds: NDArray[np.uint8]) -> tuple[int, int, int]:
    """End of the run of digits and what joins them, the digits and the dots in it."""
    digits, dots = 0, 0
    while at < end and kinds[data[at]] & _IN_NUMBER:
        digits += kinds[data[at]] & _DIGIT != 0
        dots += data[at] == 46
        at += 1
    return at, digits, dots


@part
def scan_colons(data: NDArray[np.uint8], at: int, end: int, kinds: NDArray[np.uint8]) -> tuple[int, int]:
    """End of the run of hexadecimal digits and colons, perhaps with an address of digits and dots at its end."""
    colons = 0
    while at < end and (kinds[data[at]] & _HEX or data[at] == 58 or (colons > 1 and data[at] == 46)):
        colons += data[at] == 58
        at += 1
    return at, colons


@part
def scan_code(data: NDArray[np.uint8], at: int, end: int, kinds: NDArray[np.uint8]) -> tuple[int, bool]:
    """End of the run, and whether there are letters and digits in it."""
    seen = 0
    while at < end and kinds[data[at]] & _IN_CODE:
        seen |= kinds[data[at]] & (_LETTER | _DIGIT)
        at += 1
    return at, seen == _LETTER | _DIGIT
