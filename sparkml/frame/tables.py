"""The only reader and writer of Delta tables.

A lake is a folder, a URI or `catalog.schema`; a table of it is named by its bare name (`bronze`). A reference that
is a path, a URI or a three-part name is taken as it is.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from sparkml.errors import SparkmlError, StorageError, TableError
from sparkml.frame.schemas import PARTITIONS, SCHEMAS
from sparkml.log import get_logger

_log = get_logger(__name__)

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
    def sql(self) -> str:
        """The table as SQL names it."""
        return f"delta.`{self.identifier.replace('`', '``')}`" if self.is_path else self.identifier


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
    """The tables of one lake."""

    def __init__(self, spark: SparkSession, lake: str) -> None:
        self._spark = spark
        self.lake = lake

    def locate(self, ref: str) -> Location:
        """A bare name lies in the lake; anything else is a path, URI or catalog name of its own."""
        if "/" in ref:
            return Location(ref, is_path=True)
        if "." in ref:
            return Location(ref, is_path=False)
        if re.fullmatch(r"\w+\.\w+", self.lake):
            return Location(f"{self.lake}.{ref}", is_path=False)
        return Location(f"{self.lake.rstrip('/')}/{ref}", is_path=True)

    def version(self, ref: str) -> int | None:
        """The latest version; None where there is no table; TableError where there is something else."""
        location = self.locate(ref)
        if location.is_path and "://" not in location.identifier:
            return _local_version(ref, Path(location.identifier))
        try:
            history = self._spark.sql(f"DESCRIBE HISTORY {location.sql} LIMIT 1").select("version").collect()
        except PySparkException as error:
            if _is_missing(error):
                return None
            raise _table_error(ref, location, error) from error
        return int(history[0][0])

    def exists(self, ref: str) -> bool:
        """True where the table has at least one commit."""
        return self.version(ref) is not None

    def read(self, ref: str, version: int | None = None) -> DataFrame:
        """The table as it stood at `version` (default: the latest); TableError names what is missing."""
        location = self.locate(ref)
        latest = self.version(ref)
        if latest is None:
            raise TableError(
                f"there is no table `{ref}`",
                where=location.identifier,
                next_action="run the stage that writes it first: `sparkml plan` shows the order",
            )
        reader = self._spark.read.format("delta").option(
            "versionAsOf", latest if version is None else version
        )
        try:
            return reader.load(location.identifier) if location.is_path else reader.table(location.identifier)
        except PySparkException as error:
            raise _table_error(ref, location, error) from error

    def data_files(self, ref: str, version: int | None = None, where: str | None = None) -> list[DataFile]:
        """The data files of a pinned version in path order, with bytes and rows."""
        frame = self.read(ref, version)
        if where is not None:
            frame = frame.where(where)
        columns = frame.select("_metadata.file_path", "_metadata.file_size")
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
        self, df: DataFrame, ref: str, predicate: str, *, commit_info: Mapping[str, str] | None = None
    ) -> Written:
        """Replace the rows that match `predicate` in one commit; every new row must match it."""
        if not self.exists(ref):
            return self.append(df, ref, commit_info=commit_info)
        return self._write(df, ref, "overwrite", {"replaceWhere": predicate}, (), commit_info)

    def append(self, df: DataFrame, ref: str, *, commit_info: Mapping[str, str] | None = None) -> Written:
        """Add rows in one commit."""
        return self._write(df, ref, "append", {}, PARTITIONS.get(ref, ()), commit_info)

    def _write(
        self,
        df: DataFrame,
        ref: str,
        mode: str,
        options: Mapping[str, str],
        partition_by: Sequence[str],
        commit_info: Mapping[str, str] | None,
    ) -> Written:
        location = self.locate(ref)
        self.version(ref)  # a folder that is no Delta table is an error before any work is done
        mark = json.dumps({**(commit_info or {}), "commit": uuid.uuid4().hex}, sort_keys=True)
        writer = conform(df, ref).write.format("delta").mode(mode).option("userMetadata", mark)
        for key, value in options.items():
            writer = writer.option(key, value)
        if partition_by:
            writer = writer.partitionBy(*partition_by)
        try:
            if location.is_path:
                writer.save(location.identifier)
            else:
                writer.saveAsTable(location.identifier)
        except (PySparkException, Py4JError) as error:
            raise write_error(ref, location.identifier, error) from error
        return self._commit_of(ref, location, mark)

    def _commit_of(self, ref: str, location: Location, mark: str) -> Written:
        """Our own commit and its metrics: found by its mark, since another writer may have come after it."""
        if location.is_path and "://" not in location.identifier:
            commit = _local_commit(Path(location.identifier), mark)
        else:
            history = self._spark.sql(f"DESCRIBE HISTORY {location.sql} LIMIT 5")
            ours = history.where(F.col("userMetadata") == mark).select("version", "operationMetrics")
            commit = next(((row[0], row[1] or {}) for row in ours.collect()), None)
        if commit is None:  # Delta skips the commit where nothing came and there was nothing to replace
            return Written(ref, self.version(ref) or 0, 0, 0)
        version, metrics = commit
        rows = int(metrics.get("numOutputRows", 0)) - int(metrics.get("numCopiedRows", 0))
        written = Written(ref, int(version), rows, int(metrics.get("numOutputBytes", 0)))
        _log.info("wrote %s version %d: %d rows, %d bytes", ref, written.version, written.rows, written.bytes)
        return written


def conform(df: DataFrame, ref: str) -> DataFrame:
    """Order the columns as the contract has them and refuse missing or differently typed ones; extras stay."""
    contract = SCHEMAS.get(ref)
    if contract is None:
        return df
    actual = {field.name: field.dataType for field in df.schema.fields}
    for field in contract.fields:
        found = actual.get(field.name)
        free = isinstance(field.dataType, StructType) and not field.dataType.fields
        wrong = found is not None and found.simpleString() != field.dataType.simpleString()
        if found is None or (not isinstance(found, StructType) if free else wrong):
            raise TableError(
                f"column `{field.name}` does not fit the contract of table `{ref}`",
                got="no such column" if found is None else found.simpleString(),
                expected="struct" if free else field.dataType.simpleString(),
            )
    named = [field.name for field in contract.fields if field.name != "run_id"]
    extras = [name for name in actual if name not in named and name != "run_id"]
    last = ["run_id"] if "run_id" in actual else []
    if ref == "_runs":
        return df.select(*[field.name for field in contract.fields])
    return df.select(*named, *extras, *last)


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


def _local_version(ref: str, folder: Path) -> int | None:
    """Latest commit from the names in `_delta_log`, which costs no Spark job."""
    if not folder.exists():
        return None
    log = folder / "_delta_log"
    versions = (
        [int(entry.stem) for entry in log.glob("*.json") if entry.stem.isdigit()] if log.is_dir() else []
    )
    if versions:
        return max(versions)
    if folder.is_dir() and not any(folder.iterdir()):
        return None
    if log.is_dir() and not any(entry.name != "_delta_log" for entry in folder.iterdir()):
        return None  # a first commit that died: only the empty log folder is there
    if log.is_dir() and all(
        entry.name == "_delta_log" or entry.suffix == ".parquet" for entry in folder.iterdir()
    ):
        return None  # a first commit that died after its data files; the next write overwrites nothing
    raise TableError(
        f"`{ref}` is not a Delta table",
        where=str(folder),
        got="a folder without `_delta_log`" if folder.is_dir() else "a file",
        expected="a Delta table, or nothing",
        next_action="move it away, or choose another lake= or table name",
    )


def _local_commit(folder: Path, mark: str) -> tuple[int, dict[str, str]] | None:
    """Version and write metrics of the commit with this mark, read from the log without a Spark job."""
    for commit in sorted((folder / "_delta_log").glob("*.json"), reverse=True):
        for line in commit.read_text(encoding="utf-8").splitlines():
            info = json.loads(line).get("commitInfo")
            if info is not None and info.get("userMetadata") == mark:
                return int(commit.stem), info.get("operationMetrics", {})
    return None


def _is_missing(error: PySparkException) -> bool:
    condition = error.getCondition() or ""
    return condition in {
        "DELTA_MISSING_DELTA_TABLE",
        "DELTA_TABLE_NOT_FOUND",
        "DELTA_PATH_DOES_NOT_EXIST",
        "TABLE_OR_VIEW_NOT_FOUND",
        "PATH_NOT_FOUND",
    }


def _table_error(ref: str, location: Location, error: PySparkException) -> SparkmlError:
    return TableError(f"cannot read table `{ref}`", where=location.identifier, got=first_line(error))
