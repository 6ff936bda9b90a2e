"""Compressed files of several members: whoever reads them in whatever parts, each line comes once, with one name."""

from __future__ import annotations

import bz2
import gzip
import itertools
import json
import lzma
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from sparkml.stages.ingest.config import IngestConfig
from sparkml.stages.ingest.origins.files import Files
from tests.unit.sources.conftest import Read

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".zst": zstandard.ZstdCompressor().compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


def lines_of(chance: random.Random, count: int) -> list[bytes]:
    texts = (chance.randbytes(chance.randint(0, 60)).hex() for _ in range(count))
    return [json.dumps({"text": f"{number} {text}"}).encode() for number, text in enumerate(texts)]


def members_of(chance: random.Random, content: bytes, suffix: str, count: int) -> bytes:
    """The content in so many members, cut anywhere, some of them empty."""
    edges = sorted([0, len(content), *(chance.randint(0, len(content)) for _ in range(count))])
    parts = [content[low:high] for low, high in itertools.pairwise(edges)]
    return b"".join(COMPRESS[suffix](part) for part in parts)


def outline(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return sorted((row["position"], row["locator"], row["text"], row["drop_reason"]) for row in rows)


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("ends_line", [True, False])
def test_parts_of_any_size_give_the_same_lines(
    tmp_path: Path, read: Read, suffix: str, ends_line: bool
) -> None:
    chance = random.Random(f"{suffix}{ends_line}")
    for turn in range(6):
        lines = lines_of(chance, 200)
        content = b"\n".join(lines) + (b"\n" if ends_line else b"")
        path = tmp_path / f"a{turn}.jsonl{suffix}"
        path.write_bytes(members_of(chance, content, suffix, chance.choice((1, 5, 40))))
        whole = outline(read(path))
        assert [text for _, _, text, _ in whole] == [json.loads(line)["text"] for line in lines]
        assert len({locator for _, locator, _, _ in whole}) == len(lines)
        for size in (chance.randint(40, 400), chance.randint(400, 4000), 20_000):
            assert outline(read(path, split_bytes=size)) == whole


def test_a_file_of_several_members_is_read_by_several_tasks(tmp_path: Path) -> None:
    chance = random.Random(1)
    content = b"\n".join(lines_of(chance, 2_000))
    (tmp_path / "many.jsonl.gz").write_bytes(members_of(chance, content, ".gz", 50))
    (tmp_path / "one.jsonl.gz").write_bytes(gzip.compress(content))
    (tmp_path / "rows.csv.gz").write_bytes(gzip.compress(b"text\na\n") + gzip.compress(b"b\n"))
    config = IngestConfig(source={"path": str(tmp_path)}, split_bytes=20_000)
    splits = Files(config).splits()
    parts = {
        name: sum(split.relative == name for split in splits) for name in ("many.jsonl.gz", "one.jsonl.gz")
    }
    assert parts["many.jsonl.gz"] > 5
    assert parts["one.jsonl.gz"] == 1
    assert len({split.group for split in splits}) > 5


def test_lines_of_a_format_that_is_not_cut_are_known_by_their_place_in_the_text(
    tmp_path: Path, read: Read
) -> None:
    (tmp_path / "rows.csv.gz").write_bytes(gzip.compress(b"text\na\n") + gzip.compress(b"b\nc\n"))
    assert [(row["locator"], row["text"]) for row in read(tmp_path)] == [("5", "a"), ("7", "b"), ("9", "c")]


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_wide_characters_are_the_first_tasks(tmp_path: Path, read: Read, suffix: str) -> None:
    content = '{"text": "größer"}\n{"text": "zwei"}\n'.encode("utf-16")
    (tmp_path / f"a.jsonl{suffix}").write_bytes(
        COMPRESS[suffix](content[:21]) + COMPRESS[suffix](content[21:])
    )
    for size in (1 << 20, 30):
        assert [row["text"] for row in read(tmp_path, split_bytes=size)] == ["größer", "zwei"]


def test_a_corrupt_member_costs_what_lies_behind_it_in_its_part(tmp_path: Path, read: Read) -> None:
    members = [gzip.compress(json.dumps({"text": str(n) * 50}).encode() + b"\n") for n in range(9)]
    members[4] = members[4][:-6] + b"\xff" * 6
    (tmp_path / "a.jsonl.gz").write_bytes(b"".join(members))
    for size in (1 << 20, 100):
        rows = read(tmp_path, split_bytes=size)
        reasons = {row["drop_reason"] for row in rows}
        assert reasons == {None, "corrupt_compression"}
        assert {row["text"][0] for row in rows if row["text"]} >= {"0", "1", "2", "3"}
        assert len({row["doc_id"] for row in rows}) == len(rows)
