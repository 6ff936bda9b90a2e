"""The index against brute force, its files, and what is compared in a worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from sparkml.errors import InputError
from sparkml.inference import neighbours
from sparkml.inference.neighbours import CORPUS, IDS_FILE, QUERIES, SIDE, VECTORS_FILE, Neighbours, searching


def by_brute_force(queries: Any, ids: list[str], corpus: Any, k: int) -> list[list[str]]:
    """Cosines of all pairs in float64; ties, which rounding must not part, by id."""
    left, right = (np.asarray(one, np.float64) for one in (queries, corpus))
    cosines = (left / np.linalg.norm(left, axis=1)[:, None]) @ (
        right / np.linalg.norm(right, axis=1)[:, None]
    ).T
    return [
        [ids[place] for place in sorted(range(len(ids)), key=lambda place: (-row[place], ids[place]))[:k]]
        for row in np.round(cosines, 6)
    ]


def small_vectors(seed: int, n: int) -> np.ndarray:
    """Few different directions: many ties."""
    return np.random.default_rng(seed).choice([-1.0, 1.0, 2.0], size=(n, 3)).astype(np.float32)


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 12), st.integers(1, 7))
@settings(max_examples=60, deadline=None)
def test_neighbours_are_those_of_brute_force(seed: int, n: int, n_queries: int, k: int) -> None:
    corpus, queries = small_vectors(seed, n), small_vectors(seed + 1, n_queries)
    ids = [f"c{number}" for number in np.random.default_rng(seed).permutation(n)]
    found, similarities = Neighbours.of(ids, corpus).search(queries, k)
    expected = by_brute_force(queries, ids, corpus, k)
    assert [[one for one in row if one is not None] for row in found.tolist()] == expected
    filled = min(n, k)
    assert np.isnan(similarities[:, filled:]).all()
    assert (np.diff(similarities[:, :filled], axis=1) <= 0).all()


def test_blocks_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    corpus, queries = (rng.normal(size=(n, 48)).astype(np.float32) for n in (300, 40))
    corpus[50:90] = corpus[50]
    index = Neighbours.of([f"{number:03d}" for number in range(300)], corpus)
    queries[3] = corpus[60]
    whole = index.search(queries, 10)
    for query_rows, corpus_rows in ((1, 300), (7, 11), (40, 1)):
        monkeypatch.setattr(neighbours, "_QUERY_ROWS", query_rows)
        monkeypatch.setattr(neighbours, "_CORPUS_ROWS", corpus_rows)
        ids, similarities = index.search(queries, 10)
        assert (ids == whole[0]).all()
        assert (similarities == whole[1]).all()
    assert whole[0][3].tolist() == [f"{number:03d}" for number in range(50, 60)]
    assert whole[1][3] == pytest.approx(1.0)


def test_a_query_does_not_find_itself_where_it_is_not_to() -> None:
    index = Neighbours.of(["a", "b", "c"], [[1, 0], [2, 0], [0, 1]])
    found, _ = index.search([[1, 0], [0, 1]], 2, own_ids=["a", "c"])
    assert found.tolist() == [["b", "c"], ["a", "b"]]
    alone = Neighbours.of(["a"], [[1, 0]]).search([[1, 0]], 2, own_ids=["a"])
    assert alone[0].tolist() == [[None, None]]


def test_what_is_saved_comes_back_mapped_into_memory(tmp_path: Path) -> None:
    index = Neighbours.of(["b", "ä", "a"], [[0, 3], [1, 1], [2, 0]])
    index.save(tmp_path / "index")
    again = Neighbours.load(tmp_path / "index")
    assert isinstance(again.vectors, np.memmap)
    assert again.ids.to_pylist() == ["a", "b", "ä"]
    assert again.search([[1, 0]], 3)[0].tolist() == [["a", "ä", "b"]]
    (vectors,) = load_file(tmp_path / "index" / VECTORS_FILE).values()  # as any program reads it
    assert vectors == pytest.approx(np.array([[1, 0], [0, 1], [0.5**0.5, 0.5**0.5]]))
    empty = Neighbours.of([], np.empty((0, 3)))
    empty.save(tmp_path / "empty")
    assert Neighbours.load(tmp_path / "empty").search([[1, 2, 3]], 1)[0].tolist() == [[None]]


def test_what_is_no_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not an index"):
        Neighbours.load(tmp_path)
    one, two = (Neighbours.of(list("ab")[:n], np.eye(2)[:n]) for n in (1, 2))
    one.save(tmp_path / "one")
    two.save(tmp_path / "two")
    (tmp_path / "one" / IDS_FILE).write_bytes((tmp_path / "two" / IDS_FILE).read_bytes())
    with pytest.raises(InputError, match="2 ids, 1 vectors"):
        Neighbours.load(tmp_path / "one")
    cut = (tmp_path / "two" / VECTORS_FILE).read_bytes()[:-4]
    (tmp_path / "two" / VECTORS_FILE).write_bytes(cut)
    with pytest.raises(InputError, match="not an index"):
        Neighbours.load(tmp_path / "two")


@pytest.mark.parametrize(
    ("ids", "vectors", "message"),
    [
        (["a", "a"], [[1, 0], [0, 1]], "the same id"),
        (["a"], [[1, 0], [0, 1]], "1 ids, 2 vectors"),
        (["a", "b"], [[1, 0], [0, 0]], "row 1"),
        (["a"], [[np.nan, 0]], "no direction"),
        (["a"], [1.0, 2.0], "1 axes"),
    ],
)
def test_vectors_that_cannot_be_compared_are_refused(ids: list[str], vectors: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Neighbours.of(ids, vectors)


def test_queries_of_another_length_are_refused() -> None:
    with pytest.raises(InputError, match="2 numbers a vector"):
        Neighbours.of(["a"], [[1, 0]]).search([[1, 0, 0]], 1)


def batch(side: int, ids: list[str], vectors: list[list[float]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(
        {
            SIDE: pa.array([side] * len(ids), pa.int32()),
            "doc_id": ids,
            "embedding": pa.array(vectors, pa.list_(pa.float32())),
        }
    )


def test_in_a_worker_queries_come_first_and_the_corpus_passes_by() -> None:
    both = pa.Table.from_batches(
        [
            batch(QUERIES, ["q1", "x"], [[1, 0], [0, 1]]),
            batch(CORPUS, ["x", "c1", "c2"], [[0, 2], [1, 1], [5, 0]]),
        ]
    ).combine_chunks()
    rows = both.to_batches(max_chunksize=4)  # a border within the corpus, another side within a batch
    search = searching(2, exclude_self=True, min_similarity=0.5)
    (found,) = search(iter(rows))
    half = 0.5**0.5
    assert [tuple(row.values()) for row in found.to_pylist()] == [
        ("q1", "c2", 1.0),
        ("q1", "c1", pytest.approx(half)),
        ("x", "c1", pytest.approx(half)),
    ]
    assert list(search(iter([batch(QUERIES, ["q"], [[1, 0]])]))) == []
    assert list(search(iter([batch(CORPUS, ["c"], [[1, 0]])]))) == []
