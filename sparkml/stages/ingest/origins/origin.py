"""What origins have in common: they say what there is, part by part, and read parts to rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from sparkml.frame.changes import CHANGED_ID, changed_rows
from sparkml.sources.records import ReadOptions

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from sparkml.frame.run import StageRun
    from sparkml.stages.ingest.config import IngestConfig


class Part(NamedTuple):
    """A file, a table, a database: what it was when it was read. Another size, time or version: another content."""

    source: str  # its URI, as in `bronze.source`
    size: int | None = None  # bytes
    modified: datetime | None = None
    version: int | None = None  # of a Delta table; `modified` is when it was looked at
    etag: str | None = None  # what tells it from another one of its name
    records: int = 0  # that were read of it: documents and rejects

    def is_as(self, earlier: Part) -> bool:
        """Whether nothing has happened to it since."""
        if self.version is not None:
            return (self.version, self.etag) == (earlier.version, earlier.etag)
        return self.modified is not None and self._replace(records=0) == earlier._replace(records=0)


@dataclass(frozen=True)
class Reading:
    """Rows as `documents.ROW_SCHEMA` says, and how much is read for them.

    `renewed`: the parts whose earlier rows go; to the rows of others these are added. Every row of a part that is
    renewed is among them. None: all parts.
    """

    rows: DataFrame
    bytes: int = 0
    renewed: Collection[str] | None = None


@dataclass(frozen=True)
class Origin(ABC):
    """A place to read."""

    config: IngestConfig

    @property
    @abstractmethod
    def options(self) -> ReadOptions:
        """How its records are read."""

    @property
    def gives_ids(self) -> bool:
        """Whether its records name their ids, so that one may be given twice."""
        return self.options.id_field is not None

    @property
    def newest_wins(self) -> bool:
        """Of records with one id the last is the document, else the first."""
        return False

    @abstractmethod
    def state(self) -> str:
        """Text that changes when what there is to read does. Needs no Spark."""

    @abstractmethod
    def parts(self, job: StageRun) -> tuple[Part, ...] | None:
        """What there is now; None where it is not known part by part, so that all of it is read each time."""

    @abstractmethod
    def read(self, job: StageRun, parts: Collection[Part] | None, earlier: Mapping[str, Part]) -> Reading:
        """The rows of parts (None: of all that there is). `earlier`: what they were when they were last read."""

    def metrics(self) -> Mapping[str, float]:
        """What a run says of it."""
        return {}


def reading_of_table(
    job: StageRun,
    ref: str,
    part: Part,
    earlier: Mapping[str, Part],
    records_of: Callable[[DataFrame], DataFrame],
) -> Reading:
    """Of a Delta table the rows that came since it was read; all, where others changed or went, or it is not known."""
    added = _added_since(job, ref, part, earlier.get(part.source))
    if added is not None:
        return Reading(records_of(added), renewed=())
    whole, size = job.tables.read(ref, part.version), job.tables.log(ref).size(part.version or 0)
    return Reading(records_of(whole), size, {part.source})


def _added_since(job: StageRun, ref: str, part: Part, earlier: Part | None) -> DataFrame | None:
    if earlier is None or part.version is None or earlier.version is None or earlier.modified is None:
        return None
    tables = job.tables
    key = tables.read(ref, part.version).columns[0]
    found = changed_rows(
        tables, ref, earlier.version, part.version, key=key, seen=earlier.modified, unfinished=()
    )
    return found.rows.drop(CHANGED_ID) if found is not None and found.only_added else None
