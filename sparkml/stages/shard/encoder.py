"""The tokens of texts, fast where a tokenizer works word by word on bytes: each distinct word is tokenised once."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from sparkml.kernels.byte_level import Words, all_known, classes_table, find_words, put_ids
from sparkml.kernels.packing import Int32, Int64
from sparkml.kernels.texts import pieces, read_texts
from sparkml.models.text_encoder import parse

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# An encoding takes some 100 bytes a token: this bounds the memory of a task, not the size of its batches.
PIECE_CHARACTERS = 1 << 20
# A single space between two words never lies inside a pre-token, so a cut in front of it changes no token.
_CUT = re.compile(r"(?<=\S) (?=\S)")
# Distinct words and their bytes that are kept; beyond that all are forgotten, and the table begins anew.
_MOST_WORDS, _MOST_BYTES = 1 << 19, 16 << 20
# Bytes that are looked up together: as many words at most may be new.
_TOGETHER_BYTES = 1 << 18


class Encoder:
    """A tokenizer, and the words that it has seen where these are all it looks at.

    The text "[SEP]" gives the tokens of these five characters: special ids come from packing alone.
    """

    def __init__(self, tokenizer_json: str) -> None:
        self._tokenizer = parse(tokenizer_json)
        self._cache = WordCache(self._tokenizer) if works_word_by_word(tokenizer_json) else None

    def tokens(self, texts: Sequence[str]) -> tuple[Int32, Int64]:
        """Tokens of all texts in one row (int32 [tokens]) and how many each text has (int64 [texts])."""
        if self._cache is None:
            return tokenise(self._tokenizer, texts)
        column = pa.array(texts, pa.large_string())
        parts = []
        for start, stop in pieces(column, _TOGETHER_BYTES):
            found = self._cache.tokens(column.slice(start, stop - start))
            parts.append(tokenise(self._tokenizer, texts[start:stop]) if found is None else found)
        tokens, lengths = (
            zip(*parts, strict=True) if parts else ([np.zeros(0, np.int32)], [np.zeros(0, np.int64)])
        )
        return np.concatenate(tokens), np.concatenate(lengths)


def tokenise(tokenizer: Tokenizer, texts: Sequence[str]) -> tuple[Int32, Int64]:
    """The same by the tokenizer itself."""
    pieces = [list(cut(text)) for text in texts]
    encodings = tokenizer.encode_batch_fast(list(chain.from_iterable(pieces)), add_special_tokens=False)
    ids = [encoding.ids for encoding in encodings]
    per_piece = np.fromiter((len(tokens) for tokens in ids), dtype=np.int64, count=len(ids))
    tokens = np.fromiter(chain.from_iterable(ids), dtype=np.int32, count=int(per_piece.sum()))
    last = np.cumsum([len(cuts) for cuts in pieces], dtype=np.int64)
    until = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(per_piece)])[last]
    return tokens, np.diff(until, prepend=0)


def cut(text: str, limit: int = PIECE_CHARACTERS) -> Iterator[str]:
    """A very long text in pieces of at least `limit` characters, cut where no token is cut through."""
    start = 0
    while len(text) - start > limit:
        place = _CUT.search(text, start + limit)
        if place is None:
            break
        yield text[start : place.start()]
        start = place.start()
    yield text[start:]


def works_word_by_word(tokenizer_json: str) -> bool:
    """Whether what the tokenizer makes of a text is what it makes of GPT-2's words, one after the other."""
    described = json.loads(tokenizer_json)
    cuts = described.get("pre_tokenizer") or {}
    plain = (
        cuts.get("type") == "ByteLevel" and not cuts.get("add_prefix_space") and cuts.get("use_regex", True)
    )
    added = described.get("added_tokens") or ()
    model = described.get("model") or {}
    return bool(
        plain
        and described.get("normalizer") is None
        and all(token.get("special") for token in added)  # the others are found in the text before it is cut
        and not model.get("dropout")
    )


class WordCache:
    """A tokenizer that works word by word, and the ids of the words that it has seen."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._classes = classes_table()
        self._forget()

    def _forget(self) -> None:
        self._n_words = 0
        self._words = Words(
            np.zeros(2 * _MOST_WORDS, np.int32),
            np.zeros(_MOST_WORDS, np.uint64),
            np.zeros(_MOST_WORDS + 1, np.int64),
            np.zeros(_MOST_BYTES, np.uint8),
        )
        self._ids = np.zeros(_MOST_BYTES, np.int32)
        self._id_starts = np.zeros(_MOST_WORDS + 1, np.int64)

    def tokens(self, texts: pa.Array) -> tuple[Int32, Int64] | None:
        """As `tokenise`; None for a text that is too long for the table, or for characters that are not known here."""
        data, offsets = read_texts(texts)
        size = int(offsets[-1] - offsets[0])
        if size > _TOGETHER_BYTES or not all_known(self._classes, data, offsets[0], offsets[-1]):
            return None
        if self._n_words + size > _MOST_WORDS or self._words.key_starts[self._n_words] + size > _MOST_BYTES:
            self._forget()
        found, ends = np.empty(size, np.int32), np.empty(len(texts), np.int64)
        known = self._n_words
        self._n_words = int(find_words(self._classes, data, offsets, self._words, known, found, ends))
        self._learn(known)
        # A byte is at most a token.
        tokens, lengths = np.empty(size, np.int32), np.empty(len(texts), np.int64)
        put_ids(found, ends, self._id_starts, self._ids, tokens, lengths)
        return tokens[: int(lengths.sum())], lengths

    def _learn(self, known: int) -> None:
        """Ask the tokenizer for the words from number `known` on."""
        starts = self._words.key_starts[known : self._n_words + 1]
        keys: Any = self._words.keys
        new = [keys[first:last].tobytes().decode() for first, last in pairwise(starts)]
        if not new:
            return
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(new, add_special_tokens=False)]
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        first = int(self._id_starts[known])
        last = first + int(lengths.sum())
        self._ids[first:last] = np.fromiter(chain.from_iterable(ids), np.int32, last - first)
        self._id_starts[known + 1 : self._n_words + 1] = first + np.cumsum(lengths)
