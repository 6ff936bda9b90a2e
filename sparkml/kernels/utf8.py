"""Read code points from UTF-8 bytes, compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparkml.kernels.compiled import as_int, part


@part
def decode(data: NDArray[np.uint8], at: int, end: int) -> tuple[int, int]:
    """Code point at a byte and its length in bytes; a sequence that is cut off reads as U+FFFD."""
    lead = as_int(data[at])
    if lead < 0x80:
        return lead, 1
    if lead < 0xE0 and at + 1 < end:
        return (lead & 0x1F) << 6 | as_int(data[at + 1]) & 0x3F, 2
    if lead < 0xF0 and at + 2 < end:
        return (lead & 0x0F) << 12 | (as_int(data[at + 1]) & 0x3F) << 6 | as_int(data[at + 2]) & 0x3F, 3
    if lead >= 0xF0 and at + 3 < end:
        high = (lead & 0x07) << 18 | (as_int(data[at + 1]) & 0x3F) << 12
        code = high | (as_int(data[at + 2]) & 0x3F) << 6 | as_int(data[at + 3]) & 0x3F
        return min(code, 0x10FFFF), 4
    return 0xFFFD, 1


@part
def sequence_length(data: NDArray[np.uint8], at: int, end: int) -> int:
    """Bytes of the valid UTF-8 sequence that starts here, 0 if there is none (overlong, surrogate, cut off)."""
    lead = data[at]
    if lead < 0x80:
        return 1
    if lead < 0xC2 or lead > 0xF4 or at + 1 >= end:
        return 0
    second = data[at + 1]
    if lead < 0xE0:
        return 2 if is_continuation(second) else 0
    if at + 2 >= end or not is_continuation(data[at + 2]):
        return 0
    if lead < 0xF0:
        low, high = 0xA0 if lead == 0xE0 else 0x80, 0x9F if lead == 0xED else 0xBF
        return 3 if low <= second <= high else 0
    if at + 3 >= end or not is_continuation(data[at + 3]):
        return 0
    low, high = 0x90 if lead == 0xF0 else 0x80, 0x8F if lead == 0xF4 else 0xBF
    return 4 if low <= second <= high else 0


@part
def is_continuation(byte: int) -> bool:
    """A byte inside a sequence."""
    return 0x80 <= byte < 0xC0
