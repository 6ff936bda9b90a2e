"""Two texts side by side, word by word, with what differs marked and long equal runs folded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

_WORD = re.compile(r"\S+\s*|\s+")
SAME, CHANGED, FOLDED = "same", "changed", "folded"
_Runs = Sequence[tuple[str, list[str]]]


@dataclass(frozen=True)
class Piece:
    """A run of words: `same`, `changed`, or `folded` (a note in the place of words that are left out)."""

    kind: str
    text: str


@dataclass(frozen=True)
class Comparison:
    """What each side shows; `cut` where not all that differs was compared."""

    left: tuple[Piece, ...]
    right: tuple[Piece, ...]
    cut: bool


def compare(left: str, right: str, *, max_words: int = 160, context: int = 10) -> Comparison:
    """Word-level differences. Equal ends are stripped first, then `max_words` of each side are compared.

    Difflib takes quadratic time, so it never sees more than `max_words` words; `cut` says there was more.
    """
    a, b = _WORD.findall(left), _WORD.findall(right)
    keys_a, keys_b = [word.strip() for word in a], [word.strip() for word in b]
    head = _common(keys_a, keys_b)
    tail = _common(keys_a[head:][::-1], keys_b[head:][::-1])
    middle_a, middle_b = slice(head, len(a) - tail), slice(head, len(b) - tail)
    cut = max(len(a), len(b)) - head - tail > max_words
    matcher = SequenceMatcher(
        None, keys_a[middle_a][:max_words], keys_b[middle_b][:max_words], autojunk=False
    )
    codes = matcher.get_opcodes()
    runs_a = [(kind, a[middle_a][start:end]) for kind, start, end, _, _ in codes]
    runs_b = [(kind, b[middle_b][start:end]) for kind, _, _, start, end in codes]
    return Comparison(
        _side(a, middle_a, runs_a, max_words, context),
        _side(b, middle_b, runs_b, max_words, context),
        cut,
    )


def _side(words: list[str], middle: slice, runs: _Runs, max_words: int, context: int) -> tuple[Piece, ...]:
    """The equal head, what was compared, then the equal tail or a note of what was not compared."""
    left_out = len(words[middle]) - max_words
    last = ("cut", [str(left_out)]) if left_out > 0 else ("equal", words[middle.stop :])
    pieces = _pieces(_joined([("equal", words[: middle.start]), *runs, last]), context)
    return tuple(piece for piece in pieces if piece.text)


def _common(left: Sequence[str], right: Sequence[str]) -> int:
    limit = min(len(left), len(right))
    return next((at for at in range(limit) if left[at] != right[at]), limit)


def _joined(runs: _Runs) -> list[tuple[str, list[str]]]:
    """Equal runs that touch become one. Empty runs stay: there the other side has words of its own, and the words
    around that place must not be folded on this side alone.
    """
    joined: list[tuple[str, list[str]]] = []
    for kind, words in runs:
        if kind == "equal" and not words:
            continue
        if joined and kind == joined[-1][0] == "equal":
            joined[-1] = (kind, joined[-1][1] + words)
        else:
            joined.append((kind, words))
    return joined


def _pieces(runs: _Runs, context: int) -> Iterator[Piece]:
    for place, (kind, words) in enumerate(runs):
        if kind == "cut":
            yield Piece(FOLDED, f"{int(words[0]):,} more words")
        elif kind != "equal":
            # The blanks after the last word belong to no word: marked, they would be a stripe at the margin.
            text = "".join(words)
            yield Piece(CHANGED, text.rstrip())
            yield Piece(SAME, text[len(text.rstrip()) :])
        else:
            before = context if place > 0 else 0
            after = context if place < len(runs) - 1 else 0
            yield from _folded(words, before, after)


def _folded(words: list[str], before: int, after: int) -> Iterator[Piece]:
    """Keep `before` words after the last difference and `after` words ahead of the next one."""
    if before == after == 0:  # nothing differs at all: show the beginning
        before = 60
    left_out = len(words) - before - after
    if left_out < 8:
        yield Piece(SAME, "".join(words))
        return
    if before:
        yield Piece(SAME, "".join(words[:before]))
    yield Piece(FOLDED, f"{left_out:,} equal words")
    if after:
        yield Piece(SAME, "".join(words[len(words) - after :]))
