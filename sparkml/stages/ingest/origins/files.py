"""Files below a folder, and those of the installed environment."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from sparkml.errors import InputError
from sparkml.frame import storage
from sparkml.log import get_logger
from sparkml.sources.environment import EnvironmentFile, environment_files, environment_state
from sparkml.sources.formats.table import EMBEDDED, check_needs
from sparkml.sources.listing import Listing, SourceFile, list_source
from sparkml.sources.records import ReadOptions, Split
from sparkml.sources.rows import rows_of
from sparkml.sources.splits import plan_environment, plan_files, sample_files
from sparkml.stages.ingest.origins.origin import Origin, Part, Reading

if TYPE_CHECKING:
    from sparkml.frame.run import StageRun

_log = get_logger(__name__)
_FileT = TypeVar("_FileT", EnvironmentFile, SourceFile)


@dataclass(frozen=True)
class Files(Origin):
    """A file, a folder or a glob."""

    @property
    def options(self) -> ReadOptions:
        root = self._listing.root
        return self.config.read_options(root, root.rstrip("/").rpartition("/")[2])

    @cached_property
    def _listing(self) -> Listing:
        return list_source(self.config.source.path or "", self.config.source.format)

    @cached_property
    def _files(self) -> list[SourceFile]:
        return _sample(self._listing.files, self)

    def state(self) -> str:
        lines = (f"{file.relative}\t{file.size}\t{file.modified}" for file in self._listing.files)
        return "\n".join([self._listing.root, *lines])

    def parts(self, job: StageRun) -> tuple[Part, ...]:
        return tuple(
            Part(file.uri, file.size, datetime.fromtimestamp(file.modified, timezone.utc))
            for file in self._files
        )

    def read(self, job: StageRun, parts: Collection[Part] | None, earlier: Mapping[str, Part]) -> Reading:
        wanted = None if parts is None else {part.source for part in parts}
        files = [file for file in self._files if wanted is None or file.uri in wanted]
        splits = self.splits(files)
        size = sum(file.size for file in files)
        _log.info("%d files, %d bytes, %d splits", len(files), size, len(splits))
        return Reading(rows_of(job.spark, splits, self.options), size, wanted)

    def splits(self, files: Collection[SourceFile] | None = None) -> list[Split]:
        """Of files (None: of all), what the tasks read; MissingToolError where a format lacks its library."""
        check_needs({file.format for file in (self._files if files is None else files)})
        filesystem = storage.filesystem_of(self._listing.root)[0]
        return plan_files(filesystem, list(self._files if files is None else files), self.config.split_bytes)

    def metrics(self) -> Mapping[str, float]:
        return {"files": len(self._files), "files_ignored": self._listing.ignored}


@dataclass(frozen=True)
class Environment(Origin):
    """The embedded corpus."""

    @property
    def options(self) -> ReadOptions:
        return self.config.read_options("/", EMBEDDED)

    @cached_property
    def _files(self) -> list[EnvironmentFile]:
        return _sample(list(environment_files(self.config.source.path)), self)

    def state(self) -> str:
        return environment_state(self.config.source.path)

    def parts(self, job: StageRun) -> None:
        return None

    def read(self, job: StageRun, parts: Collection[Part] | None, earlier: Mapping[str, Part]) -> Reading:
        size = sum(file.size for file in self._files)
        return Reading(rows_of(job.spark, self.splits(), self.options), size)

    def splits(self) -> list[Split]:
        """What the tasks read."""
        return plan_environment(self._files, self.config.split_bytes)

    def metrics(self) -> Mapping[str, float]:
        return {"files": len(self._files), "files_ignored": 0}


def _sample(files: Collection[_FileT], origin: Origin) -> list[_FileT]:
    source = origin.config.source
    found = sample_files(files, source.sample_fraction, source.max_files)
    if not found:
        raise InputError(
            "the sample of the source holds no file",
            where=source.path or EMBEDDED,
            got=f"sample_fraction={source.sample_fraction}",
            next_action="raise ingest.source.sample_fraction",
        )
    return found
