"""Near duplicates on both sides of a split are found, as many as there are, and counted by the shard stage."""

from __future__ import annotations

import random
from itertools import product

import pytest
from pyspark.sql import SparkSession

from sparkml.hosting.leaks import count_leaks, leaks

WORDS = ["".join(letters) for letters in product("aeiounrst", repeat=3)]  # of digits, all look alike


def text(seed: int, n: int = 120) -> str:
    rng = random.Random(seed)
    return " ".join(rng.choice(WORDS) for _ in range(n))


def changed(of: str, every: int) -> str:
    """The text with every so-many-th word another one."""
    words = of.split()
    return " ".join("changed" if place % every == every - 1 else word for place, word in enumerate(words))


def jaccard(left: str, right: str) -> float:
    sets = [
        {tuple(words[k : k + 5]) for k in range(len(words) - 4)} for words in (left.split(), right.split())
    ]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


@pytest.fixture
def rows() -> list[tuple[str, str, str]]:
    """40 held-out documents with a copy in training, ever less similar, among others that nothing resembles."""
    found = [(f"v{number:02d}", "validation", text(number)) for number in range(40)]
    found += [(f"t{number:02d}", "train", changed(text(number), 6 + 3 * number)) for number in range(40)]
    found += [(f"x{number:03d}", "train", text(1000 + number)) for number in range(200)]
    return [*found, ("short", "validation", "few words"), ("short-too", "train", "few words")]


def test_all_that_are_similar_enough_are_found_with_their_similarity(spark: SparkSession, rows) -> None:
    documents = spark.createDataFrame(rows, "doc_id string, split string, text string")
    by_id = {doc_id: content for doc_id, _, content in rows}
    found = {(row[0], row[1]): row[2] for row in leaks(documents, 0.5).collect()}
    expected = {
        (f"v{number:02d}", f"t{number:02d}"): jaccard(by_id[f"v{number:02d}"], by_id[f"t{number:02d}"])
        for number in range(40)
    }
    assert found == pytest.approx({pair: value for pair, value in expected.items() if value >= 0.5})
    assert 10 < len(found) < 40


def test_documents_are_counted_once_and_named(spark: SparkSession, caplog) -> None:
    one = text(1)
    rows = [("v", "validation", one), *[(f"t{n}", "train", changed(one, 50 + n)) for n in range(30)]]
    documents = spark.createDataFrame(rows, "doc_id string, split string, text string")
    assert count_leaks(documents, 0.7) == 1
    named = [
        record.getMessage() for record in caplog.records if "has a near duplicate" in record.getMessage()
    ]
    assert len(named) == 5
    assert named[0].startswith("held-out document v has a near duplicate in training: t")
    assert count_leaks(documents.where("split = 'train'"), 0.7) == 0
