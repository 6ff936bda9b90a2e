"""The manifest: columns instead of objects, from table rows, and as the file that the ranks read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from sparkml.errors import InputError, StorageError
from sparkml.feed.manifest import FILE_TYPE, Manifest, ShardFile, ShardFiles
from sparkml.feed.manifest_file import ManifestFile, decode, encode, write_manifest

SHARDS = [
    ShardFile("/lake/a b.parquet", (4, 4), 100, "a" * 64),
    ShardFile("/lake/empty.parquet", (), 10, "b" * 64),
    ShardFile("s3a://bucket/ä.parquet", (3,), 50, "c" * 64),
]
MANIFEST = Manifest("m" * 64, "samples", 7, "train", ShardFiles.of(SHARDS), 11, "t" * 64, 128, 17)


def test_files_as_columns():
    files = MANIFEST.files
    assert (list(files), len(files), files.bytes) == (SHARDS, 3, 160)
    assert (files.group_rows.tolist(), files.first_group.tolist()) == ([4, 4, 3], [0, 2, 2, 3])
    assert files.path(2) == "s3a://bucket/ä.parquet"
    assert files[-1] == SHARDS[-1]
    with pytest.raises(IndexError):
        files[3]


def test_a_part_of_a_longer_column():
    """Arrow hands out slices of what it read: their values begin somewhere in the middle."""
    files = ShardFiles(MANIFEST.files.to_arrow()[1:])
    assert list(files) == SHARDS[1:]
    assert (files.group_rows.tolist(), files.first_group.tolist()) == ([3], [0, 0, 1])


def test_no_files():
    files = ShardFiles.of([])
    assert (list(files), files.bytes, files.first_group.tolist()) == ([], 0, [0])


def test_a_table_row_and_back():
    record = MANIFEST.to_record()
    assert record["files"][0] == {
        "path": "/lake/a b.parquet",
        "row_groups": [4, 4],
        "bytes": 100,
        "checksum": "a" * 64,
    }
    assert Manifest.from_record({**record, "run_id": "r"}) == MANIFEST
    other = replace(MANIFEST, split="validation", files=ShardFiles.of(SHARDS[:1]), rows=8)
    table = pa.Table.from_pylist([record, other.to_record()])
    assert list(Manifest.from_table(table)) == [MANIFEST, other]
    assert other != MANIFEST


def test_rows_must_add_up():
    with pytest.raises(InputError, match="11 rows in row groups"):
        replace(MANIFEST, rows=12)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"files": None}, "TypeError"),
        ({"files": [{"path": "/a", "row_groups": [1], "bytes": 1}]}, "1 of 1 checksum are null or missing"),
        ({"files": [None]}, "1 of 1 files are null or missing"),
        ({"files": [{"path": "/a", "row_groups": [1, None], "bytes": 1, "checksum": ""}]}, "1 of 2 rows"),
        ({"files": [{"path": "/a", "row_groups": ["x"], "bytes": 1, "checksum": ""}]}, "'x'"),
        ({"rows": "many"}, "many"),
    ],
)
def test_what_is_no_table_row_is_refused(change, said):
    with pytest.raises(InputError, match="not one of our manifests") as caught:
        Manifest.from_record({**MANIFEST.to_record(), **change})
    assert said in caught.value.got


def test_a_column_that_is_missing_is_named():
    record = MANIFEST.to_record()
    del record["seed"]
    with pytest.raises(InputError, match="KeyError: 'seed'"):
        Manifest.from_record(record)


def test_the_file_says_what_was_written(tmp_path):
    pinned = write_manifest(MANIFEST, f"{tmp_path}/not yet there")
    assert pinned.read() == MANIFEST
    (file,) = (tmp_path / "not yet there").iterdir()
    assert str(file) == pinned.location
    assert write_manifest(MANIFEST, f"{tmp_path}/not yet there") == pinned


def test_the_same_samples_in_other_files_are_another_file(tmp_path):
    """A training that runs keeps its files when the samples are written again under the same manifest id."""
    moved = replace(MANIFEST, version=8, files=ShardFiles.of([replace(SHARDS[0], row_groups=(4, 4, 3))]))
    first, second = write_manifest(MANIFEST, str(tmp_path)), write_manifest(moved, str(tmp_path))
    assert first.location != second.location
    assert (first.read(), second.read()) == (MANIFEST, moved)


def test_an_altered_or_missing_file_is_named(tmp_path):
    pinned = write_manifest(MANIFEST, str(tmp_path))
    file = Path(pinned.location)
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    with pytest.raises(InputError, match="not as it was written") as caught:
        pinned.read()
    assert (caught.value.where, caught.value.expected) == (pinned.location, f"sha256 {pinned.sha256}")
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match=f"{len(content)} bytes with sha256"):
        pinned.read()
    file.unlink()
    with pytest.raises(InputError, match=file.name):
        pinned.read()


def test_a_folder_that_refuses_it_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file/manifests"):
        write_manifest(MANIFEST, f"{tmp_path}/file/manifests")


def test_other_bytes_are_refused():
    table = pa.table({"path": ["/a"]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    for content in (b"", b"{}", encode(MANIFEST)[:200], bytes(sink.getvalue())):
        with pytest.raises(InputError, match="not the file of a manifest") as caught:
            decode(content, where="here")
        assert caught.value.where == "here"


def test_a_location_travels_and_not_the_row_groups():
    """What Spark's closure and the job file carry does not grow with the samples."""
    files = ShardFiles(
        pa.array([{"path": "/a", "row_groups": [1] * 10_000, "bytes": 1, "checksum": ""}], FILE_TYPE)
    )
    manifest = replace(MANIFEST, files=files, rows=10_000)
    assert len(encode(manifest)) < 5_000
    assert decode(encode(manifest), where="") == manifest
    assert set(vars(ManifestFile("/a", "b"))) == {"location", "sha256"}
