"""Delta tables without a JVM: versions, identities, commits and small tables, by delta-rs.

We do not know the folder of a catalog's table: Spark answers the same questions there (`frame.catalog`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from sparkml.errors import StorageError, TableError
from sparkml.frame import storage
from sparkml.frame.commits import Commit, commit_of
from sparkml.frame.effects import effect

if TYPE_CHECKING:
    from deltalake import DeltaTable

# What a version needs stays readable for ten years: the ledger names versions, and a trace reads them.
RETENTION = {
    "delta.logRetentionDuration": "interval 3650 days",
    "delta.deletedFileRetentionDuration": "interval 3650 days",
}
# What a merge or a delete has done to its rows is written down: who follows the table reads that, not the table.
FEED = {"delta.enableChangeDataFeed": "true"}
_PLAIN_READER = 1
_FIRST_COMMITS, _MOST_COMMITS = 16, 1000
ANYWHERE: Mapping[str, int] = MappingProxyType({})


class TableLog(Protocol):
    """The versions, commits and sizes of a table, and its rows where they are few."""

    def version(self) -> int | None:
        """The latest version; None where there is no table; TableError where there is something else."""
        ...

    def table_id(self) -> str:
        """The identity of the table: another one after it was dropped and made again."""
        ...

    def commits(self) -> Iterator[Commit]:
        """The commits, newest first."""
        ...

    def count(self, version: int) -> int:
        """Rows at a version, from the statistics in the log."""
        ...

    def size(self, version: int) -> int:
        """Bytes of the data files at a version."""
        ...

    def has_same_slice(self, old: int, new: int, where: Mapping[str, str]) -> bool:
        """Whether the rows whose columns have these values lie in the same files at both versions.

        Where no partition tells which files those are, files that came cannot be theirs and files that went may be.
        """
        ...

    def may_have(self, where: Mapping[str, object], version: int | None = None) -> bool:
        """False where the partitions of a version (the newest) tell that no row of it has the values of `where`."""
        ...

    def added_files(self, old: int, new: int) -> list[str] | None:
        """Paths below the table of the data files that a later version has beside those of an earlier one, which it
        has all. None where it has not, and where they need more than a Parquet reader (deletion vectors, renamed
        columns).
        """
        ...

    def read(self, version: int | None = None) -> pa.Table:
        """A small table."""
        ...

    def find(
        self, column: str, value: str, version: int, limit: int, where: Mapping[str, int] = ANYWHERE
    ) -> list[dict[str, Any]]:
        """A few rows whose `column` is, or as a list holds, `value`; files that cannot hold it stay closed.

        `where`: the values of other columns, as far as the table has them.
        """
        ...

    def counts(self, column: str, version: int, where: Mapping[str, str]) -> dict[str, int]:
        """Rows by the value of a column, of those whose other columns have the values of `where`."""
        ...

    def append(self, rows: pa.Table, info: Mapping[str, str]) -> int:
        """Add rows in one commit; returns its version."""
        ...

    def replace(self, rows: pa.Table, keys: Sequence[Mapping[str, object]], info: Mapping[str, str]) -> int:
        """Replace the rows whose columns have the values of one of `keys` in one commit; returns its version."""
        ...


class FolderTable:
    """A table in a folder or at a URI."""

    def __init__(self, ref: str, location: str) -> None:
        self._ref = ref
        self._location = location
        self._options = storage.delta_options(location)

    def version(self) -> int | None:
        """See `TableLog.version`."""
        table = self._open()
        return None if table is None else int(table.version())

    def table_id(self) -> str:
        """See `TableLog.table_id`."""
        table = self._open()
        return "" if table is None else str(table.metadata().id)

    def commits(self) -> Iterator[Commit]:
        """See `TableLog.commits`."""
        table, given = self._open(), 0
        if table is None:
            return
        # Mostly one of the newest is wanted, and a table that a stream writes has very many.
        for most in (_FIRST_COMMITS, _MOST_COMMITS):
            entries = table.history(most)
            yield from map(commit_of, entries[given:])
            given = len(entries)
            if given < most:
                return

    def count(self, version: int) -> int:
        """See `TableLog.count`."""
        table = self._existing(version)
        counts = table.get_add_actions(flatten=True).column("num_records").to_pylist()
        if any(count is None for count in counts):  # a writer that leaves statistics out
            return int(_query(table, "SELECT count(*) AS n FROM rows").column("n")[0].as_py())
        return sum(counts)

    def size(self, version: int) -> int:
        """See `TableLog.size`."""
        actions = self._existing(version).get_add_actions(flatten=True)
        return sum(actions.column("size_bytes").to_pylist())

    def has_same_slice(self, old: int, new: int, where: Mapping[str, str]) -> bool:
        """See `TableLog.has_same_slice`."""
        before, after = (self._files(version, where) for version in (old, new))
        parted = set(where) <= set(self._existing(new).metadata().partition_columns)
        return before == after if parted else before <= after

    def may_have(self, where: Mapping[str, object], version: int | None = None) -> bool:
        """See `TableLog.may_have`."""
        version = self.version() if version is None else version
        return version is not None and bool(self._files(version, where))

    def added_files(self, old: int, new: int) -> list[str] | None:
        """See `TableLog.added_files`."""
        if self._existing(new).protocol().min_reader_version > _PLAIN_READER:
            return None
        before, after = (self._files(version, {}) for version in (old, new))
        return sorted(after - before) if before <= after else None

    def _files(self, version: int, where: Mapping[str, object]) -> set[str]:
        actions = pa.table(self._existing(version).get_add_actions(flatten=True))
        for name, value in where.items():
            if f"partition.{name}" in actions.column_names:
                actions = actions.filter(pc.equal(actions.column(f"partition.{name}"), value))
        return set(actions.column("path").to_pylist())

    def read(self, version: int | None = None) -> pa.Table:
        """See `TableLog.read`."""
        table = self._existing(version)
        return _query(table, "SELECT * FROM rows").cast(pa.schema(table.schema().to_arrow()))

    def find(
        self, column: str, value: str, version: int, limit: int, where: Mapping[str, int] = ANYWHERE
    ) -> list[dict[str, Any]]:
        """See `TableLog.find`."""
        from deltalake.schema import PrimitiveType

        table = self._existing(version)
        fields = {field.name: field.type for field in table.schema().fields}
        if column not in fields:
            return []
        text, is_list = _literal(value), not isinstance(fields[column], PrimitiveType)
        tests = [f"array_has({column}, {text})" if is_list else f"{column} = {text}"]
        holds = " AND ".join(tests + [f"{name} = {there}" for name, there in where.items() if name in fields])
        rows: list[dict[str, Any]] = _query(
            table, f"SELECT * FROM rows WHERE {holds} LIMIT {limit}"
        ).to_pylist()
        return rows

    def counts(self, column: str, version: int, where: Mapping[str, str]) -> dict[str, int]:
        """See `TableLog.counts`: one column is read, of few different values."""
        mine = " AND ".join(f"{name} = {_literal(value)}" for name, value in where.items())
        sql = (
            f"SELECT {column} AS v, count(*) AS n FROM rows WHERE {mine} GROUP BY {column} ORDER BY {column}"
        )
        return {row["v"]: row["n"] for row in _query(self._existing(version), sql).to_pylist()}

    def append(self, rows: pa.Table, info: Mapping[str, str]) -> int:
        """See `TableLog.append`."""
        return self._write(rows, info, mode="append", schema_mode="merge")

    def replace(self, rows: pa.Table, keys: Sequence[Mapping[str, object]], info: Mapping[str, str]) -> int:
        """See `TableLog.replace`."""
        if self._open() is None:
            return self.append(rows, info)
        mine = " OR ".join(
            " AND ".join(f"{name} = {_literal(value)}" for name, value in key.items()) for key in keys
        )
        return self._write(rows, info, mode="overwrite", predicate=mine)

    def _write(self, rows: pa.Table, info: Mapping[str, str], **how: Any) -> int:
        from deltalake import CommitProperties, write_deltalake
        from deltalake.exceptions import DeltaError

        effect(f"rows about to be written: {self._ref}")
        mark = CommitProperties(custom_metadata={"userMetadata": json.dumps(dict(info), sort_keys=True)})
        try:
            write_deltalake(
                self._location,
                rows,
                configuration=RETENTION,
                storage_options=self._options,
                commit_properties=mark,
                **how,
            )
        except (DeltaError, OSError) as error:
            raise StorageError(
                f"cannot write table `{self._ref}`",
                where=storage.redacted(self._location),
                got=str(error).splitlines()[0],
                next_action="check the place, its rights and the free space",
            ) from error
        effect(f"rows committed: {self._ref}")
        return self.version() or 0

    def _existing(self, version: int | None) -> DeltaTable:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        if self._open() is None:
            raise missing_table(self._ref, self._location)
        try:
            return DeltaTable(self._location, version=version, storage_options=self._options)
        except DeltaError as error:
            raise TableError(
                f"version {version} of table `{self._ref}` cannot be read",
                where=storage.redacted(self._location),
                got=str(error).splitlines()[0],
            ) from error

    def _open(self) -> DeltaTable | None:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        if not storage.is_remote(self._location) and storage.is_file(self._location):
            raise self._foreign("a file")
        try:
            if DeltaTable.is_deltatable(self._location, self._options):
                return DeltaTable(self._location, storage_options=self._options)
        except (DeltaError, OSError) as error:
            raise TableError(
                f"table `{self._ref}` cannot be opened",
                where=storage.redacted(self._location),
                got=str(error).splitlines()[0],
            ) from error
        self._check_leftovers()
        return None

    def _check_leftovers(self) -> None:
        """Data files and a log without a commit are what a first write left when it died: the next one starts over.

        Anything else belongs to somebody else: TableError.
        """
        names = [] if storage.is_remote(self._location) else storage.names(self._location)
        foreign = [name for name in names if not _is_leftover(name)]
        if foreign:
            raise self._foreign(f"a folder without `_delta_log`, with {', '.join(foreign[:3])}")

    def _foreign(self, got: str) -> TableError:
        return TableError(
            f"`{self._ref}` is not a Delta table",
            where=storage.redacted(self._location),
            got=got,
            expected="a Delta table, or nothing",
            next_action="move it away, or choose another lake= or table name",
        )


def _is_leftover(name: str) -> bool:
    return (
        name in ("_delta_log", "_temporary")
        or name.startswith(".")
        or name.endswith(".parquet")
        or "=" in name
    )


def _query(table: DeltaTable, sql: str) -> pa.Table:
    """The answer of DataFusion; Arrow's own reader leaves threads that can abort a process at its end."""
    from deltalake import QueryBuilder

    return pa.table(QueryBuilder().register("rows", table).execute(sql).read_all())


def _literal(value: object) -> str:
    """A value in delta-rs's SQL, where a backslash is a character like any other (in Spark's it is not)."""
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"


def missing_table(ref: str, where: str) -> TableError:
    """The error for a table that is not there."""
    return TableError(
        f"there is no table `{ref}`",
        where=storage.redacted(where),
        next_action="run the step that writes it first: `sparkml plan` shows the order",
    )
