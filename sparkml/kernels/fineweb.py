"""Signals behind the FineWeb quality rules (Penedo et al. 2024, section 3.6).

Lines are what line feeds separate, as they are: not stripped, and those of white space alone do not count. A repeated
line is any occurrence after the first. Words are those of `words.py`. Equality is that of 64-bit hashes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparkml.kernels.characters import SPACE, flags_table, terminal_table
from sparkml.kernels.compiled import as_int, kernel
from sparkml.kernels.repetition import clear, find_slot, table_mask
from sparkml.kernels.rolling import BASE, ONE
from sparkml.kernels.signals import FINEWEB_SIGNALS
from sparkml.kernels.texts import Texts
from sparkml.kernels.utf8 import decode
from sparkml.kernels.words import Memory, Words


def measure_fineweb(
    texts: Texts, words: Words, short_line_chars: int, memory: Memory | None = None
) -> dict[str, NDArray[np.float64]]:
    """The FineWeb signals of each document; a short line has at most `short_line_chars` code points."""
    memory = memory or Memory()
    out = np.zeros((len(FINEWEB_SIGNALS), len(texts.offsets) - 1))
    most_lines = int(np.count_nonzero(texts.data[texts.offsets[0] : texts.offsets[-1]] == 10)) + 1
    keys = memory.array("grams", 2 << max(most_lines, 2).bit_length(), 1, np.uint64).reshape(-1)
    count_web_lines(
        texts.data,
        texts.offsets,
        flags_table(),
        terminal_table(),
        words.offsets,
        short_line_chars,
        keys,
        out,
    )
    return dict(zip(FINEWEB_SIGNALS, out, strict=True))


@kernel
def count_web_lines(
    data: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    flags: NDArray[np.uint16],
    terminal: NDArray[np.bool_],
    doc_words: NDArray[np.int64],
    short_line_chars: int,
    keys: NDArray[np.uint64],
    out: NDArray[np.float64],
) -> None:
    """All signals of every document, in one pass over its bytes."""
    for doc in range(len(offsets) - 1):
        at, end, breaks = offsets[doc], offsets[doc + 1], 0
        for place in range(at, end):
            breaks += data[place] == 10
        mask = table_mask(breaks + 2)
        clear(keys, mask)
        lines, ended, short, repeated, chars = 0, 0, 0, 0, 0
        value, length, blank, last = ONE, 0, True, 0
        while at <= end:
            if at == end or data[at] == 10:
                chars += length
                if not blank:
                    slot = find_slot(keys, mask, value)
                    if keys[slot]:
                        repeated += length
                    keys[slot] = value
                    lines += 1
                    ended += terminal[last]
                    short += length <= short_line_chars
                value, length, blank, last = ONE, 0, True, 0
                at += 1
                continue
            last, width = as_int(data[at]), 1
            if last >= 0x80:
                last, width = decode(data, at, end)
            blank = blank and flags[last] & SPACE != 0
            for place in range(at, at + width):
                value = value * BASE + np.uint64(data[place]) + ONE
            length += 1
            at += width
        total = doc_words[doc + 1] - doc_words[doc]
        out[0, doc] = lines
        out[1, doc] = ended / lines if lines else 0.0
        out[2, doc] = short / lines if lines else 0.0
        out[3, doc] = repeated / chars if chars else 0.0
        out[4, doc] = breaks / total if total else 0.0
