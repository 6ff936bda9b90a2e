"""The tokenizer of a model: its special tokens, loading, identity and encoding of documents."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sparkml.errors import InputError
from sparkml.frame import storage

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# The order is the id: every tokenizer of the project starts with these five.
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAD_ID, UNK_ID, CLS_ID, SEP_ID, MASK_ID = range(5)

# A document is cut to this many characters per wanted token before it is tokenised: the tail of a long one is
# never looked at. English takes about 4 characters a token, so the cut hardly ever leaves too few.
_CHARACTERS_PER_TOKEN = 12


@dataclass(frozen=True)
class TokenizerFile:
    """Where a tokenizer lies, and the SHA-256 of the file: two models share a vocabulary when this is equal."""

    location: str
    sha256: str

    def read(self) -> bytes:
        """The file; InputError where it is missing, or is not the one that the samples were made with."""
        content = storage.read_bytes(self.location)
        found = hashlib.sha256(content).hexdigest()
        if found != self.sha256:
            raise InputError(
                "the tokenizer is not the one that the samples were made with",
                where=self.location,
                got=f"{len(content)} bytes with sha256 {found}",
                expected=f"sha256 {self.sha256}",
                next_action="restore the file, or write it anew: sparkml run shard --force",
            )
        return content


def load_tokenizer(tokenizer_file: str | Path) -> Tokenizer:
    """Load a `tokenizer.json` from a path or URI; the text "[MASK]" in a document is then text, no special token.

    Raises `InputError` when the file is unreadable or its first five ids are not `SPECIAL_TOKENS`.
    """
    try:
        content = storage.read_bytes(str(tokenizer_file)).decode()
    except UnicodeDecodeError as error:
        raise InputError("cannot read the tokenizer", where=str(tokenizer_file), got=str(error)) from error
    return parse_tokenizer(content, where=str(tokenizer_file))


def parse_tokenizer(content: str, *, where: str = "tokenizer.json") -> Tokenizer:
    """As `load_tokenizer`, from the file's content: that is what a Spark worker is sent."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(content)
    except Exception as error:  # the Rust binding raises bare Exception
        raise InputError("not a tokenizer.json", where=where, got=str(error)) from error
    first = tuple(tokenizer.id_to_token(index) for index in range(len(SPECIAL_TOKENS)))
    if first != SPECIAL_TOKENS:
        raise InputError(
            "the tokenizer's special tokens are not ours",
            where=where,
            got=repr(first),
            expected=repr(SPECIAL_TOKENS),
            next_action="train it with the shard stage",
        )
    tokenizer.encode_special_tokens = True
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def encode_batch(tokenizer: Tokenizer, texts: Sequence[str], max_length: int) -> list[list[int]]:
    """Token ids of each text as [CLS] ... [SEP], at most `max_length` long, in the order of `texts`.

    A text's ids depend on that text alone.
    """
    body = max_length - 2
    limit = max_length * _CHARACTERS_PER_TOKEN
    encodings = tokenizer.encode_batch_fast([text[:limit] for text in texts], add_special_tokens=False)
    encoded = [encoding.ids for encoding in encodings]
    for index, text in enumerate(texts):
        if len(text) > limit and len(encoded[index]) <= body:
            encoded[index] = tokenizer.encode(text, add_special_tokens=False).ids
    return [[CLS_ID, *ids[:body], SEP_ID] for ids in encoded]
