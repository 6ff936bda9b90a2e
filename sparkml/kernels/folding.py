"""What each code point becomes before words are compared, as one table.

The rules are those of datatrove's `simplify_text`: lower case; Unicode digits to `0`; punctuation and white
space separate words; canonical decomposition without non-spacing marks. Two differences on purpose: a final
sigma counts as a sigma, since a table cannot see whether a word ends after it; and spacing marks on one
letter stay in the order in which they are written.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

import numpy as np
import numpy.typing as npt

# A value > 0 is itself a code point, a value <= EXPANSION a place in the expansions.
DROPPED, SEPARATOR, DIGIT, EXPANSION = 0, -1, -2, -16
LAST_CODE_POINT = 0x10FFFF
# datatrove 0.9, utils/text.py: what becomes a space, besides the control characters.
_PUNCTUATION = frozenset(
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~—–”“„’´«»％〈〉、━【】「」，；：．。《》∶（）？！～…►"
)
_CONTROLS = frozenset([*range(9), 11, 12, *range(13, 32), *range(127, 160)])
# Letters and private use that no rule touches: left as they are, which builds the table faster.
_UNTOUCHED = (
    (0x3400, 0xA000),
    (0x17000, 0x18D00),
    (0x20000, 0x2F800),
    (0x2FA20, 0xE0000),
    (0xE01F0, 0x110000),
)


@lru_cache(maxsize=1)
def fold_table() -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """What each code point becomes: (table of 0x110000 values, expansions as length, points)."""
    fold = np.arange(LAST_CODE_POINT + 1, dtype=np.int32)
    expansions: list[int] = []
    edges = [0, *(edge for block in _UNTOUCHED for edge in block), LAST_CODE_POINT + 1]
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        fold[start:end] = [_fold(chr(point), expansions) for point in range(start, end)]
    found = np.array(expansions, dtype=np.int32)
    fold.flags.writeable = found.flags.writeable = False
    return fold, found


def _fold(char: str, expansions: list[int]) -> int:
    if unicodedata.category(char) == "Nd":
        return DIGIT
    lower = "σ" if char == "ς" else char.lower()
    if lower.isspace() or lower in _PUNCTUATION or ord(char) in _CONTROLS:
        return SEPARATOR
    points = [ord(c) for c in unicodedata.normalize("NFD", lower) if unicodedata.category(c) != "Mn"]
    if len(points) < 2:
        return points[0] if points else DROPPED
    expansions.extend([len(points), *points])
    return EXPANSION - (len(expansions) - len(points) - 1)
