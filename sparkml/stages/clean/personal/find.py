"""Finds personal data in a batch of texts, and writes what is to stand there instead."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparkml.kernels.candidates import DOC, END, KIND, START, find_candidates
from sparkml.kernels.texts import Texts, trimmed
from sparkml.kernels.words import Memory
from sparkml.stages.clean.personal.kinds import KINDS, PRIVATE_KEY, Pattern

_HASH_BYTES = 8


@dataclass(frozen=True)
class Found:
    """Something of a kind in a document: bytes `start` to `end` of the trimmed batch."""

    document: int
    start: int
    end: int
    kind: str


def find(texts: Texts, kinds: Sequence[str], memory: Memory | None = None) -> list[Found]:
    """What there is of these kinds, in order, without overlaps: what starts first stays, of those the longest."""
    texts = trimmed(texts)
    content = texts.data.tobytes()
    found: set[tuple[int, int, int, str]] = set()
    patterns = [
        [(name, one) for name in kinds for one in KINDS[name] if one.place == place] for place in range(4)
    ]
    places = find_candidates(texts, memory)
    for document, start, end, place in places[:, [DOC, START, END, KIND]].tolist():
        # Patterns look beyond a place, but not beyond its document.
        last = int(texts.offsets[document + 1])
        for name, one in patterns[place]:
            for low, high in _spans(one, content, start, min(end + 1, last)):
                if high <= last:
                    found.add((document, low, -high, name))
    if "secret" in kinds:
        for match in PRIVATE_KEY.finditer(content):
            document = int(np.searchsorted(texts.offsets, match.start(), side="right")) - 1
            if match.end() <= texts.offsets[document + 1]:
                found.add((document, match.start(), -match.end(), "secret"))
    kept: list[Found] = []
    order = {name: place for place, name in enumerate(kinds)}
    for document, start, negative_end, name in sorted(found, key=lambda one: (one[1], one[2], order[one[3]])):
        if not kept or kept[-1].end <= start:
            kept.append(Found(document, start, -negative_end, name))
    return kept


def _spans(one: Pattern, content: bytes, at: int, end: int) -> Iterator[tuple[int, int]]:
    while (match := one.pattern.search(content, at, end)) is not None:
        span = one.check(match)
        if span is not None:
            yield span
        # What is none may hold one that begins later.
        at = match.start() + 1 if span is None else max(match.end(), span[1])


def masks(actions: Mapping[str, str], key: bytes) -> Callable[[str, bytes], bytes]:
    """What stands for something of a kind: `<EMAIL>`, or with the action `hash` `<EMAIL:9f86d081884c7d65>`.

    The hash is BLAKE2b with `key` of what was there, its letters lower case, without blanks and hyphens.
    """

    def mask(kind: str, original: bytes) -> bytes:
        name = kind.upper().encode()
        if actions[kind] != "hash":
            return b"<" + name + b">"
        plain = original.lower().translate(None, b" -")
        digest = hashlib.blake2b(plain, key=key, digest_size=_HASH_BYTES).hexdigest().encode()
        return b"<" + name + b":" + digest + b">"

    return mask


def replaced(texts: Texts, found: Sequence[Found], mask: Callable[[str, bytes], bytes]) -> Texts:
    """The texts with something else where something was found."""
    if not found:
        return texts
    texts = trimmed(texts)
    content = texts.data.tobytes()
    parts: list[bytes] = []
    at, grown = 0, np.zeros(len(texts.offsets), np.int64)
    for one in found:
        new = mask(one.kind, content[one.start : one.end])
        parts += [content[at : one.start], new]
        grown[one.document + 1] += len(new) - (one.end - one.start)
        at = one.end
    parts.append(content[at : int(texts.offsets[-1])])
    data = np.frombuffer(b"".join(parts) or b"\0", np.uint8)
    return Texts(data, texts.offsets + np.cumsum(grown))


def counts(found: Sequence[Found], kinds: Sequence[str], documents: int) -> dict[str, NDArray[np.float64]]:
    """How much of each kind each document has, float64[n] by kind."""
    out = {kind: np.zeros(documents) for kind in kinds}
    for one in found:
        out[one.kind][one.document] += 1
    return out
