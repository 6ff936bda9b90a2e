"""C4's line filter (Raffel et al. 2020, section 2.2) as the reference pipelines run it: it drops lines, and documents.

Of each line of `str.splitlines`, stripped: citations such as [3] go; the line goes where it has a very long word, too
few words (counted with the citations), no terminal mark, or names JavaScript or a policy. A document with `lorem ipsum`
or `{` in a line that got so far is dropped. What stays are the kept lines, with their sentences counted.

Sentences are those of spaCy's rule-based `sentencizer` over the words of `words.py`: one ends with a terminal mark that
is a word of its own, and punctuation behind it belongs to it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparkml.kernels.characters import DIGIT, LINE_BREAK, SPACE, flags_table, sentence_table
from sparkml.kernels.compiled import as_int, kernel, part
from sparkml.kernels.repetition import strip
from sparkml.kernels.texts import Texts
from sparkml.kernels.utf8 import decode
from sparkml.kernels.word_splitting import END, START
from sparkml.kernels.words import Words

# What is looked for in a line, bit by bit: the first two drop the document, the others the line.
LOREM_IPSUM, CURLY_BRACKET, JAVASCRIPT, POLICY = 1, 2, 4, 8
WATCHED = LOREM_IPSUM | CURLY_BRACKET | JAVASCRIPT | POLICY

# In lower case; behind the first two all are policies.
_PHRASES = (
    b"lorem ipsum",
    b"javascript",
    b"terms of use",
    b"privacy policy",
    b"cookie policy",
    b"uses cookies",
    b"use of cookies",
    b"use cookies",
)
_TEXT = np.frombuffer(b"".join(_PHRASES), np.uint8)
_BOUNDS = np.cumsum([0, *map(len, _PHRASES)])
_FIRSTS = sum(1 << letter - 97 for letter in {phrase[0] for phrase in _PHRASES})
_CITED = (np.frombuffer(b"[edit]", np.uint8), np.frombuffer(b"[citation needed]", np.uint8))
_DOT, _QUOTATION, _APOSTROPHE, _EXCLAMATION, _QUESTION = 46, 34, 39, 33, 63


class Lines(NamedTuple):
    """What is left of each document, and why it is dropped (0: it is not)."""

    texts: Texts
    dropped: NDArray[np.int64]


def keep_lines(
    texts: Texts, *, terminal: bool, min_words: int, max_word_chars: int, watched: int = WATCHED
) -> Lines:
    """The lines that stay, joined by line feeds; `terminal`: only those that end as sentences do.

    `watched`: which of LOREM_IPSUM, CURLY_BRACKET, JAVASCRIPT and POLICY are looked for.
    """
    documents = len(texts.offsets) - 1
    out = np.empty(max(int(texts.offsets[-1] - texts.offsets[0]), 1), np.uint8)
    offsets, dropped = np.zeros(documents + 1, np.int64), np.zeros(documents, np.int64)
    filter_lines(
        texts.data,
        texts.offsets,
        flags_table(),
        terminal,
        min_words,
        max_word_chars,
        watched,
        out,
        offsets,
        dropped,
    )
    out.flags.writeable = False  # one type for the compiler, as `read_texts` gives it
    return Lines(Texts(out, offsets), dropped)


def count_sentences(texts: Texts, words: Words) -> NDArray[np.float64]:
    """Sentences of each document, line by line, float64[n]."""
    out = np.zeros(len(texts.offsets) - 1)
    sum_sentences(texts.data, words.offsets, words.table, sentence_table(), out)
    return out


def count_paragraphs(texts: Texts, least_chars: int) -> NDArray[np.float64]:
    """Lines between line feeds of at least so many code points, of each document, float64[n]: mC4's paragraphs."""
    out = np.zeros(len(texts.offsets) - 1)
    sum_paragraphs(texts.data, texts.offsets, least_chars, out)
    return out


@kernel
def filter_lines(
    data: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    flags: NDArray[np.uint16],
    terminal: bool,
    min_words: int,
    max_word_chars: int,
    watched: int,
    out: NDArray[np.uint8],
    ends: NDArray[np.int64],
    dropped: NDArray[np.int64],
) -> None:
    """Write the lines that stay of every document to `out`, and where it ends there to `ends`."""
    size = 0
    for doc in range(len(offsets) - 1):
        at, end, first = offsets[doc], offsets[doc + 1], size
        while at < end:
            stop, following = find_break(data, at, end, flags)
            low, high = strip(data, at, stop, flags)
            at = following
            n_words, longest = count_runs(data, low, high, flags)
            if longest > max_word_chars:
                continue
            start = size + (1 if size > first else 0)
            written = copy_uncited(data, low, high, flags, out, start)
            if (terminal and not ends_sentence(out, start, written)) or n_words < min_words:
                continue
            found = find_phrases(out, start, written) & watched
            if found & LOREM_IPSUM:
                dropped[doc] = LOREM_IPSUM
                break
            if found & JAVASCRIPT:
                continue
            if found & CURLY_BRACKET:
                dropped[doc] = CURLY_BRACKET
                break
            if found & POLICY:
                continue
            if start > size:
                out[size] = 10
            size = written
        # Where a citation stood at an end there may be a blank.
        low, high = strip(out, first, size, flags)
        for place in range(high - low):
            out[first + place] = out[low + place]
        size = first + high - low
        ends[doc + 1] = size


@part
def find_break(data: NDArray[np.uint8], at: int, end: int, flags: NDArray[np.uint16]) -> tuple[int, int]:
    """Where the line that starts here ends, and where the next one starts."""
    while at < end:
        code, width = as_int(data[at]), 1
        if code >= 0x80:
            code, width = decode(data, at, end)
        if flags[code] & LINE_BREAK:
            pair = code == 13 and at + 1 < end and data[at + 1] == 10
            return at, at + (2 if pair else width)
        at += width
    return end, end


@part
def count_runs(data: NDArray[np.uint8], at: int, end: int, flags: NDArray[np.uint16]) -> tuple[int, int]:
    """Words by white space, and the code points of the longest."""
    runs, longest, length = 0, 0, 0
    while at < end:
        code, width = as_int(data[at]), 1
        if code >= 0x80:
            code, width = decode(data, at, end)
        if flags[code] & SPACE:
            length = 0
        else:
            runs += length == 0
            length += 1
            longest = max(longest, length)
        at += width
    return runs, longest


@part
def copy_uncited(
    data: NDArray[np.uint8], at: int, end: int, flags: NDArray[np.uint16], out: NDArray[np.uint8], to: int
) -> int:
    """Copy a line without its citations; returns the end of the copy."""
    while at < end:
        if data[at] == 91:
            length = citation(data, at, end, flags)
            if length:
                at += length
                continue
        out[to] = data[at]
        at, to = at + 1, to + 1
    return to


@part
def citation(data: NDArray[np.uint8], at: int, end: int, flags: NDArray[np.uint16]) -> int:
    """Bytes of `[digits]`, `[]`, `[edit]` or `[citation needed]` that start here; 0: none of them."""
    place = at + 1
    while place < end:
        code, width = decode(data, place, end)
        if code == 93:
            return place + 1 - at
        if not flags[code] & DIGIT:
            break
        place += width
    if starts_with(data, at, end, _CITED[0]):
        return len(_CITED[0])
    if starts_with(data, at, end, _CITED[1]):
        return len(_CITED[1])
    return 0


@part
def starts_with(data: NDArray[np.uint8], at: int, end: int, expected: NDArray[np.uint8]) -> bool:
    """Whether these bytes come next."""
    place = 0
    while place < len(expected) and at + place < end and data[at + place] == expected[place]:
        place += 1
    return place == len(expected)


@part
def ends_sentence(data: NDArray[np.uint8], at: int, end: int) -> bool:
    """Whether a line ends in a terminal mark or a quote, and not in `...`."""
    if end <= at:
        return False
    last = data[end - 1]
    if last == _DOT:
        return end - at < 3 or data[end - 2] != _DOT or data[end - 3] != _DOT
    return last in (_QUESTION, _EXCLAMATION, _QUOTATION, _APOSTROPHE)


@part
def find_phrases(data: NDArray[np.uint8], at: int, end: int) -> int:
    """What of WATCHED is in a line, whatever its case."""
    found = 0
    while at < end:
        byte = as_int(data[at])
        if byte == 123:
            found |= CURLY_BRACKET
        letter = (byte | 32) - 97
        if byte < 0x80 and 0 <= letter < 26 and _FIRSTS >> letter & 1:
            for phrase in range(len(_BOUNDS) - 1):
                if matches(data, at, end, _BOUNDS[phrase], _BOUNDS[phrase + 1]):
                    found |= LOREM_IPSUM if phrase == 0 else JAVASCRIPT if phrase == 1 else POLICY
        at += 1
    return found


@part
def matches(data: NDArray[np.uint8], at: int, end: int, first: int, last: int) -> bool:
    """Whether a phrase, bytes `first` to `last` of all, comes next in any case."""
    for place in range(first, last):
        expected = _TEXT[place]
        if at >= end:
            return False
        byte = data[at]
        if byte == expected or (expected != 32 and byte == expected - 32):
            at += 1
        elif expected == 107 and starts_with_kelvin(data, at, end):
            at += 3
        else:
            return False
    return True


@part
def starts_with_kelvin(data: NDArray[np.uint8], at: int, end: int) -> bool:
    """The sign for kelvin, whose lower case is k: the one character beyond ASCII that a phrase may be written with."""
    return at + 2 < end and data[at] == 0xE2 and data[at + 1] == 0x84 and data[at + 2] == 0xAA


@kernel
def sum_sentences(
    data: NDArray[np.uint8],
    doc_words: NDArray[np.int64],
    table: NDArray[np.int64],
    kinds: NDArray[np.uint8],
    out: NDArray[np.float64],
) -> None:
    """Sentences of the lines of every document."""
    for doc in range(len(doc_words) - 1):
        sentences, ended = 0, False
        for word in range(doc_words[doc], doc_words[doc + 1]):
            start, end = table[word, START], table[word, END]
            code, width = decode(data, start, end)
            is_end = width == end - start and kinds[code] & 2 != 0
            gap = _NEW_LINE
            if word > doc_words[doc]:
                gap = gap_between(data, table[word - 1, END], start)
            if gap == _NEW_LINE or (ended and gap == _SPACE_WORD):
                sentences, ended = sentences + 1, is_end
            elif ended and not is_end and not is_punctuation(data, start, end, kinds):
                sentences, ended = sentences + 1, False
            elif is_end:
                ended = True
        out[doc] = sentences


_PLAIN, _SPACE_WORD, _NEW_LINE = 0, 1, 2


@part
def gap_between(data: NDArray[np.uint8], at: int, end: int) -> int:
    """What lies between two words: a new line, white space that spaCy makes a word of its own, or neither."""
    spaces, found = 0, _PLAIN
    while at < end:
        code, width = decode(data, at, end)
        if code == 10:
            return _NEW_LINE
        # A blank right behind a word belongs to it.
        if spaces or code != 32:
            found = _SPACE_WORD
        spaces, at = spaces + 1, at + width
    return found


@part
def is_punctuation(data: NDArray[np.uint8], at: int, end: int, kinds: NDArray[np.uint8]) -> bool:
    """Whether all characters of a word are punctuation by their Unicode category."""
    while at < end:
        code, width = decode(data, at, end)
        if not kinds[code] & 1:
            return False
        at += width
    return True


@kernel
def sum_paragraphs(
    data: NDArray[np.uint8], offsets: NDArray[np.int64], least_chars: int, out: NDArray[np.float64]
) -> None:
    """Long lines of every document."""
    for doc in range(len(offsets) - 1):
        chars = 0
        for at in range(offsets[doc], offsets[doc + 1]):
            if data[at] == 10:
                out[doc] += chars >= least_chars
                chars = 0
            else:
                chars += data[at] & 0xC0 != 0x80
        out[doc] += chars >= least_chars
