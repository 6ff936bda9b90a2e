"""Which documents of an LSH bucket are compared: never more than a fixed number a document.

All pairs of a bucket of n documents are n*(n-1)/2: a page template shared by a million documents would mean
5 * 10^11 comparisons. Here each document meets the `window` documents before it in its bucket and the
bucket's first one. So the work is linear in the rows, and a bucket of up to `window` + 2 documents is
compared completely. What larger ones leave out is counted; their documents still share a leader, so that
the copies of one template stay one cluster.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

I64 = npt.NDArray[np.int64]

PAIRS = pa.schema([("anchor", pa.int64()), ("key", pa.int64()), ("uncompared", pa.int64())])


@dataclass(frozen=True)
class _Tail:
    """The last rows of a batch: what the next batch's rows of the same bucket are compared with."""

    bands: I64
    keys: I64
    ranks: I64
    leaders: I64


def bucket_pairs(batches: Iterator[pa.RecordBatch], window: int) -> Iterator[pa.RecordBatch]:
    """Pairs to compare (anchor < key) from rows (band_hash, key) sorted by both, in memory of a batch.

    Yields (anchor, key, uncompared): `uncompared` is 0 for a pair; a row of a leader with itself says how
    many pairs of its bucket were left out.
    """
    empty = np.empty(0, dtype=np.int64)
    tail = _Tail(empty, empty, empty, empty)
    for batch in batches:
        if batch.num_rows:
            found, tail = _pairs_of(batch, tail, window)
            yield found


def _pairs_of(batch: pa.RecordBatch, tail: _Tail, window: int) -> tuple[pa.RecordBatch, _Tail]:
    bands = np.concatenate([tail.bands, batch.column("band_hash").to_numpy(zero_copy_only=False)])
    keys = np.concatenate([tail.keys, batch.column("key").to_numpy(zero_copy_only=False)])
    ranks, leaders = _ranks(bands, keys, tail)
    known = len(tail.bands)
    anchors, others = [], []
    for back in range(1, window + 1):
        at = known + np.flatnonzero(ranks[known:] >= back)
        if not len(at):
            break
        anchors.append(keys[at - back])
        others.append(keys[at])
    far = known + np.flatnonzero(ranks[known:] > window)
    anchors.append(leaders[far])
    others.append(keys[far])
    crowded, bucket = np.unique(leaders[far], return_inverse=True)
    left_out = np.bincount(bucket, weights=ranks[far] - window - 1).astype(np.int64)
    end = slice(len(bands) - min(window, len(bands)), None)
    found = _as_batch(np.concatenate(anchors), np.concatenate(others), crowded, left_out)
    return found, _Tail(bands[end], keys[end], ranks[end], leaders[end])


def _ranks(bands: I64, keys: I64, tail: _Tail) -> tuple[I64, I64]:
    """Per row its place in its bucket and the bucket's first key, going on from the batch before."""
    begins = np.flatnonzero(np.concatenate([[True], bands[1:] != bands[:-1]]))
    bucket = np.repeat(np.arange(len(begins)), np.diff(np.append(begins, len(bands))))
    ranks = np.arange(len(bands), dtype=np.int64) - begins[bucket]
    leaders = keys[begins][bucket]
    if len(tail.bands):
        in_first = bucket == 0
        ranks[in_first] += tail.ranks[0]
        leaders[in_first] = tail.leaders[0]
    return ranks, leaders


def _as_batch(anchors: I64, keys: I64, crowded: I64, left_out: I64) -> pa.RecordBatch:
    # Equal keys are one document twice, or two whose 64-bit keys collide: no pair to compare either way.
    differ = anchors != keys
    told = left_out > 0
    columns = (
        np.concatenate([anchors[differ], crowded[told]]),
        np.concatenate([keys[differ], crowded[told]]),
        np.concatenate([np.zeros(differ.sum(), dtype=np.int64), left_out[told]]),
    )
    return pa.RecordBatch.from_arrays([pa.array(column) for column in columns], schema=PAIRS)
