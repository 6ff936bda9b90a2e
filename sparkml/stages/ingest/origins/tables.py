"""Tables: a Delta table, of any lake or catalog, and what a database answers."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException

from sparkml.errors import InputError
from sparkml.frame import storage
from sparkml.frame.delta import FolderTable
from sparkml.frame.ledger import utc_now
from sparkml.frame.tables import first_line
from sparkml.sources.jdbc import read_database
from sparkml.sources.records import ReadOptions
from sparkml.sources.row_records import rows_of_frame
from sparkml.stages.ingest.origins.origin import Origin, Part, Reading, reading_of_table

if TYPE_CHECKING:
    from sparkml.frame.run import StageRun


@dataclass(frozen=True)
class DeltaTable(Origin):
    """A Delta table: only rows that were added are read, where none has changed or gone since the last time."""

    @property
    def options(self) -> ReadOptions:
        return self.config.read_options(self._place, self._place.rstrip("/").rpartition("/")[2])

    @property
    def _place(self) -> str:
        """A path or URI (a bare name is a folder), or catalog.schema.table."""
        given = self.config.source.path or ""
        return given if storage.is_catalog(given) else storage.normalise(given)

    def state(self) -> str:
        if storage.is_catalog(self._place):
            return utc_now().isoformat()  # without Spark nobody knows
        log = FolderTable(self._place, self._place)
        version = log.version()
        return f"{self._place} {'' if version is None else log.table_id()} {version}"

    def parts(self, job: StageRun) -> tuple[Part, ...]:
        seen = utc_now()
        version = job.tables.version(self._place)
        if version is None:
            raise InputError(
                "there is no Delta table at the source path",
                where=storage.redacted(self._place),
                next_action="check ingest.source.path",
            )
        etag = job.tables.log(self._place).table_id()
        return (Part(self._place, modified=seen, version=version, etag=etag),)

    def read(self, job: StageRun, parts: Collection[Part] | None, earlier: Mapping[str, Part]) -> Reading:
        (part,) = parts or self.parts(job)
        records_of = partial(rows_of_frame, uri=self._place, options=self.options)
        return reading_of_table(job, self._place, part, earlier, records_of)


@dataclass(frozen=True)
class Database(Origin):
    """What a database answers, over JDBC: all of it, each time."""

    @property
    def options(self) -> ReadOptions:
        return self.config.read_options(self._uri, self.config.source.jdbc.table or "query")

    @property
    def _uri(self) -> str:
        jdbc = self.config.source.jdbc
        return f"{storage.redacted(jdbc.url or '').partition('?')[0]}/{jdbc.table or 'query'}"

    def state(self) -> str:
        return utc_now().isoformat()  # only the database knows, and only when it is asked

    def parts(self, job: StageRun) -> tuple[Part, ...]:
        return (Part(self._uri),)

    def read(self, job: StageRun, parts: Collection[Part] | None, earlier: Mapping[str, Part]) -> Reading:
        try:
            frame = read_database(job.spark, self.config.source.jdbc)
        except (PySparkException, Py4JError) as error:
            raise InputError(
                "the database cannot be read",
                where=self._uri,
                got=storage.redacted(_cause(error)),
                next_action="check ingest.source.jdbc",
            ) from error
        return Reading(rows_of_frame(frame, self._uri, self.options), 0, {self._uri})


def _cause(error: Exception) -> str:
    """What the driver said, where it did: the last line that begins a cause."""
    causes = re.findall(r"(?:Caused by: |^: )(.+)", str(error), re.MULTILINE)
    said: str = causes[-1] if causes else first_line(error)
    return said[:300]
