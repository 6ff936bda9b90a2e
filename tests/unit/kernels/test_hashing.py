"""Identities that other tables hold on to: literal values, so that no change of them goes unseen."""

from __future__ import annotations

import hashlib

import pytest
import xxhash

from sparkml.kernels.hashing import content_hash, document_id, hash_fraction


def test_document_id_is_a_literal_promise() -> None:
    assert document_id("reviews", "pos/a.jsonl", "17") == "c7b415427d9671eadbaac871a5255140"
    assert (
        document_id("reviews", "pos/a.jsonl", "17")
        == xxhash.xxh3_128(b"reviews\0pos/a.jsonl\x0017").hexdigest()
    )


@pytest.mark.parametrize(
    "other",
    [("reviews", "pos/a.jsonl", "18"), ("reviews", "pos/b.jsonl", "17"), ("revs", "pos/a.jsonl", "17")],
)
def test_every_part_counts(other: tuple[str, str, str]) -> None:
    assert document_id(*other) != document_id("reviews", "pos/a.jsonl", "17")


def test_parts_do_not_run_into_each_other() -> None:
    assert document_id("a", "bc", "d") != document_id("ab", "c", "d")


def test_a_path_that_is_no_utf8_has_an_id() -> None:
    assert len(document_id("d", b"caf\xe9".decode("utf-8", "surrogateescape"), "0")) == 32


def test_content_hash_is_sha256_of_the_bytes() -> None:
    assert content_hash(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert content_hash(b"\xff\x00") == hashlib.sha256(b"\xff\x00").hexdigest()


def test_hash_fraction_is_spread_evenly_over_the_unit_interval() -> None:
    fractions = [hash_fraction(f"path/{index}") for index in range(10_000)]
    assert all(0.0 <= fraction < 1.0 for fraction in fractions)
    assert abs(sum(fraction < 0.25 for fraction in fractions) - 2_500) < 200
