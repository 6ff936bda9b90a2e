"""Verified pairs against similarities worked out by hand."""

from __future__ import annotations

import pyarrow as pa
import pytest

from sparkml.kernels.verification import verified_pairs

ROWS = pa.schema(
    [("anchor", pa.int64()), ("is_anchor", pa.bool_()), ("doc_id", pa.string()), ("text", pa.string())]
)


def verified(
    rows: list[tuple[int, bool, str, str]], ngram: int, batch_rows: int
) -> list[tuple[str, str, float]]:
    batches = (
        pa.RecordBatch.from_pylist(
            [dict(zip(ROWS.names, row, strict=True)) for row in rows[at : at + batch_rows]], ROWS
        )
        for at in range(0, len(rows), batch_rows)
    )
    return [tuple(row.values()) for batch in verified_pairs(batches, ngram) for row in batch.to_pylist()]


@pytest.mark.parametrize("batch_rows", [1, 2, 100])
def test_each_document_is_compared_with_its_anchor(batch_rows: int) -> None:
    rows = [
        (1, True, "m", "a b c d"),
        (1, False, "a", "A, b; c d!"),  # the same words
        (1, False, "z", "a b c x"),  # 3 of 5 words shared
        (2, True, "q", "a b"),
        (2, False, "r", "c d"),
    ]
    assert verified(rows, 1, batch_rows) == [("a", "m", 1.0), ("m", "z", 0.6), ("q", "r", 0.0)]


def test_pairs_of_words_are_shingles_too() -> None:
    rows = [(1, True, "a", "to be or not to be"), (1, False, "b", "to be or to be")]
    # {to be, be or, or not, not to} and {to be, be or, or to}: 2 of 5
    assert verified(rows, 2, 10) == [("a", "b", 0.4)]


def test_colliding_keys_compare_with_every_holder() -> None:
    rows = [(1, True, "a", "x y"), (1, True, "b", "x z"), (1, False, "c", "x y"), (1, False, "a", "x y")]
    assert verified(rows, 1, 10) == [("a", "c", 1.0), ("b", "c", 1 / 3), ("a", "b", 1 / 3)]
