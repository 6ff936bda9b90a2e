"""The archive of Spark's classes: used where it is there and fits; and what a JVM for little input does without."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sparkml.frame import class_archive, session
from sparkml.frame.session import DRIVER_OPTIONS, Session


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(class_archive, "location", lambda: tmp_path / "classes of Spark.jsa")
    return tmp_path / "classes of Spark.jsa"


def test_without_an_archive_options_stay(archive: Path) -> None:
    assert class_archive.java_options("-Xss4m") == "-Xss4m"


def test_who_makes_one_does_not_use_one(archive: Path) -> None:
    archive.touch()
    options = "-XX:ArchiveClassesAtExit=/elsewhere"
    assert class_archive.java_options(options) == options


def test_a_local_session_maps_the_one_that_is_there(archive: Path) -> None:
    archive.touch()
    settings = session._local_settings({"spark.master": "local[2]", DRIVER_OPTIONS: "-Xss4m"})
    assert settings[DRIVER_OPTIONS] == class_archive.java_options("-Xss4m") != "-Xss4m"


def test_an_archive_that_does_not_fit_is_passed_over_in_silence(archive: Path) -> None:
    archive.write_bytes(b"of another Java" * 1000)
    options = shlex.split(class_archive.java_options("-Xss4m"))
    assert f"-XX:SharedArchiveFile={archive}" in options
    assert "-Xss4m" in options
    done = subprocess.run(["java", *options, "--version"], capture_output=True, text=True, check=True)
    assert "warning" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("master", "n_bytes", "is_quick"),
    [("local[2]", 10**6, True), ("local[2]", 10**9, False), ("spark://host:7077", 10**6, False)],
)
def test_a_local_jvm_for_little_input_does_not_optimise(master: str, n_bytes: int, is_quick: bool) -> None:
    found = Session({"spark.master": master, DRIVER_OPTIONS: "-Xss4m"})
    found.expect(n_bytes)
    assert (session.QUICK_COMPILER in found.properties[DRIVER_OPTIONS]) == is_quick
    assert "-Xss4m" in found.properties[DRIVER_OPTIONS]


def test_to_read_the_configuration_needs_no_torch() -> None:
    """Seconds of every command."""
    code = (
        "import json, sys; from sparkml.frame.config import load_config; load_config('local');"
        "print(json.dumps(sorted({'torch', 'pandas', 'transformers'} & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
