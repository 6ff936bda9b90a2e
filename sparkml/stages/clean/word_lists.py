"""Words and phrases that are looked for all at once (Aho and Corasick 1975), whole or anywhere."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

# Without spaces between words, a word is wherever its characters are.
_WITHOUT_SPACES = ("ja", "th", "zh")


class WordList:
    """Words of one language."""

    def __init__(self, words: tuple[str, ...], whole: bool) -> None:
        self._words = words
        self._whole = whole

    @classmethod
    def of(cls, lang: str, words: Iterable[str]) -> WordList:
        """Of a language by its ISO 639-1 code."""
        return cls(tuple(sorted({word.lower() for word in words if word})), lang not in _WITHOUT_SPACES)

    def __getstate__(self) -> tuple[tuple[str, ...], bool]:
        return self._words, self._whole

    def __setstate__(self, state: tuple[tuple[str, ...], bool]) -> None:
        self._words, self._whole = state

    @cached_property
    def _automaton(self) -> Any:
        from ahocorasick_rs import AhoCorasick

        return AhoCorasick(list(self._words))

    def count(self, content: bytes) -> int:
        """How often its words stand in a text of UTF-8, whatever their case."""
        if not self._words:
            return 0
        text = content.decode("utf-8", "replace").lower()
        found = self._automaton.find_matches_as_indexes(text, overlapping=self._whole)
        if not self._whole:
            return len(found)
        return sum(_is_whole(text, start, stop) for _, start, stop in found)


def _is_whole(text: str, start: int, stop: int) -> bool:
    """Whether neither a letter nor a digit stands beside it."""
    before = start == 0 or not (text[start - 1].isalnum() or text[start - 1] == "_")
    return before and (stop == len(text) or not (text[stop].isalnum() or text[stop] == "_"))
