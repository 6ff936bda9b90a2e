from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkml.kernels.quality import measure_quality
from sparkml.kernels.repetition import measure_repetition
from sparkml.kernels.rules import Rule, first_failures
from sparkml.kernels.signals import QUALITY_SIGNALS, REPETITION_SIGNALS
from sparkml.kernels.texts import read_texts
from sparkml.kernels.words import find_words
from tests.unit.kernels import oracles

# Few words, so that lines, paragraphs and runs of words repeat; also words that join to the same characters.
PIECES = [
    "the",
    "a",
    "aa",
    "of",
    " ",
    " ",
    "\n",
    "\n\n",
    "\r\n",
    "...",
    "…",
    "#",
    "•",
    "-",
    "é",
    "世",
    "😀",
    ".",
    "\u2003",
    "b c",
]
DOCUMENT = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=60).map("".join),
    st.lists(st.sampled_from(PIECES), max_size=60).map(" ".join),
    st.lists(st.sampled_from(PIECES), max_size=30).map("\n".join),
    st.text(max_size=80),
)


def measured(documents: list[str]) -> dict[str, list[float]]:
    """All signals of the documents."""
    texts = read_texts(pa.array(documents, pa.string()))
    words = find_words(texts)
    signals = measure_quality(texts, words, (oracles.STOP_WORDS,)) | measure_repetition(texts, words)
    return {name: values.tolist() for name, values in signals.items()}


@given(st.lists(DOCUMENT, min_size=1, max_size=5))
@settings(max_examples=400, deadline=None)
def test_signals_equal_the_oracles(documents: list[str]) -> None:
    signals = measured(documents)
    for index, document in enumerate(documents):
        tokens = oracles.kernel_words(document)
        expected = oracles.quality(document, tokens) | oracles.repetition(document, tokens)
        assert {name: signals[name][index] for name in expected} == pytest.approx(expected, rel=1e-12)
        assert set(signals) == set(expected) == {*QUALITY_SIGNALS, *REPETITION_SIGNALS}


@pytest.mark.parametrize(
    ("text", "signal", "expected"),
    [
        ("The cat -- and the dog.", "n_words", 5),
        ("ab abcd", "mean_word_length", 3.0),
        ("# a ## b c", "hash_ratio", 3 / 6),
        ("a... b…", "ellipsis_ratio", 2 / 4),
        ("....... a", "ellipsis_ratio", 2 / 2),
        ("- a\n  • b\r\nc\n\nd", "bullet_lines", 2 / 5),
        ("a... \nb…\nc\n", "ellipsis_lines", 2 / 3),
        ("a 1 - b", "alpha_words", 0.5),
        ("the The of the", "stop_words", 2),
        ("a\n\nb\n\n\na", "dup_paragraphs", 1 / 3),
        ("ab\n\nc\n\nab", "dup_paragraph_chars", 2 / 9),
        ("x\ny\nx\n", "dup_lines", 1 / 4),
        ("xx\ny\nxx\n", "dup_line_chars", 2 / 8),
        ("\na\n", "dup_lines", 1 / 3),
        ("a b c a b", "top_2_gram", 6 / 9),
        ("aa bb c bb aa", "top_2_gram", 5 / 13),
        ("a b c", "top_4_gram", 0.0),
        ("a b c d e a b c d e", "dup_5_grams", 5 / 19),
        ("a a a a a a a a a a a", "dup_5_grams", 10 / 21),
        ("", "dup_paragraphs", 0.0),
    ],
)
def test_signals_of_known_texts(text: str, signal: str, expected: float) -> None:
    assert measured([text])[signal] == [pytest.approx(expected)]


def test_signals_do_not_depend_on_the_other_documents() -> None:
    documents = ["a b a b a b", "", "the\n\nthe\n\nof", "a b a b a b"]
    alone = [measured([document]) for document in documents]
    together = measured(documents)
    assert together == {name: [one[name][0] for one in alone] for name in together}


def test_the_first_rule_that_fails_is_the_reason() -> None:
    signals = {"n": np.array([3.0, 5.0, 50.0, 7.0]), "share": np.array([0.9, 0.9, 0.1, 0.5])}
    rules = (
        Rule("short", "n", least=5),
        Rule("high", "share", most=0.5),
        Rule("long", "n", least=4, most=40),
    )
    failed = first_failures(signals, rules, 4)
    assert failed.rule.tolist() == [0, 1, 2, -1]
    assert failed.value[:3].tolist() == [3.0, 0.9, 50.0]
    assert failed.threshold[:3].tolist() == [5.0, 0.5, 40.0]
    assert np.isnan(failed.value[3])


def test_a_limit_of_null_turns_a_rule_off() -> None:
    assert first_failures({"n": np.array([0.0])}, [Rule("off", "n")], 1).rule.tolist() == [-1]
