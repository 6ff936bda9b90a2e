"""A pipeline up to the training on an HDFS: tables by Spark and by delta-rs, artifacts, sources, a repeated run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from sparkml.errors import InputError
from sparkml.frame import storage
from tests import corpus, identities
from tests.command_line import call
from tests.servers import hdfs_server
from tests.way import TINY

STEPS = ("ingest", "clean", "dedupe", "shard", "train")


@pytest.fixture(scope="module")
def hdfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An HDFS of one process; yields `hdfs://host:port`."""
    with hdfs_server(tmp_path_factory.mktemp("hdfs")) as home:
        yield home


def test_a_pipeline_on_hdfs(spark: SparkSession, hdfs: str, tmp_path: Path) -> None:
    fates = corpus.write(tmp_path / "source")
    for file in (tmp_path / "source").iterdir():
        storage.write_bytes(f"{hdfs}/raw/{file.name}", file.read_bytes())
    lake = f"{hdfs}/data/lake"
    words = [f"lake={lake}", f"ingest.source.path={hdfs}/raw/*.jsonl*", *TINY]
    code, shown = call("run-all", "--until", "train", *words)
    assert code == 0, shown[-3000:]

    copy = tmp_path / "copy"
    for name in storage.files_below(lake):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(storage.read_bytes(f"{lake}/{name}"))
    assert set(identities.column(copy, "kept", "doc_id")) == fates.kept
    assert identities.violations(copy, copy_of=lake) == []
    assert (copy / "_artifacts" / "models" / "encoder" / "v1" / "model.safetensors").stat().st_size > 500
    for folder in ("tokenizers", "checkpoints", "manifests", "mlflow", "tensorboard"):
        assert any(path.is_file() for path in (copy / "_artifacts" / folder).rglob("*")), folder
    assert not list(copy.rglob("*.partial"))

    code, shown = call("run-all", "--until", "train", *words)
    assert code == 0
    assert shown.count("up to date (run") == len(STEPS)
    code, shown = call("trace", "kept", "sea-1", *words)
    assert code == 0
    assert all(step in shown for step in ("ingest", "clean", "dedupe")), shown


def test_files_are_whole_or_not_there(hdfs: str) -> None:
    place = f"{hdfs}/files/a b/x.gz"
    storage.write_bytes(place, b"one")
    storage.write_bytes(place, b"not compressed")
    assert storage.read_bytes(place) == b"not compressed"
    assert storage.read_bytes(place, limit=3) == b"not"
    assert storage.names(f"{hdfs}/files/a b") == ["x.gz"]
    filesystem, path = storage.filesystem_of(f"{hdfs}/files/half")
    stream = filesystem.open_output_stream(path, compression=None)
    stream.write(b"half")
    assert not storage.exists(f"{hdfs}/files/half")
    stream.close()
    assert storage.read_bytes(f"{hdfs}/files/half") == b"half"
    size, changed_ns = storage.stamps_below(f"{hdfs}/files")["half"]
    assert (size, changed_ns > 10**18) == (4, True)
    assert storage.files_below(f"{hdfs}/none") == {}
    storage.remove(f"{hdfs}/files")
    storage.remove(f"{hdfs}/files")
    assert not storage.exists(f"{hdfs}/files")
    with pytest.raises(InputError, match="cannot be read"):
        storage.read_bytes(place)


def test_an_hdfs_that_is_not_there_is_refused_before_the_first_step(tmp_path: Path) -> None:
    corpus.write(tmp_path / "source")
    lake = "hdfs://localhost:1/lake"
    code, shown = call("run-all", f"lake={lake}", f"ingest.source.path={tmp_path / 'source'}", *TINY)
    assert code == 1
    assert "`lake` cannot be written" in shown
    assert "ingest" not in shown
