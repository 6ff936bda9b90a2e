"""A number between 0 and 1 for an id: which rows a cap keeps, whatever their order."""

from __future__ import annotations

import xxhash


def unit_hash(doc_id: str, seed: int = 0) -> float:
    """Even over [0, 1), the same for the same id and seed on every machine."""
    return xxhash.xxh3_64_intdigest(doc_id.encode(), seed=seed) / 2.0**64
