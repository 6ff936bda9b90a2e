"""Tables of a catalog (`catalog.schema`): the same questions as of a folder, answered by Spark."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, DataFrameWriter, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType

from sparkml.errors import ConfigError, TableError
from sparkml.frame.commits import Commit, commit_of
from sparkml.frame.delta import ANYWHERE, RETENTION, missing_table
from sparkml.frame.effects import effect
from sparkml.frame.merging import marked
from sparkml.frame.tables import slice_of, write_error

_MISSING = {
    "DELTA_MISSING_DELTA_TABLE",
    "DELTA_TABLE_NOT_FOUND",
    "DELTA_PATH_DOES_NOT_EXIST",
    "TABLE_OR_VIEW_NOT_FOUND",
    "PATH_NOT_FOUND",
    "SCHEMA_NOT_FOUND",
}
_MOST_COMMITS = 100


class CatalogTable:
    """A table that a metastore places."""

    def __init__(self, ref: str, name: str, spark: SparkSession) -> None:
        """`name` is quoted as SQL takes it."""
        self._ref = ref
        self._name = name
        self._spark = spark

    def version(self) -> int | None:
        """See `TableLog.version`."""
        newest = self._history(1)
        return int(newest[0]["version"]) if newest else None

    def table_id(self) -> str:
        """See `TableLog.table_id`."""
        return str(self._spark.sql(f"DESCRIBE DETAIL {self._name}").select("id").collect()[0][0])

    def commits(self) -> Iterator[Commit]:
        """See `TableLog.commits`."""
        yield from map(commit_of, self._history(_MOST_COMMITS))

    def count(self, version: int) -> int:
        """See `TableLog.count`: Delta answers from its statistics."""
        return self._frame(version).count()

    def size(self, version: int) -> int:
        """See `TableLog.size`."""
        files = self._frame(version).select("_metadata.file_path", "_metadata.file_size").distinct()
        return int(files.agg(F.coalesce(F.sum("file_size"), F.lit(0))).collect()[0][0])

    def has_same_slice(self, old: int, new: int, where: Mapping[str, str]) -> bool:
        """See `TableLog.has_same_slice`: here it is told by the rows themselves."""
        before, after = (self._files(version, where) for version in (old, new))
        return before == after if set(where) <= set(self._frame(new).columns) else before <= after

    def may_have(self, where: Mapping[str, object], version: int | None = None) -> bool:
        """See `TableLog.may_have`: to look would cost what replacing does."""
        return self.version() is not None

    def added_files(self, old: int, new: int) -> list[str] | None:
        """See `TableLog.added_files`: the folder is not known here."""
        return None

    def _files(self, version: int, where: Mapping[str, str]) -> set[str]:
        frame = self._frame(version)
        known = {name: value for name, value in where.items() if name in frame.columns}
        rows = frame.where(slice_of(**known)) if known else frame
        return {row[0] for row in rows.select("_metadata.file_path").distinct().collect()}

    def read(self, version: int | None = None) -> pa.Table:
        """See `TableLog.read`."""
        if self.version() is None:
            raise missing_table(self._ref, self._name)
        return self._frame(version).toArrow()

    def find(
        self, column: str, value: str, version: int, limit: int, where: Mapping[str, int] = ANYWHERE
    ) -> list[dict[str, Any]]:
        """See `TableLog.find`."""
        frame = self._frame(version)
        if column not in frame.columns:
            return []
        is_list = isinstance(frame.schema[column].dataType, ArrayType)
        holds = F.array_contains(column, value) if is_list else F.col(column) == value
        for name in where.keys() & set(frame.columns):
            holds = holds & (F.col(name) == where[name])
        return [row.asDict(recursive=True) for row in frame.where(holds).limit(limit).collect()]

    def counts(self, column: str, version: int, where: Mapping[str, str]) -> dict[str, int]:
        """See `TableLog.counts`."""
        counted = self._frame(version).where(slice_of(**where)).groupBy(column).count().collect()
        return {row[column]: row["count"] for row in sorted(counted)}

    def append(self, rows: pa.Table, info: Mapping[str, str]) -> int:
        """See `TableLog.append`."""
        return self._write(rows, info, "append", {"mergeSchema": "true"})

    def replace(self, rows: pa.Table, keys: Sequence[Mapping[str, object]], info: Mapping[str, str]) -> int:
        """See `TableLog.replace`."""
        if self.version() is None:
            return self.append(rows, info)
        mine = " OR ".join(slice_of(**key) for key in keys)
        return self._write(rows, info, "overwrite", {"replaceWhere": mine})

    def _write(self, rows: pa.Table, info: Mapping[str, str], mode: str, options: Mapping[str, str]) -> int:
        effect(f"rows about to be written: {self._ref}")
        frame = self._spark.createDataFrame(rows).coalesce(1)
        writer = frame.write.format("delta").mode(mode).options(**options)
        if self.version() is None:
            writer = writer.options(**RETENTION)
        mark = json.dumps(dict(info), sort_keys=True)
        try:
            save_as_table(writer, self._name, mark, self._spark)
        except (PySparkException, Py4JError) as error:
            raise write_error(self._ref, self._name, error) from error
        effect(f"rows committed: {self._ref}")
        return self.version() or 0

    def _frame(self, version: int | None) -> DataFrame:
        reader = self._spark.read.format("delta")
        return (reader if version is None else reader.option("versionAsOf", version)).table(self._name)

    def _history(self, limit: int) -> list[dict[str, Any]]:
        try:
            rows = self._spark.sql(f"DESCRIBE HISTORY {self._name} LIMIT {limit}").collect()
        except PySparkException as error:
            if (error.getCondition() or "") in _MISSING:
                self._require_schema()
                return []
            raise TableError(
                f"cannot read table `{self._ref}`", where=self._name, got=str(error).splitlines()[0]
            ) from error
        return [row.asDict(recursive=True) for row in rows]

    def _require_schema(self) -> None:
        """ConfigError where the schema itself is not there: nobody but its owner decides where its tables lie."""
        schema = self._name.rpartition(".")[0]
        if not self._spark.catalog.databaseExists(schema):
            raise ConfigError(
                f"there is no schema {schema}",
                where=f"table `{self._ref}`",
                next_action=f"CREATE SCHEMA {schema}, or choose another lake=",
            )


def save_as_table(writer: DataFrameWriter, name: str, mark: str, spark: SparkSession) -> None:
    """Write a table of a catalog in one commit that carries `mark`."""
    # Where an append creates the table, Delta forgets the writer's option; it asks the session then.
    with marked(spark, mark):
        writer.option("userMetadata", mark).saveAsTable(name)
