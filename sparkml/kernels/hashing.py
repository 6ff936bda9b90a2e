"""Identities: document ids, content hashes, and hash fractions for sampling.

A `doc_id` is the XXH3-128 (seed 0) of `dataset NUL path NUL locator`, 32 lower-case hex digits. At 10 billion
documents the chance of one collision is about 1.5e-19 (birthday bound n**2 / 2**129). None of the three parts
can hold a NUL, so different triples are different inputs.
"""

from __future__ import annotations

import hashlib

import xxhash


def document_id(dataset: str, path: str, locator: str) -> str:
    """The stable id of a record: the same wherever the source root lies and however the file is split.

    `path` is relative to the source root with `/` between folders; `locator` names the record in the file.
    """
    key = f"{dataset}\0{path}\0{locator}"
    return xxhash.xxh3_128_hexdigest(key.encode("utf-8", "surrogateescape"))


def content_hash(record: bytes) -> str:
    """SHA-256 of a record's original bytes, lower-case hex."""
    return hashlib.sha256(record).hexdigest()


def hash_fraction(key: str) -> float:
    """A number in [0, 1) that depends on the key alone: below the fraction, the key is in the sample."""
    return (xxhash.xxh3_64_intdigest(key.encode("utf-8", "surrogateescape")) >> 11) / float(1 << 53)


def bucket_of(doc_id: str, n_buckets: int) -> int:
    """The bucket of a document: what `pmod(xxhash64(doc_id), n_buckets)` is in Spark, whose seed is 42."""
    number = xxhash.xxh64_intdigest(doc_id.encode("utf-8", "surrogateescape"), seed=42)
    signed: int = number - (1 << 64) if number >> 63 else number
    return signed % n_buckets
