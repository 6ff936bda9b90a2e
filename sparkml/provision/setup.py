"""The set-up, step by step, and its command line."""

from __future__ import annotations

import argparse
import fcntl
import importlib.util
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sparkml.errors import MissingToolError, SparkmlError
from sparkml.provision import jars
from sparkml.provision.cache import cache_root, jars_folder
from sparkml.provision.commands import child_environment, one_line
from sparkml.provision.horovod import InstallHorovod, has_any_wheel
from sparkml.provision.lockfile import LOCK_NAME
from sparkml.provision.packages import InstallSparkml, InstallUv, MakeVenv, steps_of_environment, write_lock
from sparkml.provision.site import Site, Step
from sparkml.provision.tools import Python, find_java, find_python, require_build_tools


@dataclass(frozen=True)
class FetchJars(Step):
    """The Delta jars; done when the files in the cache have their hashes."""

    java: str
    name: str = "jars"

    def describe(self, site: Site) -> str:
        return f"{len(jars.JARS)} jars of Delta {jars.DELTA_VERSION}"

    def inputs(self, site: Site) -> str:
        return ""

    def is_done(self, site: Site) -> bool:
        return not jars.wrong_jars(jars_folder(site.cache, jars.DELTA_VERSION))

    def finish(self, site: Site) -> None:
        """The files themselves say that it is done."""

    def act(self, site: Site) -> None:
        ivy = find_ivy(site.packages)
        jars.fetch_jars(cache=site.cache, java=self.java, ivy_jar=ivy, environ=site.environ, keep=site.keep)


def find_ivy(packages: Path) -> Path:
    """The Apache Ivy that PySpark ships."""
    found = sorted((packages / "pyspark" / "jars").glob("ivy-*.jar"))
    if not found:
        raise MissingToolError("PySpark is not installed, and with it Apache Ivy", where=str(packages))
    return found[-1]


def set_up(site: Site) -> None:
    """All the steps that are not done yet, each with a line on the terminal."""
    start = time.monotonic()
    python = find_python(site.environ)
    java, java_version = find_java(site.environ)
    horovod = InstallHorovod(python)
    steps = (*steps_of_environment(python), horovod, InstallSparkml(), FetchJars(java))
    if not all(step.is_done(site) for step in steps):
        if not horovod.is_done(site) and not has_any_wheel(site.cache, python):
            # Said now, not after minutes of downloads.
            require_build_tools(site.environ, python)
        _say_tools(python, java_version)
        with _only_one(site) as alone:
            _perform(steps, alone)
    print(f"setup: everything is in place ({time.monotonic() - start:.1f} s)", flush=True)


def lock(site: Site, *, upgrade: bool) -> None:
    """Resolves the lock anew; needs no more than the environment and uv."""
    with _only_one(site) as alone:
        _perform((MakeVenv(find_python(site.environ)), InstallUv()), alone)
        print(f"setup: {LOCK_NAME} holds {write_lock(alone, upgrade=upgrade)} packages", flush=True)


def fetch_jars_alone(site: Site) -> None:
    """The Delta jars for an installed sparkml, by the PySpark of the running interpreter."""
    found = importlib.util.find_spec("pyspark")
    if found is None or not found.submodule_search_locations:
        raise MissingToolError("PySpark is not installed", next_action="pip install pyspark")
    ivy = find_ivy(Path(found.submodule_search_locations[0]).parent)
    java, _ = find_java(site.environ)
    with _only_one(site) as alone:
        if jars.wrong_jars(jars_folder(site.cache, jars.DELTA_VERSION)):
            jars.fetch_jars(cache=site.cache, java=java, ivy_jar=ivy, environ=site.environ, keep=alone.keep)
    print(f"setup: {jars_folder(site.cache, jars.DELTA_VERSION)}", flush=True)


def main(arguments: Sequence[str]) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python3 -m sparkml.provision", description=__doc__)
    parser.add_argument("task", nargs="?", choices=("setup", "lock", "jars"), default="setup")
    parser.add_argument("--upgrade", action="store_true", help="with lock: take the newest versions that fit")
    asked = parser.parse_args(arguments)
    site = Site(Path(__file__).resolve().parents[2], cache_root(), child_environment())
    try:
        if asked.task == "setup":
            set_up(site)
        elif asked.task == "lock":
            lock(site, upgrade=asked.upgrade)
        else:
            fetch_jars_alone(site)
    except SparkmlError as error:
        print(f"setup: {one_line(error)}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"setup: {error.strerror}: {error.filename}; make it writable, then repeat", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nsetup: interrupted; repeat it to go on from here", file=sys.stderr)
        return 130
    return 0


def _perform(steps: Sequence[Step], site: Site) -> None:
    for step in steps:
        if step.is_done(site):
            continue
        print(f"setup: {step.name:<9} {step.describe(site)} ... ", end="", flush=True)
        try:
            seconds = step.perform(site)
        except BaseException:
            print("failed", flush=True)
            raise
        print(f"{seconds:.1f} s", flush=True)


def _say_tools(python: Python, java_version: str) -> None:
    version = ".".join(map(str, python.version))
    print(f"setup: tools     Python {version} ({python.path}), Java {java_version}", flush=True)


@contextmanager
def _only_one(site: Site) -> Iterator[Site]:
    """Holds the machine's lock of set-ups: two of them would write the same environment or the same cache."""
    site.cache.mkdir(parents=True, exist_ok=True)
    with (site.cache / "setup.lock").open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            print(
                f"setup: waiting for another set-up (process {handle.read().strip() or 'unknown'})",
                flush=True,
            )
            fcntl.flock(handle, fcntl.LOCK_EX)
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield replace(site, keep=(handle.fileno(),))
