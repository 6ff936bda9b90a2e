"""How many tasks a scoring is cut into: by its bytes alone."""

from __future__ import annotations

import pytest

from sparkml.hosting.scoring import suitable_buckets


@pytest.mark.parametrize(
    ("n_bytes", "buckets"),
    [
        *(
            (0, 1),
            (99_999, 1),
            (100_000, 2),
            (400_000, 8),
            (800_000, 16),
            (16_000_000, 16),
            (16_000_001, 17),
        ),
        *((10**10, 1024), (10**12, 31_250), (10**15, 65_536)),
    ],
)
def test_buckets_follow_from_the_bytes_to_score(n_bytes: int, buckets: int) -> None:
    assert suitable_buckets(n_bytes) == buckets


def test_a_batch_of_a_stream_is_spread_further() -> None:
    assert [suitable_buckets(10_000_000, most) for most in (16, 1024)] == [16, 128]
