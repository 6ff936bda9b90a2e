"""Why a model answers so: what changes when a part of the text is left out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# So many forward passes at most; of longer texts a part is several words.
MOST_PARTS = 64
_WORD = re.compile(r"\S+\s*")


@dataclass(frozen=True)
class Part:
    """Characters `start` to `end` of a text."""

    start: int
    end: int


def parts_of(text: str) -> list[Part]:
    """Words, or as many equal runs of words as are allowed, from a text's first to its last."""
    words = [match.span() for match in _WORD.finditer(text)]
    size = -(-len(words) // MOST_PARTS)
    runs = [words[at : at + size] for at in range(0, len(words), max(1, size))]
    return [Part(run[0][0], run[-1][1]) for run in runs]


def without_each(text: str, parts: Sequence[Part]) -> list[str]:
    """The text, then the text without its first part, without its second, and so on."""
    return [text, *(text[: part.start] + text[part.end :] for part in parts)]


def effects(
    text: str, parts: Sequence[Part], answers: Sequence[Mapping[str, Any]], label: str | None
) -> dict[str, Any]:
    """How much each part adds to the score of `label` (None: the predicted one), from the answers to `without_each`."""
    whole, rest = answers[0], answers[1:]
    said = label if label is not None else whole["prediction"]
    before = _score(whole, said)
    return {
        "prediction": whole["prediction"],
        "label": said,
        "score": before,
        "parts": [
            {
                "start": part.start,
                "end": part.end,
                "text": text[part.start : part.end],
                "effect": None
                if before is None or (after := _score(one, said)) is None
                else round(before - after, 6),
            }
            for part, one in zip(parts, rest, strict=True)
        ],
    }


def _score(answer: Mapping[str, Any], label: str | None) -> float | None:
    scores = dict(answer["scores"] or ())
    found = scores.get(label, answer["score"] if answer["prediction"] == label else None)
    return None if found is None else float(found)
