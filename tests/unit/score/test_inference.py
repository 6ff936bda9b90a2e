from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from sparkml.inference.batches import SCORED_SCHEMA, Document, chunks, documents_of, score_chunk


class VowelScorer:
    """Probability of a label: the share of its vowel among the text's vowels. Fails where there is none."""

    labels = ("a", "e", "o")

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [[ord(character) for character in text] for text in texts]

    def score_ids(self, input_ids: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
        texts = ["".join(map(chr, ids)) for ids in input_ids]
        self.calls.append(texts)
        rows = []
        for text in texts:
            counts = [text.count(label) for label in self.labels]
            if "!" in text:
                rows.append([float("nan")] * 3)
                continue
            if not sum(counts):
                raise ValueError(f"no vowel in {text!r}")
            rows.append([count / sum(counts) for count in counts])
        return np.array(rows, dtype=np.float32)


def document(doc_id: str, text: str | None) -> Document:
    return Document(doc_id, f"hash of {doc_id}", text)


def test_a_row_names_the_best_label_and_all_scores_in_their_order() -> None:
    (row,) = score_chunk(VowelScorer(), [document("d", "ooa")], None)
    assert row == {
        "doc_id": "d",
        "text_hash": "hash of d",
        "prediction": "o",
        "score": 0.666667,
        "scores": [("o", 0.666667), ("a", 0.333333), ("e", 0.0)],
        "error": None,
        "n_tokens": 3,
    }


def test_equal_scores_keep_the_order_of_the_labels() -> None:
    (row,) = score_chunk(VowelScorer(), [document("d", "oea")], 2)
    assert row["scores"] == [("a", 0.333333), ("e", 0.333333)]


def test_the_document_that_fails_is_found_and_the_others_are_scored() -> None:
    scorer = VowelScorer()
    documents = [document("1", "a"), document("2", "xyz"), document("3", None), document("4", "e")]
    rows = score_chunk(scorer, documents, None)
    assert [(row["doc_id"], row["prediction"], row["error"]) for row in rows] == [
        ("1", "a", None),
        ("2", None, "ValueError: no vowel in 'xyz'"),
        ("3", None, "text is null"),
        ("4", "e", None),
    ]
    assert scorer.calls == [["a", "xyz", "e"], ["a"], ["xyz"], ["e"]]


def test_scores_that_are_not_finite_are_an_error() -> None:
    rows = score_chunk(VowelScorer(), [document("1", "!"), document("2", "a")], None)
    assert [(row["prediction"], row["error"]) for row in rows] == [
        (None, "the model's scores are not finite"),
        ("a", None),
    ]


def test_only_null_texts_never_reach_the_model() -> None:
    scorer = VowelScorer()
    assert [row["error"] for row in score_chunk(scorer, [document("1", None)], None)] == ["text is null"]
    assert scorer.calls == []


def test_rows_fit_the_arrow_schema() -> None:
    rows = score_chunk(VowelScorer(), [document("1", "ae"), document("2", "x")], None)
    batch = pa.RecordBatch.from_pylist(rows, schema=SCORED_SCHEMA)
    assert batch.column("scores").to_pylist() == [[("a", 0.5), ("e", 0.5), ("o", 0.0)], None]


def batches_of(sizes: Sequence[int]) -> Iterator[pa.RecordBatch]:
    ids = iter(range(100))
    for size in sizes:
        names = [str(next(ids)) for _ in range(size)]
        yield pa.RecordBatch.from_pydict({"doc_id": names, "text_hash": names, "text": ["x"] * size})


@pytest.mark.parametrize("sizes", [[7], [1, 6], [3, 0, 3, 1], [1] * 7])
def test_chunks_do_not_depend_on_the_batches(sizes: list[int]) -> None:
    found = [[d.doc_id for d in chunk] for chunk in chunks(documents_of(batches_of(sizes)), 3)]
    assert found == [["0", "1", "2"], ["3", "4", "5"], ["6"]]


def test_a_chunk_of_very_long_documents_is_short() -> None:
    documents = [document(str(n), "x" * 5_000_000) for n in range(3)]
    assert [len(chunk) for chunk in chunks(iter(documents), 256)] == [2, 1]


def test_no_documents_give_no_chunk() -> None:
    assert list(chunks(iter([]), 3)) == []
