"""A missing tool is named in one line, with what it is for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sparkml.errors import MissingToolError
from sparkml.provision.commands import one_line
from sparkml.provision.tools import Python, find_java, find_python, probe_python, require_build_tools

PYTHON = Python("/usr/bin/python3.11", (3, 11, 7), venv=True, headers=True)


def program(folder: Path, name: str, script: str = "exit 0") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def java(folder: Path, version: str) -> Path:
    return program(folder, "java", f"echo 'openjdk version \"{version}\" 2025-04-15' >&2")


def test_no_java(tmp_path: Path) -> None:
    with pytest.raises(MissingToolError) as raised:
        find_java({"PATH": str(tmp_path)})
    line = one_line(raised.value)
    assert line.startswith("Java is missing (Spark runs on it) (no java on the PATH); install Java 17")
    assert "\n" not in line


@pytest.mark.parametrize("version", ["1.8.0_402", "11.0.22", "16.0.2"])
def test_java_too_old(tmp_path: Path, version: str) -> None:
    java(tmp_path, version)
    with pytest.raises(MissingToolError, match="Java is too old"):
        find_java({"PATH": str(tmp_path)})


@pytest.mark.parametrize("version", ["17.0.15", "21", "25.0.1-ea"])
def test_java_that_does(tmp_path: Path, version: str) -> None:
    assert find_java({"PATH": str(java(tmp_path, version).parent)}) == (str(tmp_path / "java"), version)


def test_java_home_goes_before_the_path(tmp_path: Path) -> None:
    java(tmp_path / "path", "17.0.1")
    home = java(tmp_path / "home" / "bin", "21.0.2")
    environ = {"PATH": str(tmp_path / "path"), "JAVA_HOME": str(tmp_path / "home")}
    assert find_java(environ) == (str(home), "21.0.2")
    with pytest.raises(MissingToolError, match=r"JAVA_HOME=/nowhere has no bin/java"):
        find_java({**environ, "JAVA_HOME": "/nowhere"})


@pytest.mark.parametrize(
    ("missing", "purpose"),
    [("cmake", "configures the build"), ("g++", "compiles Horovod"), ("make", "runs the build")],
)
def test_missing_build_tool(tmp_path: Path, missing: str, purpose: str) -> None:
    for tool in {"cmake", "g++", "make"} - {missing}:
        program(tmp_path, tool)
    with pytest.raises(MissingToolError) as raised:
        require_build_tools({"PATH": str(tmp_path)}, PYTHON)
    assert raised.value.what.startswith(f"{missing} is missing (it {purpose}")
    assert raised.value.next_action.startswith("install it (Debian: apt-get install ")


def test_own_compiler_instead_of_gpp(tmp_path: Path) -> None:
    for tool in ("cmake", "make", "clang++"):
        program(tmp_path, tool)
    require_build_tools({"PATH": str(tmp_path), "CXX": "clang++ -stdlib=libc++"}, PYTHON)


def test_missing_headers(tmp_path: Path) -> None:
    for tool in ("cmake", "g++", "make"):
        program(tmp_path, tool)
    with pytest.raises(MissingToolError, match=r"Python\.h is missing"):
        require_build_tools({"PATH": str(tmp_path)}, Python("/p", (3, 11, 7), venv=True, headers=False))


def test_probe_of_this_interpreter_and_of_an_idle_shim(tmp_path: Path) -> None:
    python = probe_python(sys.executable)
    assert python is not None
    assert python.version == tuple(sys.version_info[:3])
    assert probe_python(program(tmp_path, "python3.11", "echo 'pyenv: not found' >&2; exit 127")) is None


def test_best_python_of_the_path_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "sparkml.provision.tools.this_python", lambda: Python("/new", (3, 13, 0), venv=True, headers=True)
    )
    answer = '{{"path": "{0}", "version": [3, {1}, 1], "venv": {2}, "headers": true}}'
    program(tmp_path, "python3.11", f"echo '{answer.format('/no-venv', 11, 'false')}'")
    program(tmp_path, "python3.12", f"echo '{answer.format('/good', 12, 'true')}'")
    assert find_python({"PATH": str(tmp_path)}).path == "/good"
    (tmp_path / "python3.12").unlink()
    with pytest.raises(MissingToolError, match="venv and ensurepip are missing") as raised:
        find_python({"PATH": str(tmp_path)})
    assert "python3.11-venv" in raised.value.next_action


def test_no_python_that_suits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "sparkml.provision.tools.this_python", lambda: Python("/new", (3, 13, 0), venv=True, headers=True)
    )
    with pytest.raises(MissingToolError) as raised:
        find_python({"PATH": str(tmp_path)})
    expected = "Python 3.10, 3.11 or 3.12 is missing (everything runs on it; 3.11 is best) (found: 3.13.0)"
    assert one_line(raised.value) == expected
