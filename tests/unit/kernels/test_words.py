from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkml.kernels.rolling import BASE, hash_word, home_slot, power, powers, slot_of
from sparkml.kernels.texts import pieces, read_texts
from sparkml.kernels.word_splitting import HAS_LETTER, ONLY_PUNCTUATION
from sparkml.kernels.words import Memory, count_proper_words, find_words
from tests.unit.kernels import oracles

TRICKY = st.text("aBcZ09.,-'’…#•\n\r \t\u00a0é世😀:/()@°CF$USAk%+~—\u0301mns!?=*<>_|\u2028हि", max_size=40)
ANY = st.text(max_size=60)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n\t ", []),
        ("Hello, world!", ["Hello", ",", "world", "!"]),
        (
            "He can't won't (don’t) I'd've",
            ["He", "ca", "n't", "wo", "n't", "(", "do", "n’t", ")", "I", "'d", "'ve"],
        ),
        ("Mr. Smith met her in Jan. 10am", ["Mr.", "Smith", "met", "her", "in", "Jan.", "10", "am"]),
        ("The end... wait… no", ["The", "end", "...", "wait", "…", "no"]),
        ("end.Next U.S.A. e.g. i.e.,", ["end", ".", "Next", "U.S.A.", "e.g.", "i.e.", ","]),
        (
            "well-known a/b x=y 1-2 -1",
            ["well", "-", "known", "a", "/", "b", "x", "=", "y", "1", "-", "2", "-1"],
        ),
        ("3.14 1,000 5% $20 10km C++", ["3.14", "1,000", "5", "%", "$", "20", "10", "km", "C++"]),
        (
            "see https://a.org/x-y?z=1, or b@c.com.",
            ["see", "https://a.org/x-y?z=1", ",", "or", "b@c.com", "."],
        ),
        ("`np.array([1, 2])` :)", ["`", "np.array([1", ",", "2", "]", ")", "`", ":)"]),
        ("(sad:(", ["(", "sad", ":("]),
        ("“Ünïcode” — 世界。", ["“", "Ünïcode", "”", "—", "世界", "。"]),
        ("smile 😀😀 ok", ["smile", "😀", "😀", "ok"]),
        ("......", ["......"]),
        ("``x``", ["`", "`", "x", "`", "`"]),
    ],
)
def test_words_are_those_of_spacys_english_tokenizer(text: str, expected: list[str]) -> None:
    assert oracles.kernel_words(text) == expected
    assert oracles.words(text) == expected


@given(st.one_of(TRICKY, ANY))
@settings(max_examples=400, deadline=None)
def test_words_equal_the_oracles(text: str) -> None:
    assert oracles.kernel_words(text) == oracles.words(text)


@given(st.lists(st.one_of(TRICKY, ANY), max_size=6))
@settings(max_examples=100, deadline=None)
def test_every_word_is_measured(documents: list[str]) -> None:
    texts = read_texts(pa.array(documents, pa.string()))
    found = find_words(texts)
    content = texts.data.tobytes()
    words = [content[row[0] : row[1]].decode() for row in found.table]
    assert found.doc_chars.tolist() == [len(document) for document in documents]
    assert found.chars.tolist() == [len(word) for word in words]
    assert found.hashes.tolist() == [hash_word(word) for word in words]
    assert [bool(kind & HAS_LETTER) for kind in found.kinds] == [
        any(map(str.isalpha, word)) for word in words
    ]
    per_document = [len(oracles.words(document)) for document in documents]
    assert np.diff(found.offsets).tolist() == per_document


def test_a_word_of_punctuation_alone_is_none() -> None:
    found = find_words(read_texts(pa.array(["a -- b ...", "!!", ""])))
    assert [bool(kind & ONLY_PUNCTUATION) for kind in found.kinds] == [False, True, False, True, True, True]
    assert count_proper_words(found).tolist() == [2.0, 0.0, 0.0]


def test_slices_nulls_and_large_strings_read_alike() -> None:
    rows = ["zero one", None, "two three four", "five"]
    narrow, wide = pa.array(rows), pa.array(rows, pa.large_string())
    for column in (narrow, wide, pa.concat_arrays([pa.array(["x"]), narrow]).slice(1)):
        assert np.diff(find_words(read_texts(column)).offsets).tolist() == [2, 0, 3, 1]
    assert np.diff(find_words(read_texts(narrow.slice(2))).offsets).tolist() == [3, 1]
    assert len(find_words(read_texts(narrow.slice(0, 0))).table) == 0


def test_memory_is_used_again() -> None:
    memory = Memory()
    long = find_words(read_texts(pa.array(["a b c d e f"])), memory).table
    short = find_words(read_texts(pa.array(["a b"])), memory).table
    assert np.shares_memory(long, short)
    assert len(short) == 2


def test_a_long_run_without_white_space() -> None:
    assert len(oracles.kernel_words("x=" * 3000)) == 2 * 2999 + 1  # the last two stay together
    assert oracles.kernel_words("(" * 5000) == ["("] * 5000


def test_hashes_of_joined_words_follow_from_their_parts() -> None:
    table = powers(4)
    for left, right in (("ab", "c"), ("é", "世界 and more than the table holds")):
        shift = int(power(table, len(right.encode())))
        assert shift == pow(int(BASE), len(right.encode()), 1 << 64)
        assert (hash_word(left) * shift + hash_word(right)) % (1 << 64) == hash_word(left + right)


def test_the_home_slot_is_the_same_in_and_outside_compiled_code() -> None:
    for value in (0, 1, hash_word("word"), (1 << 64) - 1):
        assert slot_of(np.uint64(value), 4095) == home_slot(value, 4095)


def test_pieces_hold_whole_documents() -> None:
    column = pa.array(["aaaa", "bb", None, "cccccccccc", "d"])
    assert list(pieces(column, 6)) == [(0, 3), (3, 4), (4, 5)]
    assert list(pieces(column, 1)) == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]
    assert list(pieces(column.slice(5), 6)) == []
