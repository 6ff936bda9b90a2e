"""Of markup, without a parser: how deep elements are nested (parsers take quadratic time then), how much is links."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparkml.kernels.compiled import as_int, kernel, part
from sparkml.kernels.texts import Texts

# Elements that have no end, and those that end where the next of their kind begins.
_ENDLESS = "area base br col embed hr img input link meta param source track wbr p li dt dd tr td th option"
_RAW = "script style title"  # whose content is no markup


def _packed(name: str) -> int:
    value = 0
    for byte in name.encode():
        value = value << 8 | byte
    return value


_NO_DEPTH = np.array(sorted(_packed(name) for name in _ENDLESS.split()), np.int64)
_RAW_NAMES = np.array(sorted(_packed(name) for name in _RAW.split()), np.int64)
_LONGEST_NAME = 7  # of those that matter


def depths(texts: Texts) -> NDArray[np.int64]:
    """The most elements that are open at once in each document, int64[n]: about as a parser would nest them."""
    out = np.zeros(len(texts.offsets) - 1, np.int64)
    count_depths(texts.data, texts.offsets, _NO_DEPTH, _RAW_NAMES, out)
    return out


def link_shares(texts: Texts) -> NDArray[np.float64]:
    """Of the characters of a page that are no markup and no blanks those within `<a>`, float64[n]; nan: it has none."""
    out = np.zeros(len(texts.offsets) - 1, np.float64)
    count_links(texts.data, texts.offsets, _RAW_NAMES, out)
    return out


@kernel
def count_links(
    data: NDArray[np.uint8], offsets: NDArray[np.int64], raw: NDArray[np.int64], out: NDArray[np.float64]
) -> None:
    """Shares of every document."""
    for doc in range(len(offsets) - 1):
        at, end, in_link = offsets[doc], offsets[doc + 1], False
        chars, linked = 0, 0
        while at < end:
            byte = as_int(data[at])
            at += 1
            if byte != 60:
                # Of a character in UTF-8 its first byte counts.
                if byte > 32 and byte & 0xC0 != 0x80:
                    chars += 1
                    linked += in_link
                continue
            closes = at < end and data[at] == 47
            name, at = tag_name(data, at + 1 if closes else at, end)
            if name == 97:  # a
                in_link = not closes
            at = end_of_tag(data, at, end)
            if not closes and is_among(raw, name):
                at = end_of_tag(data, end_of_raw(data, at, end, name), end)
        out[doc] = linked / chars if chars else np.nan


@part
def end_of_tag(data: NDArray[np.uint8], at: int, end: int) -> int:
    """Behind the next `>`."""
    while at < end and data[at] != 62:
        at += 1
    return at + 1


@kernel
def count_depths(
    data: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    no_depth: NDArray[np.int64],
    raw: NDArray[np.int64],
    out: NDArray[np.int64],
) -> None:
    """Depths of every document."""
    for doc in range(len(offsets) - 1):
        at, end, depth = offsets[doc], offsets[doc + 1], 0
        while at < end:
            if data[at] != 60:
                at += 1
                continue
            at += 1
            closes = at < end and data[at] == 47
            name, at = tag_name(data, at + 1 if closes else at, end)
            if name == 0 or is_among(no_depth, name):
                continue
            if closes:
                depth = max(depth - 1, 0)
            elif is_among(raw, name):
                at = end_of_raw(data, at, end, name)
            else:
                depth += 1
                out[doc] = max(out[doc], depth)


@part
def tag_name(data: NDArray[np.uint8], at: int, end: int) -> tuple[int, int]:
    """The name that starts here, its letters in lower case packed into a number (0: there is none), and its end."""
    name, length = 0, 0
    while at < end:
        byte = as_int(data[at]) | 32
        is_letter = 97 <= byte <= 122
        if not (is_letter or (length and 48 <= byte <= 57)):
            break
        if length < _LONGEST_NAME:
            name = name << 8 | byte
        else:
            name |= 1 << 62  # longer than any that matters
        at, length = at + 1, length + 1
    return name, at


@part
def is_among(names: NDArray[np.int64], name: int) -> bool:
    """Whether a packed name is one of these."""
    place = 0
    while place < len(names) and names[place] < name:
        place += 1
    return place < len(names) and names[place] == name


@part
def end_of_raw(data: NDArray[np.uint8], at: int, end: int, name: int) -> int:
    """Behind the end tag of an element without markup in it; the end where there is none."""
    while at + 1 < end:
        if data[at] == 60 and data[at + 1] == 47:
            found, stop = tag_name(data, at + 2, end)
            if found == name:
                return stop
        at += 1
    return end
