"""From Arrow batches of examples to rows of answers, in a worker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pytest

from sparkml.inference.batches import (
    ANSWER_FIELDS,
    SCORED_SCHEMA,
    ModelSource,
    answer_chunk,
    answer_rows,
    chunks,
    scoring,
)
from sparkml.tasks.task import Answer
from tests.tiny import tiny_classifier


class VowelScorer:
    """Probability of a label: the share of its vowel among the text's vowels. Fails where there is none."""

    labels = ("a", "e", "o")
    engine = "vowels"

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def answer_batch(self, examples: pa.RecordBatch) -> list[Answer]:
        texts = examples.column("text").to_pylist()
        self.calls.append(texts)
        return [self.answer(text) for text in texts]

    def answer(self, text: str) -> Answer:
        counts = [text.count(label) for label in self.labels]
        if not sum(counts):
            raise ValueError(f"no vowel in {text!r}")
        shares = [(label, n / sum(counts)) for label, n in zip(self.labels, counts, strict=True)]
        ranked = sorted(shares, key=lambda share: -share[1])
        return Answer(*ranked[0], ranked, n_tokens=len(text))


def examples_of(*texts: str | None) -> pa.RecordBatch:
    names = [str(number) for number in range(len(texts))]
    hashes = [f"hash of {name}" for name in names]
    columns = {"doc_id": names, "text_hash": hashes, "text": pa.array(texts, pa.string())}
    return pa.RecordBatch.from_pydict(columns)


def rows_of(scorer: VowelScorer, *texts: str, top_labels: int | None = None) -> list[dict[str, object]]:
    chunk = examples_of(*texts)
    batch = answer_rows(chunk, answer_chunk(scorer, chunk), top_labels, scorer.engine)
    assert batch.schema == SCORED_SCHEMA
    return batch.to_pylist()


def test_a_row_names_the_best_label_and_all_scores_in_their_order() -> None:
    (row,) = rows_of(VowelScorer(), "ooa")
    assert row == {
        "doc_id": "0",
        "text_hash": "hash of 0",
        "prediction": "o",
        "score": 0.666667,
        "scores": [("o", 0.666667), ("a", 0.333333), ("e", 0.0)],
        "spans": None,
        "embedding": None,
        "output": None,
        "error": None,
        "n_tokens": 3,
        "engine": "vowels",
    }


def test_only_the_highest_scores_are_kept_where_asked_for() -> None:
    (row,) = rows_of(VowelScorer(), "oea", top_labels=2)
    assert row["scores"] == [("a", 0.333333), ("e", 0.333333)]


def test_the_example_that_fails_is_found_and_the_others_are_answered() -> None:
    scorer = VowelScorer()
    rows = rows_of(scorer, "a", "xyz", "e")
    assert [(row["doc_id"], row["prediction"], row["error"], row["n_tokens"]) for row in rows] == [
        ("0", "a", None, 1),
        ("1", None, "ValueError: no vowel in 'xyz'", 0),
        ("2", "e", None, 1),
    ]
    assert all(
        rows[1][name] is None for name, _ in ANSWER_FIELDS if name not in ("error", "n_tokens", "engine")
    )
    assert scorer.calls == [["a", "xyz", "e"], ["a"], ["xyz", "e"], ["xyz"], ["e"]]


def test_a_very_long_error_is_cut() -> None:
    (row,) = rows_of(VowelScorer(), "x" * 9_000)
    assert len(str(row["error"])) == 500


def test_spans_embeddings_and_outputs_have_columns_of_their_own() -> None:
    span = {"start": 0, "end": 3, "label": "PER", "score": 0.12345678}
    answers = [Answer(spans=[span]), Answer(embedding=[0.5, -1.0]), Answer(output="a summary"), Answer()]
    rows = answer_rows(examples_of("a", "b", "c", "d"), answers, None, "none").to_pylist()
    assert [row["spans"] for row in rows] == [[{**span, "score": 0.123457}], None, None, None]
    assert [row["embedding"] for row in rows] == [None, [0.5, -1.0], None, None]
    assert [row["output"] for row in rows] == [None, None, "a summary", None]


def batches_of(sizes: Sequence[int]) -> Iterator[pa.RecordBatch]:
    ids = iter(range(100))
    for size in sizes:
        names = [str(next(ids)) for _ in range(size)]
        yield pa.RecordBatch.from_pydict(
            {name: pa.array(names, pa.string()) for name in ("doc_id", "text_hash", "text")}
        )


@pytest.mark.parametrize("sizes", [[7], [1, 6], [3, 0, 3, 1], [1] * 7])
def test_chunks_do_not_depend_on_the_batches(sizes: list[int]) -> None:
    found = [chunk.column("doc_id").to_pylist() for chunk in chunks(batches_of(sizes), 3)]
    assert found == [["0", "1", "2"], ["3", "4", "5"], ["6"]]


def test_a_chunk_of_very_large_examples_is_short() -> None:
    texts = examples_of(*["x" * 6_000_000] * 3)
    assert [chunk.num_rows for chunk in chunks(iter([texts]), 256)] == [3]
    longer = examples_of(*["x" * 9_000_000] * 3)
    assert [chunk.num_rows for chunk in chunks(iter([longer]), 256)] == [2, 1]
    media = pa.RecordBatch.from_pydict({"media": [b"x" * 9_000_000, None, b"", b"x" * 9_000_000, b"x"]})
    assert [chunk.num_rows for chunk in chunks(iter([media]), 256)] == [4, 1]
    words = pa.array([["w"], ["x" * 9_000_000, "y" * 8_000_000], None, ["z"]], pa.list_(pa.string()))
    sliced = pa.RecordBatch.from_pydict({"tokens": words}).slice(1)
    assert [chunk.num_rows for chunk in chunks(iter([sliced]), 256)] == [1, 2]


def test_no_examples_give_no_chunk() -> None:
    assert list(chunks(iter([]), 3)) == []


def test_a_worker_answers_by_the_models_directory_whatever_the_batches(tmp_path) -> None:
    folder = tiny_classifier(tmp_path / "model")
    score = scoring(ModelSource(str(folder), "one", threads=1), chunk_rows=2, top_labels=1)
    examples = examples_of("win a prize", None, "lunch tomorrow", "free cash", "home")
    whole = [row for batch in score(iter([examples])) for row in batch.to_pylist()]
    pieces = [examples.slice(0, 1), examples.slice(1, 3), examples.slice(4, 1)]
    assert [row for batch in score(iter(pieces)) for row in batch.to_pylist()] == whole
    assert [row["doc_id"] for row in whole] == ["0", "1", "2", "3", "4"]
    assert [row["error"] for row in whole] == [None, "text_missing null", None, None, None]
    assert {row["prediction"] for row in whole} <= {"a", "b", "c", None}
    assert [len(row["scores"] or []) for row in whole] == [1, 0, 1, 1, 1]
