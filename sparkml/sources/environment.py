"""The embedded corpus: which files of a Python environment are documentation, and of which distribution.

Only what a distribution's RECORD lists is taken, so files that appear with use (bytecode, caches) stay out.
So do those that installers write (paths, times): two set-ups of one lock hold the same corpus.
"""

from __future__ import annotations

import csv
import importlib.metadata
import json
import os
import re
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

STDLIB_LABEL = "python-stdlib"
_TEXT_SUFFIXES = {".rst", ".md", ".txt"}
_TEXT_NAMES = re.compile(r"readme|licen[cs]e|copying|notice|authors|change|history", re.IGNORECASE)
_TEXT_NAME_SUFFIXES = {"", ".apache", ".bsd", ".mit", ".python", ".psf"}
# Lists for machines that happen to end in .txt, and what an installer writes.
_NOT_DOCUMENTS = {
    "top_level.txt",
    "entry_points.txt",
    "namespace_packages.txt",
    "dependency_links.txt",
    "requires.txt",
    "installed-files.txt",
    "native_libs.txt",
    "sources.txt",
    "cmakelists.txt",
}
_STDLIB_SKIPPED = re.compile(r"__pycache__|(site|dist)-packages|lib-dynload|config-.*|_sysconfigdata.*")
_OWN_DISTRIBUTION = "sparkml"


@dataclass(frozen=True)
class EnvironmentFile:
    """A file of the environment: `relative` begins with `site-packages/` or `stdlib/`."""

    path: str
    relative: str
    size: int
    format: str
    label: str
    version: str


def environment_files(site_packages: str | None = None) -> Iterator[EnvironmentFile]:
    """Documentation of the running interpreter, or of one `site-packages` folder."""
    for folder in [site_packages] if site_packages else _site_packages():
        yield from _installed(folder)
    if site_packages is None:
        yield from _standard_library(sysconfig.get_paths()["stdlib"])


def environment_state(site_packages: str | None = None) -> str:
    """The interpreter and every distribution with its version: changes when the corpus can."""
    folders = [site_packages] if site_packages else _site_packages()
    names = sorted(f"{name}=={version}" for name, version, _ in _distributions(folders))
    return "\n".join([sys.version, *names])


def _site_packages() -> list[str]:
    paths = sysconfig.get_paths()
    return sorted({paths["purelib"], paths["platlib"]})


def _distributions(folders: list[str]) -> Iterator[tuple[str, str, importlib.metadata.Distribution]]:
    for distribution in importlib.metadata.distributions(path=folders):
        given = distribution.metadata["Name"]
        if given is None:  # what a broken uninstall leaves behind
            continue
        name = re.sub(r"[-_.]+", "-", given).lower()
        if name != _OWN_DISTRIBUTION and not _is_editable(distribution):
            yield name, distribution.version, distribution


def _is_editable(distribution: importlib.metadata.Distribution) -> bool:
    origin = distribution.read_text("direct_url.json")
    return bool(origin) and json.loads(origin or "{}").get("dir_info", {}).get("editable", False)


def _installed(folder: str) -> Iterator[EnvironmentFile]:
    seen: set[str] = set()
    for name, version, distribution in sorted(_distributions([folder]), key=lambda found: found[:2]):
        for listed in sorted(_record(distribution)):
            kind = _format(listed)
            # Two distributions may list one file (a namespace's __init__): the first by name owns it.
            if kind is None or listed.startswith(("..", "/")) or listed in seen:
                continue
            path = os.path.join(folder, listed)
            try:
                size = os.stat(path).st_size
            except OSError:
                continue  # listed and never installed, or taken away by hand
            seen.add(listed)
            yield EnvironmentFile(path, f"site-packages/{listed}", size, kind, name, version)


def _record(distribution: importlib.metadata.Distribution) -> list[str]:
    record = distribution.read_text("RECORD")
    if record is not None:
        return [row[0] for row in csv.reader(record.splitlines()) if row]
    return [str(file) for file in distribution.files or ()]


def _standard_library(folder: str) -> Iterator[EnvironmentFile]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _STDLIB_SKIPPED.fullmatch(name))
        for name in sorted(names):
            path = Path(where, name)
            relative = path.relative_to(folder).as_posix()
            kind = _format(relative)
            if kind is not None and not _STDLIB_SKIPPED.fullmatch(name) and path.is_file():
                size = path.stat().st_size
                yield EnvironmentFile(str(path), f"stdlib/{relative}", size, kind, STDLIB_LABEL, version)


def _format(relative: str) -> str | None:
    """`docstrings` for Python source, `text` for documents, None for anything else."""
    place = PurePosixPath(relative)
    suffix = place.suffix.lower()
    if suffix == ".py":
        return "docstrings"
    if place.name.lower() in _NOT_DOCUMENTS or "__pycache__" in place.parts:
        return None
    if suffix in _TEXT_SUFFIXES:
        return "text"
    if suffix in _TEXT_NAME_SUFFIXES and _TEXT_NAMES.match(place.name):
        return "text"
    return None
