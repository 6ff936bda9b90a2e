"""The programs that a machine must bring: Python, Java, and for Horovod a C++ compiler, CMake and make."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sparkml.errors import MissingToolError

PYTHONS = ((3, 11), (3, 12), (3, 10))  # the best first
JAVA_MIN = 17

# For each tool of the Horovod build: what it is for, and Debian's package of it.
BUILD_TOOLS = {
    "cmake": ("configures the build of Horovod", "cmake"),
    "g++": ("compiles Horovod", "g++"),
    "make": ("runs the build of Horovod", "make"),
}

_PROBE = """
import importlib.util, json, os, sys, sysconfig
print(json.dumps({
    "path": sys.executable,
    "version": list(sys.version_info[:3]),
    "venv": all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")),
    "headers": os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")),
}))
"""


@dataclass(frozen=True)
class Python:
    """An interpreter of this machine, and whether it can make environments and compile extensions."""

    path: str
    version: tuple[int, ...]
    venv: bool
    headers: bool

    @property
    def suits(self) -> bool:
        return self.version[:2] in PYTHONS


def this_python() -> Python:
    base = getattr(sys, "_base_executable", None) or sys.executable
    headers = Path(sysconfig.get_paths()["include"], "Python.h").exists()
    ensurepip = Path(sysconfig.get_paths()["stdlib"], "ensurepip").is_dir()
    return Python(base, tuple(sys.version_info[:3]), ensurepip, headers)


def probe_python(path: str | Path) -> Python | None:
    """What the interpreter at `path` says of itself; None when it does not run (an idle pyenv shim)."""
    try:
        answer = subprocess.run(
            [str(path), "-I", "-c", _PROBE], capture_output=True, text=True, timeout=30, check=True
        )
        said = json.loads(answer.stdout)
    except (OSError, subprocess.SubprocessError, json.JSONDecodeError):
        return None
    return Python(said["path"], tuple(said["version"]), said["venv"], said["headers"])


def find_python(environ: Mapping[str, str]) -> Python:
    """The environment's interpreter: SPARKML_PYTHON, or the best of this machine (3.11, then 3.12, 3.10).

    Raises `MissingToolError` when there is none, or none that can make an environment.
    """
    asked = environ.get("SPARKML_PYTHON")
    if asked:
        found = [python for python in [probe_python(shutil.which(asked) or asked)] if python]
    else:
        running = this_python()
        if running.version[:2] == PYTHONS[0] and running.venv and running.headers:
            return running
        found = [running, *_other_pythons(environ)]
    suiting = [python for python in found if python.suits]
    if not suiting:
        names = ", ".join(".".join(map(str, python.version)) for python in found) or "none"
        raise MissingToolError(
            "Python 3.10, 3.11 or 3.12 is missing (everything runs on it; 3.11 is best)",
            got=f"SPARKML_PYTHON={asked}" if asked else f"found: {names}",
        )
    best = min(
        suiting, key=lambda python: (not python.venv, not python.headers, PYTHONS.index(python.version[:2]))
    )
    if not best.venv:
        short = ".".join(map(str, best.version[:2]))
        raise MissingToolError(
            "Python's modules venv and ensurepip are missing (they make .venv)",
            got=best.path,
            next_action=f"install them (Debian: apt-get install python{short}-venv)",
        )
    return best


def _other_pythons(environ: Mapping[str, str]) -> Iterator[Python]:
    seen: set[str] = set()
    for version in PYTHONS:
        for folder in environ.get("PATH", "").split(os.pathsep):
            path = Path(folder, f"python{version[0]}.{version[1]}")
            if os.access(path, os.X_OK):
                python = probe_python(path)
                if python and python.path not in seen:
                    seen.add(python.path)
                    yield python


def find_java(environ: Mapping[str, str]) -> tuple[str, str]:
    """Java's path and version: JAVA_HOME's, or the first on the PATH, as PySpark chooses it."""
    home = environ.get("JAVA_HOME")
    path = str(Path(home, "bin", "java")) if home else shutil.which("java", path=environ.get("PATH"))
    install = (
        "install Java 17 or newer (Debian: apt-get install openjdk-17-jre-headless), or set JAVA_HOME to one"
    )
    if not path or not os.access(path, os.X_OK):
        where = f"JAVA_HOME={home} has no bin/java" if home else "no java on the PATH"
        raise MissingToolError("Java is missing (Spark runs on it)", got=where, next_action=install)
    try:
        said = subprocess.run(
            [path, "-version"], capture_output=True, text=True, timeout=60, check=False
        ).stderr
    except (OSError, subprocess.SubprocessError) as error:
        raise MissingToolError(
            "Java does not start (Spark runs on it)", got=str(error), next_action=install
        ) from error
    found = re.search(r'version "((\d+)[^"]*)"', said)
    # Java 8 calls itself 1.8, which the comparison refuses as it should.
    if not found or int(found[2]) < JAVA_MIN:
        got = found[1] if found else " ".join(said.split())[:120]
        raise MissingToolError(
            "Java is too old or broken (Spark runs on it)", got=f"{path}: {got}", next_action=install
        )
    return path, found[1]


def require_build_tools(environ: Mapping[str, str], python: Python) -> None:
    """Raises `MissingToolError` for the first thing that the build of Horovod would miss."""
    for tool, (purpose, package) in BUILD_TOOLS.items():
        chosen = {"g++": environ.get("CXX"), "cmake": environ.get("HOROVOD_CMAKE")}.get(tool) or tool
        if shutil.which(chosen.split()[0], path=environ.get("PATH")) is None:
            raise MissingToolError(
                f"{chosen} is missing (it {purpose})",
                next_action=f"install it (Debian: apt-get install {package})",
            )
    if not python.headers:
        short = ".".join(map(str, python.version[:2]))
        raise MissingToolError(
            "Python.h is missing (Horovod is compiled against it)",
            got=f"Python {short} at {python.path}",
            next_action=f"install it (Debian: apt-get install python{short}-dev)",
        )
