"""Signals behind the Gopher quality rules (Rae et al. 2021, appendix A.1.1).

`n_words` counts the words that are not wholly punctuation, as the reference pipelines do; symbols are counted per
word of any kind, lines are those of `str.splitlines`. A document without words or lines measures 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sparkml.kernels.characters import LINE_BREAK, SPACE, flags_table
from sparkml.kernels.compiled import as_int, kernel, part
from sparkml.kernels.rolling import hash_word
from sparkml.kernels.signals import QUALITY_SIGNALS
from sparkml.kernels.texts import Texts
from sparkml.kernels.utf8 import decode
from sparkml.kernels.word_splitting import HAS_LETTER, HASH, ONLY_PUNCTUATION, SHAPE
from sparkml.kernels.words import Words

_BULLET, _ELLIPSIS = 0x2022, 0x2026


def measure_quality(
    texts: Texts, words: Words, stop_words: Sequence[Sequence[str]], lists: NDArray[np.int64] | None = None
) -> dict[str, NDArray[np.float64]]:
    """The quality signals of each document; a stop word counts only in exactly its own case.

    `lists`: which of the lists of stop words is for a document, int64[n]; None: the first, for all.
    """
    hashes = [hash_word(word) for one in stop_words for word in one]
    ends = np.cumsum([0, *map(len, stop_words)])
    which = np.zeros(len(words.doc_chars), np.int64) if lists is None else lists
    out = np.zeros((len(QUALITY_SIGNALS), len(words.doc_chars)))
    count_words(words.offsets, words.table, np.array(hashes, np.uint64), ends[which], ends[which + 1], out)
    count_lines(texts.data, texts.offsets, flags_table(), words.offsets, out)
    return dict(zip(QUALITY_SIGNALS, out, strict=True))


@kernel
def count_words(
    doc_words: NDArray[np.int64],
    table: NDArray[np.int64],
    stops: NDArray[np.uint64],
    firsts: NDArray[np.int64],
    lasts: NDArray[np.int64],
    out: NDArray[np.float64],
) -> None:
    """Signals that follow from the words alone; of document d stops[firsts[d]:lasts[d]] are stop words."""
    for doc in range(len(doc_words) - 1):
        proper, chars, lettered, seen = 0, 0, 0, 0
        for word in range(doc_words[doc], doc_words[doc + 1]):
            shape = table[word, SHAPE]
            if not shape & ONLY_PUNCTUATION:
                proper += 1
                chars += shape >> 2
            if shape & HAS_LETTER:
                lettered += 1
            value = np.uint64(table[word, HASH])
            for index in range(firsts[doc], lasts[doc]):
                if stops[index] == value:
                    seen |= 1 << (index - firsts[doc])
        total, distinct = doc_words[doc + 1] - doc_words[doc], 0
        while seen:
            distinct += seen & 1
            seen >>= 1
        out[0, doc], out[7, doc] = proper, distinct
        out[1, doc] = chars / proper if proper else 0.0
        out[6, doc] = lettered / total if total else 0.0


@kernel
def count_lines(
    data: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    flags: NDArray[np.uint16],
    doc_words: NDArray[np.int64],
    out: NDArray[np.float64],
) -> None:
    """Signals that follow from symbols and lines."""
    for doc in range(len(offsets) - 1):
        at, end = offsets[doc], offsets[doc + 1]
        symbols, ellipses, lines, bullets, trailing = 0, 0, 0, 0, 0
        dots, at_start, ends_so = 0, True, False
        open_line = False
        while at < end:
            code, width = as_int(data[at]), 1
            if code >= 0x80:
                code, width = decode(data, at, end)
            flag = flags[code]
            if flag & SPACE:
                dots = 0
                if flag & LINE_BREAK:
                    if code == 13 and at + 1 < end and data[at + 1] == 10:
                        width = 2
                    lines, trailing = lines + 1, trailing + (1 if ends_so else 0)
                    at_start, ends_so, open_line = True, False, False
                else:
                    open_line = True
                at += width
                continue
            if at_start and (code == _BULLET or code == 45):
                bullets += 1
            at_start, open_line = False, True
            symbols += code == 35
            dots = dots + 1 if code == 46 else 0
            ellipses += code == _ELLIPSIS or is_third(dots)
            ends_so = code == _ELLIPSIS or dots >= 3
            at += width
        if open_line:
            lines, trailing = lines + 1, trailing + (1 if ends_so else 0)
        total = doc_words[doc + 1] - doc_words[doc]
        out[2, doc] = symbols / total if total else 0.0
        out[3, doc] = ellipses / total if total else 0.0
        out[4, doc] = bullets / lines if lines else 0.0
        out[5, doc] = trailing / lines if lines else 0.0


@part
def is_third(dots: int) -> bool:
    """Whether this full stop completes an ellipsis of three that shares none with the one before."""
    return dots > 0 and dots % 3 == 0
