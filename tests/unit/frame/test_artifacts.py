"""Artifacts: whole or not there, checked, on a folder and on an object store; places and their spellings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from sparkml.errors import ConfigError, InputError
from sparkml.frame import artifacts, storage
from sparkml.frame.effects import watched_effects


@pytest.fixture(params=["folder", "object store"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A folder, and fsspec's store in memory, which stands for an object store: no renames, no folders."""
    monkeypatch.setenv("SPARKML_CACHE", str(tmp_path / "cache"))
    if request.param == "folder":
        yield str(tmp_path / "models" / "v1")
        return
    yield "memory://bucket/models/v1"
    fsspec.filesystem("memory").store.clear()


def make(place: str, **files: str) -> None:
    with artifacts.new_artifact(place) as staging:
        for name, text in files.items():
            (staging / name).write_text(text)


def test_an_artifact_is_written_read_and_replaced(place: str) -> None:
    make(place, weights="one", config="{}")
    folder = artifacts.localise(place)
    assert (folder / "weights").read_text() == "one"
    first = artifacts.identity(place)
    make(place, weights="two")
    assert (artifacts.localise(place) / "weights").read_text() == "two"
    assert not (artifacts.localise(place) / "config").exists()
    assert artifacts.identity(place) not in (first, "missing")


def test_bytes_come_back_as_they_were_whatever_the_name_says(place: str) -> None:
    for name in ("a.gz", "b.bz2", "c.zst"):
        storage.write_bytes(storage.join(place, name), b"not compressed")
        assert storage.read_bytes(storage.join(place, name)) == b"not compressed"
    make(storage.join(place, "model"), **{"weights.gz": "plain"})
    assert (artifacts.localise(storage.join(place, "model")) / "weights.gz").read_text() == "plain"


def test_an_error_while_writing_leaves_nothing(place: str) -> None:
    def fail() -> None:
        with artifacts.new_artifact(place) as staging:
            (staging / "weights").write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert artifacts.identity(place) == "missing"
    assert artifacts.checksums(place) is None


@pytest.mark.parametrize("damage", ["missing", "cut", "altered"])
def test_a_file_that_is_not_as_it_was_written_is_told_by_name(place: str, damage: str) -> None:
    make(place, weights="0123456789", config="{}")
    file = storage.join(place, "weights")
    storage.remove(file)
    if damage != "missing":
        storage.write_bytes(file, b"0123" if damage == "cut" else b"9876543210")
    if damage != "altered":
        assert artifacts.identity(place) == "missing"
    with pytest.raises(InputError, match="weights"):
        artifacts.localise(place)


def test_a_process_that_dies_at_any_effect_leaves_the_old_or_the_new(place: str) -> None:
    make(place, weights="old")
    seen: list[str] = []
    with watched_effects(seen.append):
        make(place, weights="old")
    assert len(seen) >= 3
    for stop in range(1, len(seen) + 1):
        make(place, weights="old")
        dead = [0]

        def kill(name: str, dead: list[int] = dead, stop: int = stop) -> None:
            dead[0] += 1
            if dead[0] >= stop:
                raise KeyboardInterrupt(name)

        with pytest.raises(KeyboardInterrupt), watched_effects(kill):
            make(place, weights="new")
        if artifacts.checksums(place) is not None:  # else no reader takes it for finished
            assert (artifacts.localise(place) / "weights").read_text() in ("old", "new")
        make(place, weights="new")
        assert (artifacts.localise(place) / "weights").read_text() == "new"


def test_a_users_own_folder_needs_no_checksums(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("{}")
    assert artifacts.localise(str(tmp_path / "mine")) == tmp_path / "mine"
    first = artifacts.identity(str(tmp_path / "mine"))
    (tmp_path / "mine" / "config.json").write_text("{ }")
    assert artifacts.identity(str(tmp_path / "mine")) != first
    with pytest.raises(InputError, match="no such folder"):
        artifacts.localise(str(tmp_path / "none"))


def test_checksums_that_lead_outside_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARKML_CACHE", str(tmp_path / "cache"))
    place = "memory://evil/model"
    storage.write_bytes(storage.join(place, "x"), b"x")
    sums = {"../../outside": {"bytes": 1, "sha256": "0"}}
    storage.write_bytes(storage.join(place, artifacts.CHECKSUMS_FILE), json.dumps(sums).encode())
    with pytest.raises(InputError, match="outside"):
        artifacts.localise(place)
    assert not (tmp_path / "outside").exists()
    fsspec.filesystem("memory").store.clear()


def test_a_mirror_goes_on_where_it_was(place: str) -> None:
    mirror = artifacts.Mirror(place)
    (mirror.folder / "curve").write_text("1")
    mirror.push()
    again = artifacts.Mirror(place)
    assert (again.folder / "curve").read_text() == "1"
    (again.folder / "curve").write_text("12")
    again.push()
    assert storage.read_bytes(storage.join(place, "curve")) == b"12"


@pytest.mark.parametrize(
    ("given", "normal", "spark"),
    [
        ("/a b/c", "/a b/c", "file:///a b/c"),
        ("file:/a%20b", "/a b", "file:///a b"),
        ("/ü#1", "/ü#1", "file:///ü#1"),
        ("s3a://b/x/", "s3://b/x", "s3a://b/x"),
        ("s3n://b/x", "s3://b/x", "s3a://b/x"),
        ("dbfs:/x", "/dbfs/x", "dbfs:/x"),
        ("dbfs:/Volumes/c/s/v", "/Volumes/c/s/v", "dbfs:/Volumes/c/s/v"),
        ("/Volumes/c/s/v", "/Volumes/c/s/v", "dbfs:/Volumes/c/s/v"),
        ("hdfs://n:8020/p", "hdfs://n:8020/p", "hdfs://n:8020/p"),
        (
            "abfss://c@a.dfs.core.windows.net/p",
            "abfss://c@a.dfs.core.windows.net/p",
            "abfss://c@a.dfs.core.windows.net/p",
        ),
        ("gcs://b/p", "gs://b/p", "gs://b/p"),
    ],
)
def test_one_place_has_one_spelling_for_python_and_one_for_spark(given: str, normal: str, spark: str) -> None:
    assert storage.normalise(given) == normal
    assert storage.spark_uri(given) == spark
    assert storage.spark_uri(normal) == spark


def test_a_place_with_a_password_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigError) as caught:
        storage.normalise("s3://key:hunter2@bucket/x")
    assert "hunter2" not in caught.value.message()
    with pytest.raises(ConfigError):
        storage.filesystem_of("s3://key:hunter2@bucket/x")
    assert storage.redacted_tree({"a": ["s3://k:v@b/c", 1]}) == {"a": ["s3://***@b/c", 1]}
    assert storage.redacted("a s3://k:v@b/c?sig=x b") == "a s3://***@b/c?*** b"


def test_the_environment_says_where_s3_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    assert storage.spark_properties() == {}
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:8333")
    found = storage.spark_properties()
    assert found["spark.hadoop.fs.s3a.endpoint"] == "http://127.0.0.1:8333"
    assert found["spark.hadoop.fs.s3a.connection.ssl.enabled"] == "false"
    assert storage.delta_options("s3://b/x")["AWS_ALLOW_HTTP"] == "true"
    assert storage.delta_options("/x") == {}
