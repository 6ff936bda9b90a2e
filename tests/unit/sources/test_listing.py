"""Which files a source is, and how they are cut and grouped."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from sparkml.errors import InputError
from sparkml.sources.documents import json_value, parse_published
from sparkml.sources.listing import SourceFile, format_of, list_source
from sparkml.sources.splits import plan_files, sample_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (
        "a.jsonl",
        "b.csv.gz",
        "sub/c.jsonl",
        "sub/deep/d.txt",
        "_SUCCESS",
        ".hidden/e.txt",
        "x [1].txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", ["a.jsonl", "b.csv.gz", "sub/c.jsonl", "sub/deep/d.txt", "x [1].txt"]),
        ("*.jsonl", ["a.jsonl"]),
        ("**/*.jsonl", ["a.jsonl", "sub/c.jsonl"]),
        ("s*", ["sub/c.jsonl", "sub/deep/d.txt"]),
        ("sub/*.jsonl", ["c.jsonl"]),
        ("su?/*.jsonl", ["sub/c.jsonl"]),
        ("[ab].*", ["a.jsonl", "b.csv.gz"]),
        ("[!a].c*", ["b.csv.gz"]),
        ("?.jsonl", ["a.jsonl"]),
        ("a.jsonl", ["a.jsonl"]),
        ("x [1].txt", ["x [1].txt"]),
    ],
)
def test_paths_and_globs(folder: Path, pattern: str, expected: list[str]) -> None:
    listing = list_source(f"{folder}/{pattern}", "auto")
    assert [file.relative for file in listing.files] == expected


def test_names_with_dot_or_underscore_are_counted_and_left_out(folder: Path) -> None:
    listing = list_source(str(folder), "auto")
    assert listing.ignored == 2
    assert [file.format for file in listing.files] == ["jsonl", "csv", "jsonl", "text", "text"]
    assert listing.files[-1].uri == f"file://{folder}/x%20%5B1%5D.txt"


def test_a_file_uri_is_a_path(folder: Path) -> None:
    listing = list_source(f"file://{folder}/sub", "lines")
    assert [(file.relative, file.format) for file in listing.files] == [
        ("c.jsonl", "lines"),
        ("deep/d.txt", "lines"),
    ]


def test_other_schemes_come_from_fsspec() -> None:
    fsspec = pytest.importorskip("fsspec")
    with fsspec.open("memory://corpus/a.jsonl", "wb") as file:
        file.write(b'{"text": "a"}\n')
    listing = list_source("memory://corpus", "auto")
    assert [(file.relative, file.size) for file in listing.files] == [("a.jsonl", 14)]


@pytest.mark.parametrize(
    ("make", "got"),
    [
        (lambda root: root, "an empty folder"),
        (lambda root: root / "*.jsonl", "no file matches"),
        (lambda root: root / "nowhere", "no such file or folder"),
    ],
)
def test_nothing_to_read_is_an_error_that_says_what_to_do(tmp_path: Path, make: Any, got: str) -> None:
    with pytest.raises(InputError) as caught:
        list_source(str(make(tmp_path)), "auto")
    assert got in caught.value.got
    assert caught.value.where == str(make(tmp_path))
    assert "ingest.source.path" in caught.value.next_action


def test_no_known_extension_at_all_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data.xyz").write_bytes(b"x")
    with pytest.raises(InputError, match="format"):
        list_source(str(tmp_path), "auto")
    assert list_source(str(tmp_path), "jsonl").files[0].format == "jsonl"


def test_an_unknown_scheme_is_an_error() -> None:
    with pytest.raises(InputError, match="no file system"):
        list_source("gopher9://host/path", "auto")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/b.JSONL.GZ", "jsonl"),
        ("b.json.zst", "jsonl"),
        ("b.pq", "parquet"),
        ("b.tab.bz2", "tsv"),
        ("README.md", "text"),
        ("b", "unknown"),
        ("b.gz", "unknown"),
    ],
)
def test_format_by_extension(name: str, expected: str) -> None:
    assert format_of(name) == expected


def source_file(name: str, size: int) -> SourceFile:
    return SourceFile(f"/{name}", f"file:///{name}", name, size, 0.0, format_of(name))


def test_splits_cover_each_file_once_and_groups_are_even() -> None:
    files = [source_file("a.jsonl", 1000), source_file("b.jsonl.gz", 1000), source_file("c.txt", 30)]
    splits = plan_files(fs.LocalFileSystem(), files, 300)
    assert [(split.relative, split.start, split.stop) for split in splits] == [
        ("a.jsonl", 0, 250),
        ("a.jsonl", 250, 500),
        ("a.jsonl", 500, 750),
        ("a.jsonl", 750, 1000),
        ("b.jsonl.gz", 0, -1),
        ("c.txt", 0, -1),
    ]
    assert [split.ordinal for split in splits] == list(range(6))
    groups = [split.group for split in splits]
    assert groups == sorted(groups)
    assert set(groups) == set(range(max(groups) + 1))


def test_many_small_files_share_tasks() -> None:
    files = [source_file(f"{index:04}.txt", 10) for index in range(1000)]
    groups = [split.group for split in plan_files(fs.LocalFileSystem(), files, 1000)]
    assert [groups.count(group) for group in range(10)] == [100] * 10


def test_a_sample_is_the_same_whatever_else_is_there() -> None:
    files = [source_file(f"{index:04}.txt", 10) for index in range(1000)]
    half = sample_files(files, 0.5, None)
    assert 440 < len(half) < 560
    assert sample_files(files[:500], 0.5, None) == [file for file in half if file in set(files[:500])]
    assert set(sample_files(files, 0.5, 20)) <= set(half)
    assert len(sample_files(files, 1.0, 20)) == 20


NOON = datetime(2024, 3, 1, 12, 0, 0, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2024-03-01T12:00:00Z", NOON),
        ("2024-03-01 14:00+0200", NOON),
        ("2024-03-01T12:00:00.000000000+00:00", NOON),
        ("2024-03-01T12:00", NOON),
        ("Fri, 01 Mar 2024 12:00:00 GMT", NOON),
        (1709294400, NOON),
        (1709294400.0, NOON),
        (1709294400000, NOON),
        (1709294400000000, NOON),
        ("2024-03-01", NOON.replace(hour=0)),
        (datetime(2024, 3, 1, 12), NOON),
        ("yesterday", None),
        ("2024", None),
        ("2024-13-01", None),
        ("12:30", None),
        (True, None),
        (float("nan"), None),
        (1e300, None),
        ({"year": 2024}, None),
    ],
)
def test_published(value: object, expected: datetime | None) -> None:
    assert parse_published(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('a"b', '"a\\"b"'),
        (1, "1"),
        (None, "null"),
        (True, "true"),
        (0.1, "0.1"),
        ([1, "é"], '[1, "\\u00e9"]'),
    ],
)
def test_json_value(value: object, expected: str) -> None:
    assert json_value(value) == expected
