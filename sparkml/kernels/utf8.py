"""Read code points from UTF-8 bytes, compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparkml.kernels.compiled import part


@part
def decode(data: NDArray[np.uint8], at: int, end: int) -> tuple[int, int]:
    """Code point at a byte and its length in bytes; a sequence that is cut off reads as U+FFFD."""
    lead = np.int64(data[at])
    if lead < 0x80:
        return lead, 1
    if lead < 0xE0 and at + 1 < end:
        return (lead & 0x1F) << 6 | np.int64(data[at + 1]) & 0x3F, 2
    if lead < 0xF0 and at + 2 < end:
        return (lead & 0x0F) << 12 | (np.int64(data[at + 1]) & 0x3F) << 6 | np.int64(data[at + 2]) & 0x3F, 3
    if lead >= 0xF0 and at + 3 < end:
        high = (lead & 0x07) << 18 | (np.int64(data[at + 1]) & 0x3F) << 12
        code = high | (np.int64(data[at + 2]) & 0x3F) << 6 | np.int64(data[at + 3]) & 0x3F
        return min(code, 0x10FFFF), 4
    return 0xFFFD, 1
