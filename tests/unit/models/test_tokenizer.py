"""Encoding of documents."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparkml.errors import InputError
from sparkml.models.tokenizer import MASK_ID, encode_batch, load_tokenizer
from tests.tiny import tiny_tokenizer


def test_documents_are_wrapped_and_cut(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_tokenizer(tmp_path))
    money = tokenizer.encode("money", add_special_tokens=False).ids
    assert encode_batch(tokenizer, ["money", ""], 8) == [[2, *money, 3], [2, 3]]
    long = encode_batch(tokenizer, ["z" * 10_000], 8)[0]
    assert len(long) == 8
    assert (long[0], long[-1]) == (2, 3)


def test_the_cut_before_tokenising_does_not_show(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_tokenizer(tmp_path))
    for text in ("money " * 500, " " * 3_000 + "money", "win prize " * 50):
        whole = tokenizer.encode(text, add_special_tokens=False).ids
        assert encode_batch(tokenizer, [text], 16) == [[2, *whole[:14], 3]]


def test_the_text_of_a_special_token_is_text(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_tokenizer(tmp_path))
    assert MASK_ID not in encode_batch(tokenizer, ["fill the [MASK] here"], 32)[0]


def test_a_foreign_tokenizer_and_a_broken_one_are_refused(tmp_path: Path) -> None:
    file = tiny_tokenizer(tmp_path)
    foreign = tmp_path / "foreign.json"
    foreign.write_text(file.read_text().replace("[SEP]", "</s>"))
    with pytest.raises(InputError, match="special tokens"):
        load_tokenizer(foreign)
    foreign.write_text("{}")
    with pytest.raises(InputError, match="not a tokenizer"):
        load_tokenizer(foreign)
