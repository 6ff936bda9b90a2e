"""Only whole jars with the right hash reach the cache and Spark."""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path

import pytest

from sparkml.errors import MissingToolError
from sparkml.frame.session import DELTA_PACKAGE, build_session
from sparkml.sources.kafka import KAFKA_PACKAGE
from tools.setup.jars import LOCK, Jar, java_proxy, place, read_lock
from tools.setup.machine import SetupError

CONTENT = b"a jar"
JAR = Jar("io.example", "thing_2.13", "1.2.3", hashlib.sha256(CONTENT).hexdigest())
OTHER = Jar("io.example", "other", "2", hashlib.sha256(b"other").hexdigest())


class Repository:
    """Serves what it holds to whoever asks by Ivy's command, and remembers what was asked for."""

    environ: Mapping[str, str] = {}

    def __init__(self, **files: bytes) -> None:
        self.files = files
        self.asked: list[dict[str, str]] = []

    def run(self, step: str, *command: str | Path) -> None:
        words = [str(word) for word in command]
        module = ElementTree.parse(words[words.index("-ivy") + 1])
        self.asked = [dict(jar.attrib) for jar in module.iter("dependency")]
        for jar in self.asked:
            if jar["name"] in self.files:
                name = f"{jar['name']}-{jar['rev']}.jar"
                Path(words[-1]).with_name(name).write_bytes(self.files[jar["name"]])


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """PySpark's folder of jars and the cache's."""
    pyspark = tmp_path / "pyspark"
    pyspark.mkdir()
    (pyspark / "ivy-2.5.3.jar").touch()
    return pyspark, tmp_path / "shelf"


def test_jars_come_once_and_lie_whole_in_both_folders(folders: tuple[Path, Path]) -> None:
    repository = Repository(**{"thing_2.13": CONTENT, "other": b"other"})
    place([JAR, OTHER], *folders, repository, "java")
    assert [jar["name"] for jar in repository.asked] == ["thing_2.13", "other"]
    assert {jar["transitive"] for jar in repository.asked} == {"false"}
    assert all(jar.is_in(folder) for jar in (JAR, OTHER) for folder in folders)
    assert sorted(path.name for path in folders[1].iterdir()) == ["other-2.jar", "thing_2.13-1.2.3.jar"]
    place([JAR], *folders, Nobody(), "java")


@pytest.mark.parametrize("served", [b"b jar", b"a ja", b""])
def test_a_wrong_jar_reaches_nobody(folders: tuple[Path, Path], served: bytes) -> None:
    with pytest.raises(SetupError, match=r"thing_2\.13-1\.2\.3\.jar did not come with sha256"):
        place([JAR], *folders, Repository(**{"thing_2.13": served}), "java")
    assert not list(folders[1].iterdir())
    assert [path.name for path in folders[0].iterdir()] == ["ivy-2.5.3.jar"]


def test_a_jar_that_did_not_come_is_named(folders: tuple[Path, Path]) -> None:
    with pytest.raises(SetupError, match=r"other-2\.jar did not come"):
        place([JAR, OTHER], *folders, Repository(**{"thing_2.13": CONTENT}), "java")


def test_half_a_jar_is_seen_and_replaced(folders: tuple[Path, Path]) -> None:
    for folder in folders:
        folder.mkdir(exist_ok=True)
        (folder / JAR.file_name).write_bytes(CONTENT[:2])
    place([JAR], *folders, Repository(**{"thing_2.13": CONTENT}), "java")
    assert all(JAR.is_in(folder) for folder in folders)


@pytest.mark.parametrize(
    "line", ["io.delta delta-storage 4.4.0", "a b c nothash", f"a b c {'0' * 63}", "[x] y"]
)
def test_a_damaged_line_of_the_lock_is_shown(line: str) -> None:
    with pytest.raises(SetupError, match=r"jars\.lock: expected group, artifact, version, sha256, got"):
        read_lock(f"[delta]  # what Delta needs\n{line}\n")


def test_the_projects_lock_is_what_sessions_name_and_nothing_twice() -> None:
    known = read_lock(LOCK.read_text())
    assert ":".join(known["delta"][0][:3]) == DELTA_PACKAGE
    assert "hadoop-aws" in {jar.artifact for jar in known["s3"]}
    assert ":".join(known["kafka"][-2][:3]) == KAFKA_PACKAGE
    # A broker runs by itself; all others may come into one folder.
    names = [jar.artifact for section in known.keys() - {"broker"} for jar in known[section]]
    assert len(names) == len(set(names))
    assert "kafka_2.13" in {jar.artifact for jar in known["broker"]}


def test_java_gets_the_proxy_and_its_exceptions() -> None:
    environ = {"HTTPS_PROXY": "http://me:secret@proxy.example:3128", "no_proxy": "localhost,.example.test"}
    assert java_proxy(environ) == [
        "-Dhttps.proxyHost=proxy.example",
        "-Dhttps.proxyPort=3128",
        "-Dhttp.nonProxyHosts=localhost|*.example.test",
    ]
    assert java_proxy({"no_proxy": "localhost"}) == []


def test_a_session_without_delta_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARK_HOME", str(tmp_path))
    monkeypatch.setattr("pyspark.sql.SparkSession.getActiveSession", lambda: None)
    with pytest.raises(MissingToolError) as raised:
        build_session({"spark.master": "local[1]"})
    assert raised.value.where == str(tmp_path / "jars")
    assert f"spark.jars.packages={DELTA_PACKAGE}" in raised.value.next_action


class Nobody(Repository):
    def run(self, step: str, *command: str | Path) -> None:
        raise AssertionError("nothing should be fetched")
