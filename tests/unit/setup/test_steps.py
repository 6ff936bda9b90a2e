"""The set-up: skipped when nothing has changed, from nothing when something has or a kill interrupted it."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from tools.setup.jars import LOCK as JARS
from tools.setup.jars import Jar, read_lock
from tools.setup.machine import SetupError
from tools.setup.steps import Site, make_environment, only_one, set_up

ROOT = Path(__file__).resolve().parents[3]
LOCK = "# made by make lock\n" + "".join(
    f"{name}==1.0 \\\n    --hash=sha256:{'a' * 64}\n    # via x\n"
    for name in ("horovod", "pyspark", "setuptools", "uv")
)


class Checkout(Site):
    """A checkout whose programs are not run: each leaves what it is known to leave, or is killed (`dies_at`)."""

    def __init__(self, root: Path, cache: Path, environ: dict[str, str]) -> None:
        super().__init__(root, cache, environ)
        self.ran: list[str] = []
        self.dies_at = ""

    def run(self, step: str, *command: str | Path) -> None:
        words = " ".join(str(word) for word in command)
        self.ran.append(words)
        if self.dies_at and self.dies_at in words:
            raise KeyboardInterrupt
        if " -m venv --clear " in words:
            (self.packages / "torch").mkdir(parents=True, exist_ok=True)
            for leftover in self.venv.glob("*.txt"):
                leftover.unlink()
            self.python.parent.mkdir(exist_ok=True)
            self.python.touch()
            (self.packages / "torch" / "version.py").write_text("__version__ = '2.13.0+cpu'\n")
        if " pip wheel " in words:
            Path(str(command[-1])).mkdir()
            Path(str(command[-1]), "horovod-1.0-cp311-cp311-linux_x86_64.whl").touch()

    def times(self, words: str) -> int:
        return sum(words in ran for ran in self.ran)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """A checkout with a lock of four packages, a machine with Java and compilers, and no network."""
    root = tmp_path / "checkout"
    root.mkdir()
    (root / "requirements.lock").write_text(LOCK)
    (root / "pyproject.toml").write_text(
        'dependencies = [\n    "torch==2.13.0",\n]\n[tool.ruff]\nline-length = 110\n'
    )
    for tool in ("java", "cmake", "g++", "make"):
        (tmp_path / tool).write_text("#!/bin/sh\necho 'openjdk version \"17.0.1\"' >&2\n")
        (tmp_path / tool).chmod(0o755)
    monkeypatch.setattr(Jar, "is_in", lambda jar, folder: True)
    monkeypatch.setattr("tools.setup.jars._copy", lambda source, folder: None)
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"include": str(tmp_path)})
    (tmp_path / "Python.h").touch()
    return Checkout(root, tmp_path / "cache", {"PATH": f"{tmp_path}:/usr/bin:/bin"})


def again(checkout: Checkout, **environ: str) -> Checkout:
    """The same checkout, looked at by another run of the set-up."""
    return Checkout(checkout.root, checkout.cache, {**checkout.environ, **environ})


def test_everything_once_then_nothing(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    set_up(checkout, s3=False)
    order = [
        "-m venv --clear",
        "pip install --quiet",
        "--require-hashes",
        "torch==2.13.0",
        "pip wheel",
        "--editable",
    ]
    found = [next(i for i, words in enumerate(checkout.ran) if mark in words) for mark in order]
    assert found == sorted(found)
    assert capsys.readouterr().out.count("setup: ") == 7
    second = again(checkout)
    set_up(second, s3=False)
    assert second.ran == []
    assert capsys.readouterr().out.startswith("setup: everything is in place")


def test_a_java_that_cannot_archive_classes_is_good_enough(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(step: str, *command: str | Path) -> None:
        Checkout.run(checkout, step, *command)
        if step == "classes":
            raise SetupError("a program failed")

    monkeypatch.setattr(checkout, "run", run)
    set_up(checkout, s3=False)
    assert "left out (a program failed)" in capsys.readouterr().out


def test_the_right_packages_reach_each_installer(checkout: Checkout) -> None:
    set_up(checkout, s3=False)
    pinned = {
        path.name: [line.partition("==")[0] for line in path.read_text().splitlines() if "==" in line]
        for path in checkout.venv.glob("*.txt")
    }
    assert pinned == {
        "uv.txt": ["uv"],
        "packages.txt": ["pyspark", "setuptools", "uv"],
        "build.txt": ["setuptools"],
        "horovod.txt": ["horovod"],
    }
    wheel = next(words for words in checkout.ran if "pip wheel" in words)
    flags = (
        "--no-build-isolation",
        "--require-hashes",
        "--no-cache-dir",
        "HOROVOD_WITH_PYTORCH=1",
        "tools/setup/c++17",
    )
    assert all(flag in wheel for flag in flags)


@pytest.mark.parametrize("change", ["lock", "torch", "index", "gpu"])
def test_another_input_makes_the_environment_anew(checkout: Checkout, change: str) -> None:
    set_up(checkout, s3=False)
    project = checkout.root / "pyproject.toml"
    if change == "lock":
        (checkout.root / "requirements.lock").write_text(LOCK.replace("pyspark==1.0", "pyspark==1.1"))
    if change == "torch":
        project.write_text(project.read_text().replace("2.13.0", "2.14.0"))
    environ = {"index": {"UV_INDEX": "https://a.example/cpu"}, "gpu": {"HOROVOD_GPU_OPERATIONS": "NCCL"}}
    second = again(checkout, **environ.get(change, {}))
    set_up(second, s3=False)
    assert second.times("-m venv --clear") == 1
    assert second.times("pip wheel") == (change == "gpu")  # the cache keeps the wheel of this torch


def test_settings_of_linters_do_not_count(checkout: Checkout) -> None:
    set_up(checkout, s3=False)
    project = checkout.root / "pyproject.toml"
    project.write_text(project.read_text().replace("110", "120"))
    second = again(checkout)
    set_up(second, s3=False)
    assert second.ran == []


@pytest.mark.parametrize(
    "moment", ["-m venv", "pip install --quiet", "--build-constraints", "torch==", "pip wheel", "--editable"]
)
def test_a_killed_set_up_begins_again(checkout: Checkout, moment: str) -> None:
    set_up(checkout, s3=False)
    (checkout.root / "requirements.lock").write_text(LOCK + "# changed\n")
    (checkout.cache / "wheels").rename(checkout.cache / "none")
    killed = again(checkout)
    killed.dies_at = moment
    with pytest.raises(KeyboardInterrupt):
        set_up(killed, s3=False)
    assert not list((checkout.cache / "wheels").glob("*")) or moment == "--editable"
    repeated = again(checkout)
    set_up(repeated, s3=False)
    assert repeated.times("-m venv --clear") == 1
    assert repeated.times("--editable") == 1
    assert repeated.is_made()


def test_a_wheel_that_does_not_work_is_not_kept(checkout: Checkout) -> None:
    checkout.dies_at = "h.gloo_built()"
    with pytest.raises(KeyboardInterrupt):
        set_up(checkout, s3=False)
    assert list((checkout.cache / "wheels").iterdir()) == []


def test_a_missing_compiler_is_said_before_anything_is_done(checkout: Checkout, tmp_path: Path) -> None:
    (tmp_path / "cmake").unlink()
    bare = again(checkout, PATH=str(tmp_path))
    with pytest.raises(SetupError, match="cmake is missing"):
        make_environment(bare)
    assert bare.ran == []


@pytest.mark.parametrize(
    ("section", "jar"), [("s3", "hadoop-aws-3.5.0.jar"), ("kafka", "kafka-clients-3.9.2.jar")]
)
def test_jars_that_were_asked_for_once_come_again_into_a_new_environment(
    checkout: Checkout, capsys: pytest.CaptureFixture[str], section: str, jar: str
) -> None:
    known = read_lock(JARS.read_text())
    set_up(checkout, s3=False)
    assert f"jars     {len(known['delta'])} for Spark" in capsys.readouterr().out
    folder = checkout.packages / "pyspark" / "jars"
    folder.mkdir(parents=True)
    (folder / jar).touch()
    (checkout.root / "requirements.lock").write_text(LOCK + "# changed\n")
    set_up(again(checkout), s3=False)
    assert f"jars     {len(known['delta'] + known[section])} for Spark" in capsys.readouterr().out


def test_a_second_set_up_waits_for_the_first(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    first_holds, second_holds, free = context.Event(), context.Event(), context.Event()
    first = context.Process(target=_hold, args=(tmp_path, first_holds, free))
    first.start()
    assert first_holds.wait(10)
    second = context.Process(target=_hold, args=(tmp_path, second_holds, free))
    second.start()
    assert not second_holds.wait(0.5)
    free.set()
    assert second_holds.wait(10)
    first.join(10)
    second.join(10)
    assert (first.exitcode, second.exitcode) == (0, 0)


def _hold(cache: Path, holds: Event, free: Event) -> None:
    with only_one(cache):
        holds.set()
        free.wait(10)


def test_the_command_says_in_one_line_what_is_missing(tmp_path: Path) -> None:
    environ = {**os.environ, "JAVA_HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-B", "tools/setup"], cwd=ROOT, env=environ, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"setup: Java is missing ({tmp_path}/bin/java)")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("version", [(3, 8, 19, "final", 0), (3, 13, 0, "final", 0)])
def test_another_python_is_refused_in_one_line(
    version: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    with pytest.raises(
        SystemExit, match=rf"Python 3\.10, 3\.11 or 3\.12 is missing \(.* is 3\.{version[1]}\)"
    ):
        runpy.run_path(str(ROOT / "tools" / "setup" / "__main__.py"), run_name="__main__")


def test_the_compilers_later_standard_wins() -> None:
    said = subprocess.run(
        [str(ROOT / "tools/setup/c++17"), "-std=c++14", "a b.cc"],
        env={"SPARKML_CXX": "printf %s\\n", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    ).stdout
    assert said.splitlines() == ["-std=c++14", "a b.cc", "-std=c++17", "-g0"]
