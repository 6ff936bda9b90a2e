"""Both readers: the same rows in the same order, from pinned files only."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import pytest

from sparkml.errors import InputError
from sparkml.feed import groups as feed_groups
from sparkml.feed.batches import micro_batches
from sparkml.feed.groups import GroupLoader
from sparkml.feed.manifest import Manifest
from sparkml.feed.plan import RowGroup, epoch_plan, row_groups
from sparkml.feed.reader import FeedSettings, open_reader
from sparkml.frame.storage import filesystem_of

READERS = ["petastorm", "arrow"]
IDS = {"input_ids": 4}


def all_groups(manifest: Manifest) -> list[RowGroup]:
    return list(row_groups(manifest.files, range(len(manifest.files.group_rows))))


@pytest.mark.parametrize("name", READERS)
def test_row_groups_come_in_the_order_asked_for(name, write_manifest):
    groups = all_groups(write_manifest((2, 1), (2,)))
    read = list(open_reader(name, IDS).read([groups[2], groups[0], groups[1]]))
    assert [rows["input_ids"].tolist() for rows in read] == [
        [[3, 3, 3, 3], [4, 4, 4, 4]],
        [[0, 0, 0, 0], [1, 1, 1, 1]],
        [[2, 2, 2, 2]],
    ]
    assert {rows["input_ids"].dtype for rows in read} == {np.dtype(np.int32)}


@pytest.mark.parametrize("name", READERS)
def test_files_beside_the_pinned_ones_are_not_read(name, write_manifest, tmp_path):
    manifest = write_manifest((3,), (3,))
    removed = tmp_path / "split=train" / "part-00000-removed-by-the-log.parquet"
    pq.write_table(pa.table({"input_ids": pa.array([[99] * 4], pa.list_(pa.int32()))}), removed)
    read = [rows["input_ids"][:, 0].tolist() for rows in open_reader(name, IDS).read(all_groups(manifest))]
    assert read == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("name", READERS)
def test_nothing_to_read(name):
    assert list(open_reader(name, IDS).read([])) == []


@pytest.mark.parametrize("name", READERS)
def test_an_epoch_holds_every_row_once_and_in_the_same_order_for_the_same_seed(name, write_manifest):
    manifest = write_manifest((5, 5, 3), (5, 2))

    def epoch(seed: int) -> list[list[int]]:
        plan = epoch_plan(manifest, epoch=0, seed=seed, batch_size=6, n_streams=4)
        return [
            [
                int(row[0])
                for batch in micro_batches(open_reader(name, IDS), plan, rank=rank, world_size=2)
                for row in batch.columns["input_ids"]
            ]
            for rank in range(2)
        ]

    first = epoch(7)
    assert sorted(first[0] + first[1]) == list(range(20))
    assert epoch(7) == first
    assert epoch(8) != first


def test_both_readers_give_the_same_batches(write_manifest):
    manifest = write_manifest((5, 5, 3), (5, 2))
    plan = epoch_plan(manifest, epoch=3, seed=1, batch_size=8, n_streams=2)
    batches = [
        [
            batch.columns["input_ids"].tolist()
            for batch in micro_batches(open_reader(name, IDS), plan, rank=1, world_size=2)
        ]
        for name in READERS
    ]
    assert batches[0] == batches[1]
    assert [len(rows) for rows in batches[0]] == [4, 4, 2]


@pytest.mark.parametrize("name", READERS)
def test_steps_that_are_not_wanted_are_not_read(name, write_manifest):
    manifest = write_manifest(*[(4,)] * 6)
    plan = epoch_plan(manifest, epoch=0, seed=1, batch_size=4, n_streams=2)
    ranks = {"rank": 1, "world_size": 2}
    whole = [
        batch.columns["input_ids"].tolist() for batch in micro_batches(open_reader(name, IDS), plan, **ranks)
    ]
    wanted = {piece.group.path for piece in plan.slices([1], 1, 4)}
    assert len(wanted) == 2  # the steps 1, 2 and 3 lie in two of the six files
    for file in manifest.files:
        if file.path not in wanted:
            Path(file.path).unlink()
    some = micro_batches(open_reader(name, IDS), plan, **ranks, first_step=1, stop_step=4)
    assert [(batch.step, batch.columns["input_ids"].tolist()) for batch in some] == [*enumerate(whole)][1:4]


@pytest.mark.parametrize("name", READERS)
def test_no_more_is_decoded_ahead_than_fits(name, write_manifest, monkeypatch):
    manifest = write_manifest(*[(2,)] * 40)
    loaded = []
    load = GroupLoader.load

    def noted(self, group):
        loaded.append(group.number)
        return load(self, group)

    monkeypatch.setattr(GroupLoader, "load", noted)
    (one,) = open_reader(name, IDS).read(all_groups(manifest)[:1])
    size = sum(column.nbytes for column in one.values()) + 16  # with the offsets of the lists
    loaded.clear()
    reading = open_reader(name, IDS, FeedSettings(prefetch_bytes=3 * size)).read(all_groups(manifest))
    next(reading)
    time.sleep(0.3)
    # The one that was taken, three that wait; petastorm has asked the first for its schema.
    assert set(loaded) == {0, 1, 2, 3}
    assert [rows["input_ids"][0, 0] for rows in reading] == list(range(2, 80, 2))
    assert set(loaded) == set(range(40))


@pytest.mark.parametrize("name", READERS)
def test_a_missing_file_is_named(name, write_manifest):
    manifest = write_manifest((2,), (2,))
    Path(manifest.files[1].path).unlink()
    with pytest.raises(InputError, match=r"part-00001\.parquet, row group 0"):
        list(open_reader(name, IDS).read(all_groups(manifest)))


@pytest.mark.parametrize("name", READERS)
def test_a_file_that_changed_is_refused(name, write_manifest):
    manifest = write_manifest((2,))
    (group,) = all_groups(manifest)
    path = Path(manifest.files[0].path)
    pq.write_table(pa.table({"input_ids": pa.array([[1] * 4] * 3, pa.list_(pa.int32()))}), path)
    with pytest.raises(
        InputError, match=rf"part-00000\.parquet, row group 0[\s\S]*not the {group.file_bytes} of"
    ):
        list(open_reader(name, IDS).read([group]))
    with pytest.raises(InputError, match=r"shape \(3, 4\), not \(2, 4\)"):
        list(open_reader(name, IDS).read([replace(group, file_bytes=path.stat().st_size)]))


@pytest.mark.parametrize("name", READERS)
def test_a_page_that_was_altered_is_found_by_its_checksum(name, tmp_path):
    path = tmp_path / "samples.parquet"
    ids = pa.array(np.arange(400).reshape(-1, 4).tolist(), pa.list_(pa.int32()))
    pq.write_table(
        pa.table({"input_ids": ids}), path, write_page_checksum=True, use_dictionary=False, compression="none"
    )
    content = bytearray(path.read_bytes())
    place = content.find((200).to_bytes(4, "little") + (201).to_bytes(4, "little"))
    content[place] ^= 1  # still numbers, and as many
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"samples\.parquet, row group 0[\s\S]*CRC checksum"):
        list(open_reader(name, IDS).read([RowGroup(0, str(path), len(content), 0, 100)]))


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(("failures", "works"), [(4, True), (5, False)])
def test_a_store_that_stumbles_is_asked_again(name, failures, works, write_manifest, monkeypatch):
    manifest = write_manifest((2,))
    left = [failures]

    class Stumbling:
        def open_input_file(self, path):
            if left[0]:
                left[0] -= 1
                raise OSError("AWS Error NETWORK_CONNECTION")
            return pyarrow.fs.LocalFileSystem().open_input_file(path)

    monkeypatch.setattr(feed_groups, "filesystem_of", lambda path: (Stumbling(), path))
    monkeypatch.setattr(feed_groups, "is_remote", lambda path: True)
    monkeypatch.setattr(feed_groups, "_PAUSES", (0.0,) * 4)
    reading = open_reader(name, IDS).read(all_groups(manifest))
    if works:
        assert [rows["input_ids"][:, 0].tolist() for rows in reading] == [[0, 1]]
        return
    with pytest.raises(InputError, match=r"part-00000\.parquet, row group 0[\s\S]*NETWORK_CONNECTION"):
        list(reading)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("lists", [[[1, 2, 3, 4], [5]], [[1, 2, 3, 4], None]])
def test_ragged_and_null_lists_are_refused(name, lists, tmp_path):
    path = tmp_path / "ragged.parquet"
    pq.write_table(pa.table({"input_ids": pa.array(lists, pa.list_(pa.int32()))}), path)
    with pytest.raises(InputError, match=r"ragged\.parquet"):
        list(open_reader(name, IDS).read([RowGroup(0, str(path), path.stat().st_size, 0, 2)]))


@pytest.mark.parametrize("name", READERS)
def test_columns_come_by_name_whatever_they_hold(name, tmp_path):
    path = tmp_path / "samples.parquet"
    columns = {
        "sample_id": pa.array([7, 8], pa.int64()),
        "n_tokens": pa.array([3, 1], pa.int32()),
        "input_ids": pa.array([b"\x01\x00\x00\x00", b""], pa.binary()),
        "target": pa.array([0.5, -1.0], pa.float64()),
    }
    pq.write_table(pa.table(columns), path)
    (rows,) = open_reader(name, dict.fromkeys(columns, 0)).read(
        [RowGroup(0, str(path), path.stat().st_size, 0, 2)]
    )
    assert {column: values.tolist() for column, values in rows.items()} == {
        "sample_id": [7, 8],
        "n_tokens": [3, 1],
        "input_ids": [b"\x01\x00\x00\x00", b""],
        "target": [0.5, -1.0],
    }


@pytest.mark.parametrize("name", READERS)
def test_a_column_that_is_missing_is_named_with_file_and_row_group(name, write_manifest):
    groups = all_groups(write_manifest((2,)))
    with pytest.raises(InputError, match=r"part-00000\.parquet, row group 0[\s\S]*target"):
        list(open_reader(name, {"input_ids": 4, "target": 0}).read(groups))


@pytest.mark.parametrize("name", READERS)
def test_half_an_epoch_can_be_left(name, write_manifest):
    groups = all_groups(write_manifest(*[(2,)] * 20))
    reading = open_reader(name, IDS).read(groups)
    assert next(reading)["input_ids"][0, 0] == 0
    reading.close()


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("/lake/a b.parquet", "/lake/a b.parquet"),
        ("file:/lake/a.parquet", "/lake/a.parquet"),
        ("file:///lake/split%3Dtrain/a%20b.parquet", "/lake/split=train/a b.parquet"),
        ("file:///lake/100%25/%C3%A4%23%3F.parquet", "/lake/100%/ä#?.parquet"),
        ("dbfs:/lake/a.parquet", "/dbfs/lake/a.parquet"),
        ("/Volumes/a/b/c%20d.parquet", "/Volumes/a/b/c%20d.parquet"),
    ],
)
def test_paths_and_uris(location, path):
    filesystem, found = filesystem_of(location)
    assert (filesystem.type_name, found) == ("local", path)


@pytest.mark.parametrize("scheme", ["s3", "s3a", "s3n"])
def test_objects_of_a_bucket(scheme, monkeypatch):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    filesystem, path = filesystem_of(f"{scheme}://bucket/lake/split%3Dtrain/a%20b%25.parquet")
    assert (filesystem.type_name, path) == ("s3", "bucket/lake/split=train/a b%.parquet")
    assert filesystem.region == "eu-central-1"


@pytest.mark.parametrize("name", READERS)
def test_a_file_is_read_by_its_uri(name, write_manifest):
    manifest = write_manifest((2,), folder="a b%25 ä")
    groups = [replace(group, path=Path(group.path).as_uri()) for group in all_groups(manifest)]
    assert [rows["input_ids"][:, 0].tolist() for rows in open_reader(name, IDS).read(groups)] == [[0, 1]]


@pytest.mark.parametrize("name", READERS)
def test_a_file_that_was_cut_off_is_named(name, write_manifest):
    manifest = write_manifest((2,))
    path = Path(manifest.files[0].path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"part-00000\.parquet, row group 0"):
        list(open_reader(name, IDS).read(all_groups(manifest)))


def test_unknown_storage_is_named():
    with pytest.raises(InputError, match="gopher://host/a"):
        filesystem_of("gopher://host/a")
