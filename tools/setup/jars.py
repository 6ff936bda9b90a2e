"""Spark's further jars: exact files with known hashes, fetched by the Apache Ivy that PySpark ships.

They lie in PySpark's own folder of jars: embedded sessions and the environment's spark-submit need no `--jars`.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from tools.setup.machine import SetupError

LOCK = Path(__file__).with_name("jars.lock")

# Maven Central, without a look at what the jars depend on: the lock names everything.
_SETTINGS = """<ivysettings><settings defaultResolver="central"/><resolvers>
<ibiblio name="central" m2compatible="true" usepoms="false" useMavenMetadata="false"/></resolvers></ivysettings>"""
_MODULE = """<ivy-module version="2.0"><info organisation="sparkml" module="jars"/>
<configurations><conf name="default"/></configurations><dependencies>%s</dependencies></ivy-module>"""
_JAR = '<dependency org="%s" name="%s" rev="%s" transitive="false" conf="default->master(default)"/>'


class Runner(Protocol):
    """Who runs a program of a step and keeps its words."""

    environ: Mapping[str, str]

    def run(self, step: str, *command: str | Path) -> None: ...


class Jar(NamedTuple):
    """One file of a Maven repository: its coordinates and hash."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        return f"{self.artifact}-{self.version}.jar"

    def is_in(self, folder: Path) -> bool:
        """True when `folder` has the file, whole and right."""
        path = folder / self.file_name
        return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == self.sha256


def read_lock(text: str) -> dict[str, list[Jar]]:
    """The jars of each section. Raises `SetupError` for a line that is no exact file."""
    sections: dict[str, list[Jar]] = {}
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if len(words) == 1:
            jars = sections.setdefault(words[0].strip("[]"), [])
        elif len(words) == 4 and sections and re.fullmatch(r"[0-9a-f]{64}", words[3]):
            jars.append(Jar(*words))
        elif words:
            raise SetupError(f"{LOCK.name}: expected group, artifact, version, sha256, got {line}")
    return sections


def place(
    jars: Sequence[Jar], folder: Path, shelf: Path, site: Runner, java: str, *, ivy: Path | None = None
) -> None:
    """Puts jars into `folder` from the cache's `shelf`, filled first; each appears whole and right.

    `ivy`: where the Apache Ivy lies that fetches them, if not in `folder`: PySpark's own folder of jars.
    """
    missing = [jar for jar in jars if not jar.is_in(shelf)]
    shelf.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        if missing:
            site.run(
                "jars", java, *java_proxy(site.environ), *_ivy(ivy or folder, work, missing, site.environ)
            )
        for jar in missing:
            if not jar.is_in(work):
                raise SetupError(f"{jar.file_name} did not come with sha256 {jar.sha256}; repeat")
            _copy(work / jar.file_name, shelf)
    for jar in jars:
        _copy(shelf / jar.file_name, folder)


def _copy(source: Path, folder: Path) -> None:
    shutil.copyfile(source, folder / f".{source.name}.part")
    os.replace(folder / f".{source.name}.part", folder / source.name)


def _ivy(folder: Path, work: Path, jars: Sequence[Jar], environ: Mapping[str, str]) -> list[str | Path]:
    own, module = work / "settings.xml", work / "ivy.xml"
    own.write_text(_SETTINGS)
    module.write_text(_MODULE % "\n".join(_JAR % jar[:3] for jar in jars))
    program: list[str | Path] = [f"-Divy.default.ivy.user.dir={work}", "-jar", *folder.glob("ivy-*.jar")]
    settings = environ.get("SPARKML_IVY_SETTINGS") or own
    target = work / "[artifact]-[revision].[ext]"
    return [*program, "-settings", settings, "-ivy", module, "-cache", work / "cache", "-retrieve", target]


def java_proxy(environ: Mapping[str, str]) -> list[str]:
    """Java's options for the proxy that HTTPS_PROXY and NO_PROXY name: Java does not read those."""
    said = {key.lower(): value for key, value in environ.items()}
    options = []
    for scheme in ("https", "http"):
        found = re.match(r"(?:\w+://)?(?:[^@/]*@)?([^:/]+)(?::(\d+))?", said.get(f"{scheme}_proxy", ""))
        if found:
            options += [f"-D{scheme}.proxyHost={found[1]}", f"-D{scheme}.proxyPort={found[2] or '80'}"]
    hosts = [re.sub(r"^\.", "*.", host) for host in re.findall(r"[^,\s]+", said.get("no_proxy", ""))]
    return [*options, *(["-Dhttp.nonProxyHosts=" + "|".join(hosts)] if options and hosts else [])]
