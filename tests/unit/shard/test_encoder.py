"""Tokens from the words that were seen before are the tokenizer's own."""

from __future__ import annotations

import json
import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkml.kernels import byte_level
from sparkml.models.text_encoder import parse
from sparkml.stages.shard import encoder as module
from sparkml.stages.shard.encoder import Encoder, tokenise, works_word_by_word
from sparkml.stages.shard.vocabulary import train_tokenizer

TEXTS = ["The cat's hat wasn't 42 miles off, they'll say.", "def main():\n    return  x  # a comment\n\n"] * 3
SIGNS = "aZéß漢1²Ⅷ' \t\n\xa0\u2003\u3000\x1c\x85!_-😀\u0301\u200b\U0010ffff\ufffd"
PIECES = st.sampled_from([*SIGNS, "  ", "\r\n", "'s", "'re", "'LL", "'d", "'v", "[SEP]", "<s>"])


@pytest.fixture(scope="module")
def tokenizer_json() -> str:
    return train_tokenizer(TEXTS, 400)


@pytest.fixture(scope="module")
def encoder(tokenizer_json: str) -> Encoder:
    assert works_word_by_word(tokenizer_json)
    return Encoder(tokenizer_json)


def check(encoder: Encoder, texts: list[str]) -> None:
    for found, expected in zip(encoder.tokens(texts), tokenise(encoder._tokenizer, texts), strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


@given(st.lists(st.lists(st.one_of(PIECES, st.characters(exclude_categories=["Cs"]))), max_size=4))
@settings(max_examples=400, deadline=None)
def test_texts_of_any_kind(encoder: Encoder, parts: list[list[str]]) -> None:
    check(encoder, ["".join(part) for part in parts])


def test_every_character_is_what_the_tokenizer_takes_it_for(encoder: Encoder) -> None:
    codes = [
        code
        for code in range(sys.maxunicode + 1)
        if unicodedata.category(chr(code)) not in ("Cn", "Cs", "Co")
    ]
    assert len(codes) > 140_000
    signs = [chr(code) for code in codes]
    # Joined to a letter, a digit, punctuation and white space, and alone.
    texts = [
        "".join(f"a{c}1{c} !{c} {c}{c}  {c}'s " for c in signs[n : n + 500])
        for n in range(0, len(signs), 500)
    ]
    check(encoder, texts)


def test_characters_of_a_newer_unicode_are_left_to_the_tokenizer(encoder: Encoder) -> None:
    unknown = next(chr(code) for code in range(0x10000) if unicodedata.category(chr(code)) == "Cn")
    assert byte_level.classes_table()[ord(unknown)] == byte_level.UNKNOWN
    check(encoder, [f"a{unknown}b {unknown}"])


def test_long_texts_and_full_tables(tokenizer_json: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_WORDS", 256)
    monkeypatch.setattr(module, "_MOST_BYTES", 2048)
    monkeypatch.setattr(module, "_TOGETHER_BYTES", 64)
    small = Encoder(tokenizer_json)
    texts = [f"word{n} and {n * 7} more, again and again" for n in range(300)]
    check(small, texts)
    check(small, ["x" * 500, "", *texts[:3], " ".join(texts)])
    check(small, [])


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("normalizer", {"type": "NFC"}),
        ("pre_tokenizer", {"type": "Whitespace"}),
        (
            "pre_tokenizer",
            {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        ),
        (
            "pre_tokenizer",
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
        ),
        ("pre_tokenizer", None),
    ],
)
def test_other_tokenizers_are_asked_for_whole_texts(tokenizer_json: str, part: str, value: object) -> None:
    described = json.loads(tokenizer_json) | {part: value}
    assert not works_word_by_word(json.dumps(described))


def test_words_that_are_tokens_of_their_own_are_found_before_a_text_is_cut(tokenizer_json: str) -> None:
    described = json.loads(tokenizer_json)
    added = {
        "id": 399,
        "content": "at of",
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
    }
    described["added_tokens"].append({**added, "special": False})
    assert not works_word_by_word(json.dumps(described))
    parse(json.dumps(described))


@pytest.mark.parametrize("kind", ["unigram"])
def test_other_models_on_bytes(kind: str) -> None:
    content = train_tokenizer(TEXTS * 20, 300, kind=kind)  # type: ignore[arg-type]
    assert works_word_by_word(content)
    check(Encoder(content), TEXTS)
