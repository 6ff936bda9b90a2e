"""How many buckets, how large row groups and files: from bytes alone."""

from __future__ import annotations

import pytest

from sparkml.frame.sizing import bucket_count
from sparkml.hosting.sizes import ID_BYTES, FileShape, file_shape, suitable_row_group
from sparkml.stages.shard.stage import SourceSize, suitable_buckets


@pytest.mark.parametrize(
    ("n_bytes", "buckets"),
    [
        (0, 1),
        (4_000_000, 1),
        (4_000_001, 2),
        (100_000_000, 25),
        (4_096_000_000, 1024),
        (131_072_000_000, 1024),  # 128 MB each from here on
        (131_072_000_001, 1025),
        (10**12, 7813),
        (10**15, 65_536),
    ],
)
def test_buckets_of_a_corpus(n_bytes: int, buckets: int) -> None:
    assert suitable_buckets(SourceSize(bytes=n_bytes, train_sample_bytes=0)) == buckets


def test_more_bytes_never_have_fewer_buckets() -> None:
    counts = [bucket_count(3**power, from_bytes=1_000, to_bytes=50_000) for power in range(40)]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (1, 65_536)


@pytest.mark.parametrize(
    ("samples", "sequence_length", "rows"),
    [
        (0, 128, 128),
        (6_000, 128, 128),  # 47 row groups of 64 KB
        (2_000_000, 128, 4096),  # a 256th of 1 GB is 7,812 rows
        (20_000_000, 128, 16_384),  # 8 MB
        (10**9, 128, 16_384),
        (10**10, 2_048, 8_192),  # 64 MB: a million and a fifth of row groups
        (3, 65_536, 1),  # one sample is 256 KB
    ],
)
def test_row_groups(samples: int, sequence_length: int, rows: int) -> None:
    assert suitable_row_group(samples, sequence_length * ID_BYTES) == rows


def test_two_ranks_have_many_row_groups_of_a_small_corpus() -> None:
    assert 6_000 / 2 / suitable_row_group(6_000, 128 * ID_BYTES) > 20


def test_files_hold_whole_row_groups_and_about_the_bytes_asked_for() -> None:
    shape = file_shape(20_000_000, 128 * ID_BYTES, rows_per_row_group=None, file_bytes=128 << 20)
    assert shape == FileShape(rows_per_row_group=16_384, rows_per_file=42 * 16_384)
    assert 0.97 < shape.rows_per_file * 128 * 1.5 / (128 << 20) <= 1


def test_what_is_asked_for_is_taken() -> None:
    assert file_shape(1_000, 16 * ID_BYTES, rows_per_row_group=8, file_bytes=384) == FileShape(8, 16)
    # A row group is never cut: a file holds one at least.
    assert file_shape(1_000, 16 * ID_BYTES, rows_per_row_group=8, file_bytes=1) == FileShape(8, 8)


def test_the_footer_of_a_file_stays_small() -> None:
    assert file_shape(10**6, 128 * ID_BYTES, rows_per_row_group=256, file_bytes=1 << 30) == FileShape(
        256, 64 * 256
    )
    assert file_shape(40_000, 128 * ID_BYTES, rows_per_row_group=None, file_bytes=128 << 20) == FileShape(
        128, 64 * 128
    )


def test_files_grow_before_there_are_too_many() -> None:
    shape = file_shape(10**10, 2_048 * ID_BYTES, rows_per_row_group=None, file_bytes=128 << 20)
    assert 30_000 < 10**10 / shape.rows_per_file < 34_000
