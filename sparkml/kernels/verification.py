"""True similarity of candidate pairs: shingle sets of two documents compared exactly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from sparkml.kernels.minhash import U64, jaccard, shingle_sets

VERIFIED = pa.schema([("doc_a", pa.string()), ("doc_b", pa.string()), ("similarity", pa.float64())])


@dataclass
class _Group:
    """The documents that the rows to come are compared with: one, unless 64-bit keys collide."""

    anchor: int | None = None
    members: list[tuple[str, U64]] = field(default_factory=list)


def verified_pairs(batches: Iterator[pa.RecordBatch], ngram: int) -> Iterator[pa.RecordBatch]:
    """Jaccard of each document with its anchor, from rows (anchor, is_anchor, doc_id, text).

    Rows must be sorted by anchor, the anchor's own row first. Yields (doc_a < doc_b, similarity); a pair
    whose documents have the same id yields nothing. Only the anchor's shingles outlive a batch.
    """
    group = _Group()
    for batch in batches:
        found: list[tuple[str, str, float]] = []
        shingles = shingle_sets(batch.column("text"), ngram)
        rows = zip(
            batch.column("anchor").to_pylist(),
            batch.column("is_anchor").to_pylist(),
            batch.column("doc_id").to_pylist(),
            shingles,
            strict=True,
        )
        for anchor, is_anchor, doc_id, own in rows:
            if anchor != group.anchor:
                group = _Group(anchor)
            if is_anchor:
                group.members.append((doc_id, own))
                continue
            for other_id, other in group.members:
                if other_id != doc_id:
                    found.append((min(doc_id, other_id), max(doc_id, other_id), jaccard(own, other)))
        columns = zip(*found, strict=True) if found else ([], [], [])
        yield pa.RecordBatch.from_arrays(
            [pa.array(column, kind) for column, kind in zip(columns, VERIFIED.types, strict=True)],
            schema=VERIFIED,
        )
