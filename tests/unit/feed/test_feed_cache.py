"""Row groups on the local disk: fetched once, within the limit, and never wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparkml.feed import groups as feed_groups
from sparkml.feed.cache import GroupCache
from sparkml.feed.groups import GroupLoader
from sparkml.feed.plan import row_groups
from sparkml.feed.reader import FeedSettings, open_reader

IDS = {"input_ids": 4}


@pytest.fixture
def fetched(monkeypatch) -> list[int]:
    """The row groups that were asked of the store, all of which count as remote."""
    asked: list[int] = []
    load = GroupLoader._load

    def noted(self, group):
        asked.append(group.number)
        return load(self, group)

    monkeypatch.setattr(feed_groups, "is_remote", lambda path: True)
    monkeypatch.setattr(GroupLoader, "_load", noted)
    return asked


@pytest.fixture
def groups(write_manifest):
    return list(row_groups(write_manifest(*[(2,)] * 6).files, range(6)))


@pytest.mark.parametrize("name", ["petastorm", "arrow"])
def test_a_second_epoch_asks_the_store_for_nothing(name, groups, fetched, tmp_path):
    settings = FeedSettings(cache_bytes=1 << 20, cache_folder=str(tmp_path / "cache"))
    expected = [[2 * number, 2 * number + 1] for number in range(6)]
    for _ in range(2):
        reading = open_reader(name, IDS, settings).read(groups)
        assert [rows["input_ids"][:, 0].tolist() for rows in reading] == expected
    # Petastorm asks for the schema of the first file, each time.
    assert sorted(set(fetched)) == list(range(6))
    assert len(fetched) == (8 if name == "petastorm" else 6)


def test_a_damaged_file_is_fetched_again(groups, fetched, tmp_path):
    settings = FeedSettings(cache_bytes=1 << 20, cache_folder=str(tmp_path))
    for damage in (lambda content: content[:-9], lambda content: content[:200] + b"\x7f" + content[201:]):
        list(open_reader("arrow", IDS, settings).read(groups))
        for path in tmp_path.glob("*.row-group"):
            path.write_bytes(damage(path.read_bytes()))
        fetched.clear()
        reading = open_reader("arrow", IDS, settings).read(groups)
        assert [rows["input_ids"][0, 0] for rows in reading] == [0, 2, 4, 6, 8, 10]
        assert fetched == list(range(6))


def test_the_limit_holds_and_the_longest_unused_go(groups, fetched, tmp_path):
    def kept() -> list[Path]:
        return sorted(tmp_path.glob("*.row-group"))

    list(open_reader("arrow", IDS, FeedSettings(1 << 20, 1 << 20, str(tmp_path))).read(groups[:1]))
    size = kept()[0].stat().st_size
    settings = FeedSettings(1 << 20, 4 * size, str(tmp_path))
    list(open_reader("arrow", IDS, settings).read(groups))
    assert sum(path.stat().st_size for path in kept()) <= 4 * size
    assert len(kept()) >= 3
    fetched.clear()
    list(open_reader("arrow", IDS, settings).read(groups[-2:]))
    assert fetched == []


def test_a_disk_that_is_full_costs_speed_alone(groups, fetched, tmp_path, monkeypatch, caplog):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sparkml.feed.cache.tempfile.mkstemp", full)
    reading = open_reader("arrow", IDS, FeedSettings(1 << 20, 1 << 20, str(tmp_path))).read(groups)
    assert [rows["input_ids"][0, 0] for rows in reading] == [0, 2, 4, 6, 8, 10]
    assert "No space left on device" in caplog.text


def test_nothing_larger_than_the_limit_is_kept(groups, fetched, tmp_path):
    cache = GroupCache(str(tmp_path / "cache"), 10)
    table = GroupLoader(IDS).load(groups[0])
    assert cache.get(groups[0], list(IDS), lambda: table) is table
    assert list((tmp_path / "cache").iterdir()) == []
