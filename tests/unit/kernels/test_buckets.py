"""Pairs of a bucket beside all pairs, on any cut into batches."""

from __future__ import annotations

import random
from itertools import combinations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkml.kernels.buckets import bucket_pairs

ROWS = pa.schema([("band_hash", pa.int64()), ("key", pa.int64())])


def pairs_of(
    rows: list[tuple[int, int]], window: int, batch_rows: int = 1000
) -> tuple[list[tuple[int, int]], int]:
    """Pairs and the number of pairs left out, the rows arriving in batches."""
    rows = sorted(rows)
    batches = (
        pa.RecordBatch.from_pylist(
            [dict(zip(ROWS.names, row, strict=True)) for row in rows[at : at + batch_rows]], ROWS
        )
        for at in range(0, len(rows), batch_rows)
    )
    found = [row for batch in bucket_pairs(batches, window) for row in batch.to_pylist()]
    pairs = sorted((row["anchor"], row["key"]) for row in found if row["anchor"] != row["key"])
    assert all(row["uncompared"] == 0 for row in found if row["anchor"] != row["key"])
    return pairs, sum(row["uncompared"] for row in found)


def pairs_slowly(rows: list[tuple[int, int]], window: int) -> list[tuple[int, int]]:
    """Each with the `window` before it and with the first, bucket by bucket."""
    found = []
    for band in {band for band, _ in rows}:
        keys = sorted(key for other, key in rows if other == band)
        for rank, key in enumerate(keys):
            before = {rank - back for back in range(1, window + 1) if rank >= back} | ({0} if rank else set())
            found += [(keys[other], key) for other in before]
    return sorted(found)


@settings(max_examples=200, deadline=None)
@given(st.sets(st.tuples(st.integers(-2, 2), st.integers(-9, 30))), st.integers(1, 6), st.integers(1, 9))
def test_pairs_are_those_of_the_slow_reading(
    rows: set[tuple[int, int]], window: int, batch_rows: int
) -> None:
    pairs, left_out = pairs_of(list(rows), window, batch_rows)
    assert pairs == pairs_slowly(list(rows), window)
    every = sum(
        len(list(combinations([key for other, key in rows if other == band], 2)))
        for band in {band for band, _ in rows}
    )
    assert left_out == every - len(pairs)


@pytest.mark.parametrize("size", [2, 3, 9, 10])
def test_small_buckets_are_compared_completely(size: int) -> None:
    rows = [(7, key) for key in range(size)]
    assert pairs_of(rows, window=8) == (list(combinations(range(size), 2)), 0)


def test_a_giant_bucket_costs_a_fixed_number_of_pairs_a_row() -> None:
    size, window = 20_000, 16
    pairs, left_out = pairs_of([(1, key) for key in range(size)], window, batch_rows=2000)
    assert len(pairs) < size * (window + 1)
    assert len(pairs) + left_out == size * (size - 1) // 2
    assert {key for anchor, key in pairs if anchor == 0} == set(range(1, size))  # all share the leader


def test_one_key_twice_is_no_pair() -> None:
    assert pairs_of([(1, 5), (1, 5), (2, 5), (2, 6)], window=4) == ([(5, 6)], 0)


def test_lonely_rows_and_no_rows_make_no_pair() -> None:
    numbers = random.Random(3)
    lonely = [(band, numbers.randrange(100)) for band in range(50)]
    assert pairs_of(lonely, window=3, batch_rows=7) == ([], 0)
    assert pairs_of([], window=3) == ([], 0)
