"""Steps: skipped when done, done again when their inputs change, repeatable after a kill."""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import dataclass, field
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from sparkml.errors import SparkmlError
from sparkml.provision.packages import MakeVenv
from sparkml.provision.setup import _only_one, _perform, main
from sparkml.provision.site import Site, VenvStep, broken_distributions
from sparkml.provision.tools import Python, this_python


@dataclass
class Install(VenvStep):
    """A step whose input is a text; it counts its runs and fails when told to."""

    text: str = "one"
    fails: bool = False
    runs: list[str] = field(default_factory=list)
    name: str = "install"

    def describe(self, site: Site) -> str:
        return f"installs {self.text}"

    def inputs(self, site: Site) -> str:
        return self.text

    def act(self, site: Site) -> None:
        self.runs.append(self.text)
        if self.fails:
            raise SparkmlError("the registry cannot be reached")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    root = tmp_path / "checkout"
    (root / ".venv" / "bin").mkdir(parents=True)
    return Site(root, tmp_path / "cache", dict(os.environ))


@pytest.fixture
def python(tmp_path: Path) -> Python:
    """This interpreter, whose `-m venv` spares the seconds of putting pip there."""
    running = this_python()
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nshift 2\nexec "{running.path}" -m venv --without-pip "$@"\n')
    program.chmod(0o755)
    return Python(str(program), running.version, running.venv, running.headers)


def distribution(packages: Path, name: str, content: bytes, recorded_bytes: int) -> Path:
    info = packages / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (packages / f"{name}.py").write_bytes(content)
    record = f"{name}.py,sha256=x,{recorded_bytes}\n{info.name}/RECORD,,\n"
    (info / "RECORD").write_text(record)
    return info


def test_done_once_then_skipped_then_again_for_another_input(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    step = Install()
    _perform([step], site)
    assert capsys.readouterr().out.startswith("setup: install   installs one ... 0.")
    _perform([step], site)
    assert capsys.readouterr().out == ""
    step.text = "two"
    _perform([step], site)
    step.text = "one"
    _perform([step], site)
    assert step.runs == ["one", "two", "one"]


def test_failed_step_is_not_done_and_leaves_its_mark(site: Site) -> None:
    step = Install(fails=True)
    with pytest.raises(SparkmlError):
        _perform([step], site)
    assert not step.is_done(site)
    assert site.changing.read_text() == "install"
    step.fails = False
    _perform([step], site)
    assert step.runs == ["one", "one"]
    assert not site.changing.exists()


def test_failed_repetition_forgets_that_it_was_done(site: Site) -> None:
    step = Install()
    _perform([step], site)
    step.text, step.fails = "two", True
    with pytest.raises(SparkmlError):
        _perform([step], site)
    step.text = "one"
    assert not step.is_done(site)


def test_whole_and_broken_distributions(tmp_path: Path) -> None:
    distribution(tmp_path, "whole", b"12345", 5)
    distribution(tmp_path, "half", b"123", 5)
    (distribution(tmp_path, "gone", b"1", 1).parent / "gone.py").unlink()
    (distribution(tmp_path, "unrecorded", b"1", 1) / "RECORD").unlink()
    assert broken_distributions(tmp_path) == [
        "gone-1.0.dist-info",
        "half-1.0.dist-info",
        "unrecorded-1.0.dist-info",
    ]


def test_venv_keeps_whole_packages_and_is_made_anew_when_one_is_broken(site: Site, python: Python) -> None:
    packages = site.venv / "lib" / f"python{python.version[0]}.{python.version[1]}" / "site-packages"
    step = MakeVenv(python)
    _perform([step], site)
    assert step.is_done(site)
    assert site.python_version == python.version[:2]
    distribution(packages, "whole", b"12345", 5)
    site.changing.write_text("packages")
    assert not step.is_done(site)
    _perform([step], site)
    assert (packages / "whole.py").exists()
    distribution(packages, "half", b"1", 5)
    site.changing.write_text("packages")
    _perform([step], site)
    assert not (packages / "whole.py").exists()
    assert step.is_done(site)


def test_venv_of_another_python_is_not_done(site: Site, python: Python) -> None:
    _perform([MakeVenv(python)], site)
    assert not MakeVenv(Python("/other", (3, 9, 1), venv=True, headers=True)).is_done(site)


def test_second_set_up_waits_for_the_first(site: Site) -> None:
    context = multiprocessing.get_context("fork")
    first_holds, second_holds, free = context.Event(), context.Event(), context.Event()
    first = context.Process(target=_hold, args=(site, first_holds, free))
    first.start()
    assert first_holds.wait(10)
    second = context.Process(target=_hold, args=(site, second_holds, free))
    second.start()
    assert not second_holds.wait(0.5)
    free.set()
    assert second_holds.wait(10)
    first.join(10)
    second.join(10)
    assert (first.exitcode, second.exitcode) == (0, 0)


def _hold(site: Site, holds: Event, free: Event) -> None:
    with _only_one(site):
        holds.set()
        free.wait(10)


def test_missing_java_is_one_line_and_an_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setattr("sparkml.provision.setup.find_python", lambda environ: this_python())
    assert main([]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("setup: Java is missing (Spark runs on it) (JAVA_HOME=")
    assert captured.err.count("\n") == 1
