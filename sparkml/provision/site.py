"""One checkout being set up: its environment, its cache, and the stamps of the steps that are done."""

from __future__ import annotations

import csv
import hashlib
import re
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sparkml.errors import SparkmlError
from sparkml.provision.cache import log_file
from sparkml.provision.commands import run
from sparkml.provision.lockfile import write_atomically


@dataclass(frozen=True)
class Site:
    """A checkout (`root`), the machine's cache, and the environment that its programs get."""

    root: Path
    cache: Path
    environ: Mapping[str, str]
    keep: Sequence[int] = field(default=())

    @property
    def venv(self) -> Path:
        return self.root / ".venv"

    @property
    def python(self) -> Path:
        return self.venv / "bin" / "python"

    @property
    def uv(self) -> Path:
        return self.venv / "bin" / "uv"

    @property
    def stamps(self) -> Path:
        # Inside the environment: whoever deletes it deletes what was said about it.
        return self.venv / ".sparkml"

    @property
    def changing(self) -> Path:
        """Lies there while a step writes into the environment; found at the start, it tells of a kill."""
        return self.stamps / "changing"

    @property
    def python_version(self) -> tuple[int, int] | None:
        """Major and minor version of the environment's Python; None when there is no environment."""
        try:
            text = (self.venv / "pyvenv.cfg").read_text(encoding="utf-8")
        except OSError:
            return None
        found = re.search(r"^version(?:_info)?\s*=\s*(\d+)\.(\d+)", text, re.MULTILINE)
        return (int(found[1]), int(found[2])) if found and self.python.exists() else None

    @property
    def packages(self) -> Path:
        """The environment's site-packages."""
        version = self.python_version
        if version is None:
            raise SparkmlError("there is no environment yet", where=str(self.venv), next_action="make setup")
        return self.venv / "lib" / f"python{version[0]}.{version[1]}" / "site-packages"

    def run(self, step: str, *command: str | Path, env: Mapping[str, str] | None = None) -> None:
        """Runs a program of a step, with its words in the step's log."""
        log = log_file(self.cache, step)
        run(command, log=log, env={**self.environ, **(env or {})}, cwd=self.root, keep=self.keep)


class Step(ABC):
    """One step of the set-up. It is done when its stamp holds the fingerprint of its inputs."""

    name: str

    @abstractmethod
    def describe(self, site: Site) -> str:
        """What it does, for the terminal."""

    @abstractmethod
    def inputs(self, site: Site) -> str:
        """All that its result depends on; another text, and the step is done again."""

    @abstractmethod
    def act(self, site: Site) -> None:
        """Does it. May be killed at any point and repeated."""

    def is_done(self, site: Site) -> bool:
        try:
            return (site.stamps / self.name).read_text(encoding="utf-8") == fingerprint(self.inputs(site))
        except (OSError, SparkmlError):
            return False

    def finish(self, site: Site) -> None:
        """Records, as its last act, that the step is done."""
        write_atomically(site.stamps / self.name, fingerprint(self.inputs(site)))

    def perform(self, site: Site) -> float:
        """Does the step and records it; returns the seconds."""
        start = time.monotonic()
        (site.stamps / self.name).unlink(missing_ok=True)
        log_file(site.cache, self.name).unlink(missing_ok=True)
        self.act(site)
        self.finish(site)
        return time.monotonic() - start


class VenvStep(Step):
    """A step that writes into the environment: it leaves a mark while it does."""

    def perform(self, site: Site) -> float:
        write_atomically(site.changing, self.name)
        seconds = super().perform(site)
        site.changing.unlink(missing_ok=True)
        return seconds


def fingerprint(inputs: str) -> str:
    return hashlib.sha256(inputs.encode()).hexdigest()


def sha256_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as content:
        for block in iter(lambda: content.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def broken_distributions(packages: Path) -> list[str]:
    """The installed distributions that lack a file of theirs or have half of one: what a kill leaves."""
    return sorted(folder.name for folder in packages.glob("*.dist-info") if not _is_whole(folder))


def _is_whole(dist_info: Path) -> bool:
    try:
        with (dist_info / "RECORD").open(newline="", encoding="utf-8") as record:
            rows = [row for row in csv.reader(record) if len(row) == 3]
        base = dist_info.parent
        return bool(rows) and all((base / path).stat().st_size == int(size) for path, _, size in rows if size)
    except (OSError, ValueError):
        return False


def remove_leftovers(paths: Iterable[Path]) -> None:
    """What interrupted set-ups left in the cache (only ever called under the set-up's lock)."""
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)
