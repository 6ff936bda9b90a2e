"""The line filter of C4 and the signals of FineWeb, against slow versions of both."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkml.kernels import c4
from sparkml.kernels.characters import sentence_table, terminal_table
from sparkml.kernels.fineweb import measure_fineweb
from sparkml.kernels.signals import FINEWEB_SIGNALS
from sparkml.kernels.texts import as_column, read_texts
from sparkml.kernels.words import find_words
from tests.unit.kernels import oracles

# What the rules look for, whole and in pieces, with white space and marks of many kinds.
PIECES = (
    *(
        "Lorem Ipsum",
        "lorem",
        " ipsum",
        "javaScript",
        "java",
        "{",
        "}",
        "uses coo\u212aies",
        "Privacy Policy",
        "use",
    ),
    *(
        "terms of use",
        "[1]",
        "[]",
        "[edit]",
        "[citation needed]",
        "[a]",
        "[",
        "]",
        "\u0663",
        "...",
        ".",
        "?",
        "!",
    ),
    *(
        '"',
        "'",
        "\u203d",
        "\u3002",
        ",",
        ")",
        "-",
        "word",
        "a",
        "\u00e9",
        "\u4e16",
        "\U0001f600",
        "e.g.",
        "x" * 31,
    ),
    *(" ", " ", "  ", "\t", "\u00a0", "\n", "\n", "\n\n", "\r\n", "\r", "\u2028", "\x1c"),
)
DOCUMENT = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=40).map("".join),
    st.lists(st.sampled_from(PIECES), max_size=40).map(" ".join),
    st.lists(st.sampled_from(PIECES), max_size=40).map(lambda pieces: "a b " + " ".join(pieces) + "."),
    st.text(max_size=60),
)


def left_of(documents: list[str], *, terminal: bool) -> list[tuple[str, str, int]]:
    """What the kernels leave of documents, as the oracle says it."""
    texts, dropped = c4.keep_lines(
        read_texts(pa.array(documents, pa.string())), terminal=terminal, min_words=3, max_word_chars=1000
    )
    column = as_column(texts, pa.string())
    column.validate(full=True)
    counts = c4.count_sentences(texts, find_words(texts))
    names = {0: "", c4.LOREM_IPSUM: "lorem_ipsum", c4.CURLY_BRACKET: "curly_bracket"}
    return [
        ("" if why else text, names[why], 0 if why else int(count))
        for text, why, count in zip(column.to_pylist(), dropped.tolist(), counts, strict=True)
    ]


@given(st.lists(DOCUMENT, min_size=1, max_size=5), st.booleans())
@settings(max_examples=600, deadline=None)
def test_the_line_filter_equals_the_oracle(documents: list[str], terminal: bool) -> None:
    assert left_of(documents, terminal=terminal) == [oracles.c4(one, terminal=terminal) for one in documents]


@given(st.lists(DOCUMENT, min_size=1, max_size=5))
@settings(max_examples=400, deadline=None)
def test_fineweb_signals_equal_the_oracle(documents: list[str]) -> None:
    texts = read_texts(pa.array(documents, pa.string()))
    signals = measure_fineweb(texts, find_words(texts), 30)
    assert tuple(signals) == FINEWEB_SIGNALS
    for place, document in enumerate(documents):
        expected = oracles.fineweb(document, oracles.kernel_words(document))
        assert {name: values[place] for name, values in signals.items()} == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (
            "One two three.\nshort one.\nNo end here\nHe said 'fine'\nwait for it...",
            "One two three.\nHe said 'fine'",
        ),
        ("See [1] this[23] here[edit]. [citation needed]", ""),  # the blank behind the citation is its end
        ("See [1] this[23] here[edit].", "See  this here."),
        ("a b c.\r\nd e f!", "a b c.\nd e f!"),
        (f"a b {'x' * 1001}.", ""),
        ("We use Cookies here.\nThis stays with us.", "This stays with us."),
    ],
)
def test_lines_that_stay(text: str, left: str) -> None:
    assert left_of([text], terminal=True)[0][0] == left


def test_what_is_not_watched_stays() -> None:
    texts = read_texts(pa.array(["Lorem ipsum and {javascript}.\nLorem ipsum is here."]))
    for watched, left in ((c4.WATCHED & ~c4.LOREM_IPSUM, 20), (0, 50), (c4.CURLY_BRACKET, 0)):
        kept, dropped = c4.keep_lines(texts, terminal=True, min_words=3, max_word_chars=1000, watched=watched)
        assert int(kept.offsets[-1]) == left
        assert bool(dropped[0]) == (left == 0)


def test_marks_that_end_a_sentence() -> None:
    assert int(terminal_table().sum()) == 159
    ends = sentence_table() & 2
    assert all(ends[ord(mark)] for mark in ".!?\u203d\u3002\u0964")
    assert not any(ends[ord(mark)] for mark in ",;:\u2026\"'")


@given(st.lists(DOCUMENT, min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_paragraphs_are_long_lines(documents: list[str]) -> None:
    counts = c4.count_paragraphs(read_texts(pa.array(documents, pa.string())), 10)
    assert counts.tolist() == [sum(len(line) >= 10 for line in one.split("\n")) for one in documents]
