"""Only whole jars with the right hash reach the cache, and only those are handed to Spark."""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from sparkml.errors import MissingToolError, SparkmlError
from sparkml.provision import jars
from sparkml.provision.jars import Jar, delta_jars, fetch_jars, ivy_module, place_jars, wrong_jars

CONTENT = b"a jar"
JAR = Jar("io.example", "thing_2.13", "1.2.3", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())

# Instead of `java -jar ivy.jar ... -retrieve FOLDER/[artifact]-[revision].[ext]`: puts a file there.
FAKE_JAVA = """#!/bin/sh
for last; do :; done
folder=$(dirname "$last")
mkdir -p "$folder"
printf '%s' "$SAYS" > "$folder/thing_2.13-1.2.3.jar"
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(jars, "JARS", (JAR,))
    return tmp_path / "sparkml"


def fetch(cache: Path, says: str) -> None:
    java = cache / "java"
    cache.mkdir(exist_ok=True)
    java.write_text(FAKE_JAVA)
    java.chmod(0o755)
    environ = {"PATH": "/usr/bin:/bin", "SAYS": says}
    fetch_jars(cache=cache, java=str(java), ivy_jar=Path("ivy.jar"), environ=environ, jars=(JAR,))


def test_nothing_there_names_make_setup(cache: Path) -> None:
    with pytest.raises(MissingToolError) as raised:
        delta_jars()
    assert raised.value.got == "missing or damaged: thing_2.13-1.2.3.jar"
    assert raised.value.next_action.startswith("make setup")


def test_fetched_jar_is_handed_out(cache: Path) -> None:
    fetch(cache, CONTENT.decode())
    expected = cache / "jars" / "delta-4.4.0" / "thing_2.13-1.2.3.jar"
    assert delta_jars() == [expected]
    assert expected.read_bytes() == CONTENT
    assert [path.name for path in (cache / "jars").iterdir()] == ["delta-4.4.0"]


@pytest.mark.parametrize("says", ["b jar", "a ja", ""])
def test_other_content_is_refused_and_leaves_nothing(cache: Path, says: str) -> None:
    with pytest.raises(SparkmlError, match="not the file whose hash the project holds"):
        fetch(cache, says)
    assert [path.name for path in (cache / "jars").rglob("*")] == ["delta-4.4.0"]


def test_half_a_jar_is_seen_and_replaced(cache: Path) -> None:
    folder = cache / "jars" / "delta-4.4.0"
    folder.mkdir(parents=True)
    (folder / JAR.file_name).write_bytes(CONTENT[:2])
    with pytest.raises(MissingToolError, match=r"thing_2\.13-1\.2\.3\.jar"):
        delta_jars()
    fetch(cache, CONTENT.decode())
    assert wrong_jars(folder, [JAR]) == []


def test_same_size_other_bytes_is_wrong(tmp_path: Path) -> None:
    (tmp_path / JAR.file_name).write_bytes(b"b jar")
    assert wrong_jars(tmp_path, [JAR]) == [JAR]


def test_jar_that_did_not_come(tmp_path: Path) -> None:
    with pytest.raises(SparkmlError, match=r"no thing_2\.13-1\.2\.3\.jar"):
        place_jars(tmp_path, tmp_path, [JAR])


def test_leftovers_of_a_killed_fetch_go(cache: Path) -> None:
    (cache / "jars" / ".fetching-old" / "lib").mkdir(parents=True)
    fetch(cache, CONTENT.decode())
    assert [path.name for path in (cache / "jars").iterdir()] == ["delta-4.4.0"]


def test_ivy_is_asked_for_exactly_these_and_not_for_what_they_depend_on() -> None:
    module = ElementTree.fromstring(ivy_module(jars.JARS))
    asked = [dict(dependency.attrib) for dependency in module.iter("dependency")]
    assert [(one["org"], one["name"], one["rev"], one["transitive"]) for one in asked] == [
        ("io.delta", "delta-spark_4.2_2.13", "4.4.0", "false"),
        ("io.delta", "delta-storage", "4.4.0", "false"),
    ]


def test_own_repository_settings_that_are_not_there(cache: Path) -> None:
    with pytest.raises(SparkmlError, match="SPARKML_IVY_SETTINGS names no file"):
        fetch_jars(
            cache=cache,
            java="java",
            ivy_jar=Path("ivy.jar"),
            environ={"SPARKML_IVY_SETTINGS": "/no/ivysettings.xml"},
            jars=(JAR,),
        )
