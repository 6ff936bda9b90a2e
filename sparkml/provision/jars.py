"""The Delta jars: exact files with known hashes, fetched by the Apache Ivy that PySpark ships.

Delta's published list drags in 33 jars, among them older Hadoop, Parquet and Jackson than Spark's own.
Reading, writing, merging, time travel, history, optimising, cloning and streaming need these two;
`delta-kernel-*` and `unitycatalog-*` serve tables of a Unity Catalog only, where the platform brings its own.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sparkml.errors import MissingToolError, SparkmlError
from sparkml.provision.cache import cache_root, jars_folder, log_file
from sparkml.provision.commands import run
from sparkml.provision.registry import java_proxy
from sparkml.provision.site import remove_leftovers, sha256_file

DELTA_VERSION = "4.4.0"
SETTINGS_VARIABLE = "SPARKML_IVY_SETTINGS"


@dataclass(frozen=True)
class Jar:
    """One file of a Maven repository: its coordinates, bytes and hash."""

    organisation: str
    artifact: str
    revision: str
    size_bytes: int
    sha256: str

    @property
    def file_name(self) -> str:
        return f"{self.artifact}-{self.revision}.jar"


JARS = (
    Jar(
        "io.delta",
        "delta-spark_4.2_2.13",
        "4.4.0",
        9_515_916,
        "27d4fd8b1f879535c573ed1c718177d6a27f24d3e626ba02e216369725721ead",
    ),
    Jar(
        "io.delta",
        "delta-storage",
        "4.4.0",
        113_863,
        "c46735481fa8e326b0957be02b4420cbcab4b325bb08009b7f2045a95133f1cc",
    ),
)


def delta_jars() -> list[Path]:
    """The Delta jars of this machine's cache, for `spark.jars`.

    Raises `MissingToolError`, naming the set-up, when one is missing or has another size than it must.
    """
    folder = jars_folder(cache_root(), DELTA_VERSION)
    wrong = [jar.file_name for jar in JARS if _size(folder / jar.file_name) != jar.size_bytes]
    if wrong:
        raise MissingToolError(
            "the Delta jars are not there, or not whole",
            where=str(folder),
            got=f"missing or damaged: {', '.join(wrong)}",
            next_action="make setup (without a checkout: python -m sparkml.provision jars)",
        )
    return [folder / jar.file_name for jar in JARS]


def wrong_jars(folder: Path, jars: Sequence[Jar] = JARS) -> list[Jar]:
    """The jars that `folder` lacks or has with another content."""
    return [
        jar
        for jar in jars
        if _size(folder / jar.file_name) != jar.size_bytes
        or sha256_file(folder / jar.file_name) != jar.sha256
    ]


def fetch_jars(
    *,
    cache: Path,
    java: str,
    ivy_jar: Path,
    environ: Mapping[str, str],
    keep: Sequence[int] = (),
    jars: Sequence[Jar] = JARS,
) -> None:
    """Puts the jars that are missing or wrong into the cache; a file appears there whole and right."""
    folder = jars_folder(cache, DELTA_VERSION)
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder.parent.glob(".fetching-*"))
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder.parent) as name:
        work = Path(name)
        missing = wrong_jars(folder, jars)
        run(
            _ivy_command(java, ivy_jar, work, missing, environ),
            log=log_file(cache, "jars"),
            env=environ,
            cwd=work,
            keep=keep,
        )
        place_jars(work / "lib", folder, missing)


def place_jars(source: Path, folder: Path, jars: Sequence[Jar]) -> None:
    """Moves downloaded jars to their place; raises `SparkmlError` for one that is not the file it must be."""
    for jar in jars:
        path = source / jar.file_name
        if not path.exists():
            raise SparkmlError(
                "a jar was not downloaded", got=f"no {jar.file_name}", next_action="repeat make setup"
            )
        found = sha256_file(path)
        if found != jar.sha256:
            raise SparkmlError(
                "a download is not the file whose hash the project holds",
                got=f"{jar.file_name} with sha256 {found}",
                expected=f"sha256 {jar.sha256}",
                next_action=f"repeat; if it stays, look at your repository ({SETTINGS_VARIABLE})",
            )
        os.replace(path, folder / jar.file_name)


def ivy_module(jars: Sequence[Jar]) -> str:
    """The Ivy file that asks for exactly these jars and nothing that they depend on."""
    wanted = "\n".join(
        f'    <dependency org="{jar.organisation}" name="{jar.artifact}" rev="{jar.revision}" '
        'conf="default->master" transitive="false"/>'
        for jar in jars
    )
    return (
        '<ivy-module version="2.0">\n  <info organisation="sparkml" module="delta-jars"/>\n'
        '  <configurations><conf name="default"/></configurations>\n'
        f"  <dependencies>\n{wanted}\n  </dependencies>\n</ivy-module>\n"
    )


def _ivy_command(
    java: str, ivy_jar: Path, work: Path, jars: Sequence[Jar], environ: Mapping[str, str]
) -> list[str | Path]:
    module = work / "ivy.xml"
    module.write_text(ivy_module(jars), encoding="utf-8")
    settings = environ.get(SETTINGS_VARIABLE)
    if settings and not Path(settings).is_file():
        raise SparkmlError(
            f"{SETTINGS_VARIABLE} names no file", got=settings, next_action="correct it or unset it"
        )
    return [
        java,
        *java_proxy(environ),
        f"-Divy.default.ivy.user.dir={work / 'user'}",
        *("-jar", ivy_jar, "-ivy", module, "-cache", work / "cache"),
        *(("-settings", settings) if settings else ()),
        *("-retrieve", work / "lib" / "[artifact]-[revision].[ext]"),
    ]


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1
