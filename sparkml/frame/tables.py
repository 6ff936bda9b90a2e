"""The only reader and writer of Delta tables through Spark; what needs no Spark comes from `frame.delta`.

A lake is a folder, a URI or `catalog.schema`; a table of it is named by its bare name (`bronze`). A reference that
is a path, a URI or a three-part name is taken as it is.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from sparkml.errors import SparkmlError, StorageError, StreamError, TableError
from sparkml.frame import storage
from sparkml.frame.delta import FEED, RETENTION, FolderTable, TableLog, missing_table
from sparkml.frame.effects import effect
from sparkml.frame.schemas import ANY_STRUCT, FOLLOWED, PARTITIONS, SCHEMAS
from sparkml.frame.spark_schemas import spark_schema, with_optional
from sparkml.log import get_logger

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_log = get_logger(__name__)

# A table that an earlier version of the project has made may lack columns of the contract.
_NEW_COLUMNS = {"mergeSchema": "true"}
_STORAGE_FAULTS = (
    ("No space left on device", "the disk is full", "free some space, then run the same command again"),
    ("Disk quota exceeded", "the disk quota is used up", "free some space, then run the same command again"),
    (
        "Read-only file system",
        "the lake lies on a read-only file system",
        "choose another lake= or remount it",
    ),
    ("Permission denied", "the lake cannot be written", "check the owner and the rights of the folder"),
    ("Mkdirs failed", "the lake cannot be written", "check the owner and the rights of the folder"),
    ("AccessDenied", "the lake cannot be written", "check the credentials for the lake"),
)


@dataclass(frozen=True)
class Location:
    """Where a table lies: a path or URI (`is_path`), or a catalog name."""

    identifier: str
    is_path: bool

    @property
    def spark(self) -> str:
        """As Spark's reader and writer take it: the same place as Python sees, whatever the default file system."""
        return storage.spark_uri(self.identifier) if self.is_path else storage.quoted(self.identifier)


@dataclass(frozen=True)
class Written:
    """What a commit wrote, from Delta's own write metrics."""

    table: str
    version: int
    rows: int
    bytes: int


@dataclass(frozen=True)
class DataFile:
    """A data file of a pinned version: its URI, bytes and rows."""

    path: str
    bytes: int
    rows: int


class Tables:
    """The tables of one lake. `session` gives the Spark session when one is needed: small tables need none."""

    def __init__(self, lake: str, session: Callable[[], SparkSession]) -> None:
        self.lake = lake
        self._session = session

    @property
    def spark(self) -> SparkSession:
        """The session, started at its first use."""
        return self._session()

    def locate(self, ref: str) -> Location:
        """A bare name lies in the lake; anything else is a path, URI or catalog name of its own."""
        if "/" in ref:
            return Location(storage.normalise(ref), is_path=True)
        if "." in ref:
            return Location(ref, is_path=False)
        if storage.is_catalog(self.lake):
            return Location(f"{self.lake}.{ref}", is_path=False)
        return Location(storage.join(self.lake, ref), is_path=True)

    def log(self, ref: str) -> TableLog:
        """The versions, commits and sizes of a table, and its rows where they are few."""
        location = self.locate(ref)
        if location.is_path:
            return FolderTable(ref, location.identifier)
        from sparkml.frame.catalog import CatalogTable

        return CatalogTable(ref, location.spark, self.spark)

    def version(self, ref: str) -> int | None:
        """The latest version; None where there is no table; TableError where there is something else."""
        return self.log(ref).version()

    def exists(self, ref: str) -> bool:
        """True where the table has at least one commit."""
        return self.version(ref) is not None

    def published(self, ref: str, unfinished: Collection[str]) -> int | None:
        """The latest version in which no failed or dead run has a part; None where there is none.

        `unfinished` are the ids of those runs. What other programs add counts, unless it stands on such a version.
        What they only arrange anew (OPTIMIZE) makes no new version of a table of ours, whose old files stay. Of their
        own tables it does: VACUUM may soon remove what was there before.
        """
        commits = self.log(ref).commits()
        waiting: int | None = None  # newest commits of other programs: as good as what they stand on
        arranged: int | None = None
        for commit in commits:
            if commit.run_id in unfinished:
                waiting = arranged = None
            elif commit.keeps_rows:
                arranged = arranged or commit.version
            elif commit.run_id is not None:
                return commit.version if waiting is None else waiting
            else:
                waiting = waiting or arranged or commit.version
                if commit.replaces_all or commit.version == 0:
                    return waiting
        return arranged if waiting is None else waiting

    def read(self, ref: str, version: int | None = None) -> DataFrame:
        """The table as it stood at `version` (default: the latest); TableError names what is missing."""
        from pyspark.errors import PySparkException

        location = self.locate(ref)
        latest = self.version(ref)
        if latest is None:
            raise missing_table(ref, location.identifier)
        reader = self.spark.read.format("delta").option("versionAsOf", latest if version is None else version)
        try:
            return reader.load(location.spark) if location.is_path else reader.table(location.spark)
        except PySparkException as error:
            raise TableError(
                f"cannot read table `{ref}`", where=location.identifier, got=first_line(error)
            ) from error

    def data_files(self, ref: str, version: int | None = None) -> list[DataFile]:
        """The data files of a pinned version in path order, with bytes and rows."""
        from pyspark.sql import functions as F

        columns = self.read(ref, version).select("_metadata.file_path", "_metadata.file_size")
        rows = columns.groupBy("file_path", "file_size").agg(F.count(F.lit(1)).alias("rows")).collect()
        return sorted(
            (DataFile(row["file_path"], row["file_size"], row["rows"]) for row in rows), key=lambda f: f.path
        )

    def overwrite(
        self,
        df: DataFrame,
        ref: str,
        *,
        partition_by: Sequence[str] = (),
        options: Mapping[str, str] | None = None,
        commit_info: Mapping[str, str] | None = None,
    ) -> Written:
        """Replace the whole table, its schema included, in one commit."""
        merged = {"overwriteSchema": "true", **(options or {})}
        return self._write(df, ref, "overwrite", merged, partition_by, commit_info)

    def replace_slice(
        self,
        df: DataFrame,
        ref: str,
        where: Mapping[str, object],
        *,
        commit_info: Mapping[str, str] | None = None,
    ) -> Written:
        """Replace the rows with the values of `where` in one commit; every new row must have them."""
        if not self.log(ref).may_have(where):
            return self.append(df, ref, commit_info=commit_info)
        options = {"replaceWhere": slice_of(**where), **_NEW_COLUMNS}
        return self._write(df, ref, "overwrite", options, (), commit_info)

    def append(self, df: DataFrame, ref: str, *, commit_info: Mapping[str, str] | None = None) -> Written:
        """Add rows in one commit."""
        partitions = PARTITIONS.get(contract_of(ref), ())
        return self._write(df, ref, "append", _NEW_COLUMNS, partitions, commit_info)

    def _write(
        self,
        df: DataFrame,
        ref: str,
        mode: str,
        options: Mapping[str, str],
        partition_by: Sequence[str],
        commit_info: Mapping[str, str] | None,
    ) -> Written:
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException

        location = self.locate(ref)
        # A folder that is not a Delta table is an error before any work is done.
        first = self.version(ref) is None
        mark = json.dumps({**(commit_info or {}), "commit": uuid.uuid4().hex}, sort_keys=True)
        writer = (
            conform(df, ref).write.format("delta").mode(mode).option("userMetadata", mark).options(**options)
        )
        if first:
            writer = writer.options(**RETENTION, **(FEED if contract_of(ref) in FOLLOWED else {}))
        if partition_by:
            writer = writer.partitionBy(*partition_by)
        effect(f"table about to be written: {ref}")
        try:
            if location.is_path:
                writer.save(location.spark)
            else:
                from sparkml.frame.catalog import save_as_table

                save_as_table(writer, location.spark, mark, self.spark)
        except (PySparkException, Py4JError) as error:
            raise write_error(ref, location.identifier, error) from error
        effect(f"table committed: {ref}")
        return self.commit_of(ref, mark)

    def land(self, stream: DataFrame, ref: str, checkpoint: str) -> None:
        """Append what a stream has now, each of its batches once: `checkpoint` says how far it is. StreamError."""
        from pyspark.errors import PySparkException

        if not self.exists(ref):
            self.append(self.spark.createDataFrame([], stream.schema), ref)
        location = self.locate(ref)
        writer = stream.writeStream.format("delta").outputMode("append").trigger(availableNow=True)
        writer = writer.option("checkpointLocation", storage.spark_uri(checkpoint))
        query = writer.start(location.spark) if location.is_path else writer.toTable(location.spark)
        try:
            query.awaitTermination()
        except PySparkException as error:
            raise StreamError(
                f"what has come could not be landed in `{ref}`",
                where=storage.redacted(checkpoint),
                got=storage.redacted(first_line(error)[:500]),
                next_action="repeat the step: it goes on with the batch before which it stopped",
            ) from error
        finally:
            query.stop()

    def commit_of(self, ref: str, mark: str) -> Written:
        """Our own commit and its metrics: found by its mark, since another writer may have come after it."""
        ours = next((commit for commit in self.log(ref).commits() if commit.mark == mark), None)
        if ours is None:  # Delta skips a commit that would neither add nor replace a row
            return Written(ref, self.version(ref) or 0, 0, 0)
        _log.info("wrote %s version %d: %d rows, %d bytes", ref, ours.version, ours.rows, ours.bytes)
        return Written(ref, ours.version, ours.rows, ours.bytes)


def conform(df: DataFrame, ref: str) -> DataFrame:
    """Order the columns as the contract has them and refuse missing or differently typed ones; extras stay.

    Those of `schemas.OPTIONAL` may be missing: they are null.
    """
    contract = SCHEMAS.get(contract_of(ref))
    if contract is None:
        return df
    df = with_optional(df, contract_of(ref))
    actual = {field.name: field.dataType.simpleString() for field in df.schema.fields}
    for field, column in zip(contract, spark_schema(contract).fields, strict=True):
        found, free = actual.get(field.name), field.type == ANY_STRUCT
        fits = found is not None and (
            found.startswith("struct<") if free else found == column.dataType.simpleString()
        )
        if not fits:
            raise TableError(
                f"column `{field.name}` does not fit the contract of table `{ref}`",
                got=found or "no such column",
                expected="struct" if free else column.dataType.simpleString(),
            )
    named = [name for name in contract.names if name != "run_id"]
    extras = [name for name in actual if name not in named and name != "run_id"]
    return df.select(*named, *extras, *(["run_id"] if "run_id" in actual else []))


def contract_of(ref: str) -> str:
    """The bare name of a table, wherever it lies: `/data/lake/scores` and `main.corpus.scores` are `scores`."""
    return ref.rstrip("/").rpartition("/")[2].rpartition(".")[2]


def sql_text(value: object) -> str:
    """A value as a literal of SQL: quotes and backslashes of a name change no predicate."""
    if isinstance(value, int):
        return str(value)
    return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"


def slice_of(**keys: object) -> str:
    """The predicate of the rows whose columns have these values."""
    return " AND ".join(f"{name} = {sql_text(value)}" for name, value in keys.items())


def arrow_rows(schema: pa.Schema, rows: Sequence[Mapping[str, object]]) -> pa.Table:
    """Rows as Arrow, in the columns of a schema; a value that is not given is null."""
    return pa.Table.from_pylist(
        [{name: row.get(name) for name in schema.names} for row in rows], schema=schema
    )


def write_error(ref: str, where: str, error: Exception) -> SparkmlError:
    """The storage fault behind a failed write, or the first line of what Spark said."""
    text = str(error)
    for mark, what, next_action in _STORAGE_FAULTS:
        if mark in text:
            return StorageError(
                f"cannot write table `{ref}`: {what}", where=where, got=mark, next_action=next_action
            )
    return TableError(f"writing table `{ref}` failed", where=where, got=first_line(error))


def first_line(error: BaseException) -> str:
    """What a Spark error says in a line: our own error from a Python worker, else its first line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    ours = [line for line in lines if line.startswith("sparkml.errors.")]
    return (ours or lines or [type(error).__name__])[0]
