"""Texts to windows of token ids by the tokenizers library alone: what Spark's workers and ranks use."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from sparkml.errors import ConfigError, InputError
from sparkml.models.folder import TOKENIZER_FILE

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

# Which part of a text that is longer than its windows is read.
Kept = Literal["head", "tail", "ends"]
# A text is cut to this many characters per wanted token before it is tokenised: the tail of a long one is never looked
# at. English takes about 4 characters a token, so the cut hardly ever leaves too few.
CHARACTERS_PER_TOKEN = 12


class Window(NamedTuple):
    """One sequence for the network: ids with special tokens, segment ids, and the word (-1: none) of each token."""

    ids: list[int]
    type_ids: list[int]
    words: list[int]
    offsets: list[tuple[int, int]]


class TextEncoder:
    """Texts to windows of token ids; what a text gives depends on that text alone."""

    def __init__(self, tokenizer_json: str, longest: int) -> None:
        self._longest = longest
        self._tokenizer = parse(tokenizer_json)
        self._words = parse(tokenizer_json, words=True)

    def encode(
        self,
        texts: Sequence[str],
        seconds: Sequence[str] | None = None,
        *,
        max_length: int,
        max_windows: int = 1,
        overlap: int = 0,
        keep: Kept = "head",
    ) -> list[list[Window]]:
        """At most `max_windows` windows a text (or pair of texts), each at most `max_length` tokens long.

        `keep`: of a longer text its `head`; its `tail`, whose last window comes first; or, of a text in one window,
        as many tokens of either of its `ends` (Sun et al. 2019, arXiv:1905.05583, section 5.3).
        """
        limit = max_length * max_windows * CHARACTERS_PER_TOKEN
        if keep == "ends":
            return self._ends(texts, seconds, min(max_length, self._longest), max_windows)

        def cut(text: str) -> str:
            return text[:limit] if keep == "head" else text[-limit:]

        rows: list[Any] = [cut(text) for text in texts]
        if seconds is not None:
            rows = list(zip(rows, map(cut, seconds), strict=True))
        return self._windows(self._tokenizer, rows, max_length, max_windows, overlap, from_end=keep == "tail")

    def _ends(
        self, texts: Sequence[str], seconds: Sequence[str] | None, length: int, max_windows: int
    ) -> list[list[Window]]:
        """One window a text: all of it where it fits, else its first and its last tokens."""
        from tokenizers import Encoding

        if seconds is not None or max_windows > 1:
            raise ConfigError(
                "both ends are kept of single texts in one window",
                got="pairs of texts" if seconds is not None else f"{max_windows} windows",
                next_action="set task.keep to head or tail",
            )
        limit = length * CHARACTERS_PER_TOKEN
        found = self._windows(self._tokenizer, [text[:limit] for text in texts], length, 2, 0)
        long = [place for place, text in enumerate(texts) if len(found[place]) > 1 or len(text) > limit]
        room = length - self._tokenizer.num_special_tokens_to_add(False)
        heads = self._cut([texts[place][:limit] for place in long], room - room // 2, "right")
        tails = self._cut([texts[place][-limit:] for place in long], room // 2, "left")
        for place, head, tail in zip(long, heads, tails, strict=True):
            both = Encoding.merge([head, tail], growing_offsets=False)
            found[place] = [_window(self._tokenizer.post_process(both))]
        return found

    def _cut(self, texts: Sequence[str], length: int, direction: str) -> list[Encoding]:
        """At most `length` tokens of each text, without special ones; `left`: its last ones."""
        self._tokenizer.enable_truncation(length, direction=direction)
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        self._tokenizer.no_truncation()
        return list(encodings)

    def encode_words(
        self, rows: Sequence[Sequence[str]], *, max_length: int, max_windows: int, overlap: int = 0
    ) -> list[list[Window]]:
        """As `encode`, from words: `Window.words` says which word a token is of."""
        return self._windows(
            self._words, [list(row) for row in rows], max_length, max_windows, overlap, words=True
        )

    def _windows(
        self,
        tokenizer: Tokenizer,
        rows: list[Any],
        max_length: int,
        max_windows: int,
        overlap: int,
        *,
        words: bool = False,
        from_end: bool = False,
    ) -> list[list[Window]]:
        length = min(max_length, self._longest)
        is_pair = bool(rows) and isinstance(rows[0], tuple)
        room = length - tokenizer.num_special_tokens_to_add(is_pair)
        # Where both texts of a pair are long, each has half; with less room than overlap the library would panic.
        if overlap >= max(room // 2 if is_pair else room, 1):
            raise ConfigError(
                "neighbouring windows share as many tokens as a window has room for",
                got=f"overlap {overlap}, windows of {length} tokens",
                expected="an overlap below a window without its special tokens; for pairs below half of it",
                next_action="lower task.overlap",
            )
        tokenizer.enable_truncation(length, stride=overlap, direction="left" if from_end else "right")
        encodings = tokenizer.encode_batch(rows, is_pretokenized=words)
        return [[_window(part) for part in [first, *first.overflowing][:max_windows]] for first in encodings]


def _window(encoding: Any) -> Window:
    words = [-1 if word is None else word for word in encoding.word_ids]
    return Window(encoding.ids, encoding.type_ids, words, encoding.offsets)


def parse(content: str, *, words: bool = False, where: str = TOKENIZER_FILE) -> Tokenizer:
    """A tokenizer from the content of its file; text that spells a special token stays text.

    `words`: for rows of words, each of which begins as it would after a blank.
    """
    from tokenizers import Tokenizer

    try:
        described = json.loads(content)
        if words:
            for part in _pre_tokenizers(described.get("pre_tokenizer")):
                if "add_prefix_space" in part:
                    part["add_prefix_space"] = True
        tokenizer = Tokenizer.from_str(json.dumps(described))
    except Exception as error:  # the Rust binding raises bare Exception
        raise InputError("not a tokenizer.json", where=where, got=str(error)) from error
    tokenizer.encode_special_tokens = True
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _pre_tokenizers(part: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    if part is None:
        return
    yield part
    for inner in part.get("pretokenizers", ()):
        yield from _pre_tokenizers(inner)
