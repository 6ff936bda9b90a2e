"""BM25 against its formula, word by word."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sparkml.tasks.bm25 import bm25_scores

PASSAGES = ["the late train", "the train the train and the bus", "lunch"]


def by_formula(query: str, passage: str) -> float:
    """Robertson's formula for texts whose words are parted by blanks."""
    words = [text.split() for text in PASSAGES]
    mean = sum(map(len, words)) / len(words)
    own = passage.split()
    total = 0.0
    for word in query.split():
        n, tf = sum(word in text for text in words), own.count(word)
        idf = math.log(1 + (len(words) - n + 0.5) / (n + 0.5))
        total += idf * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * len(own) / mean))
    return total


def test_scores_are_those_of_the_formula() -> None:
    queries = ["late train", "the bus", "lunch lunch", "nothing of it"]
    found = bm25_scores(queries, PASSAGES)(slice(0, 4))
    expected = [[by_formula(query, passage) for passage in PASSAGES] for query in queries]
    assert found == pytest.approx(np.array(expected), rel=1e-5)
    assert found[0].argmax() == 0
    assert bm25_scores(queries, PASSAGES)(slice(1, 2)) == pytest.approx(found[1:2])


def test_words_are_compared_without_case_and_punctuation() -> None:
    found = bm25_scores(["LUNCH?"], PASSAGES)(slice(0, 1))
    assert found[0] == pytest.approx([0, 0, by_formula("lunch", "lunch")], rel=1e-5)


def test_passages_without_words_score_nothing() -> None:
    assert bm25_scores(["a query", "!"], ["...", "?"])(slice(0, 2)).tolist() == [[0, 0], [0, 0]]
