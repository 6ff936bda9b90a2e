"""The manifest: the exact files, row groups and rows of one split of a table at one version."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparkml.errors import InputError

Int64 = npt.NDArray[np.int64]
FILE_TYPE = pa.struct(
    [
        ("path", pa.string()),
        ("row_groups", pa.list_(pa.int64())),
        ("bytes", pa.int64()),
        ("checksum", pa.string()),
    ]
)


@dataclass(frozen=True)
class ShardFile:
    """One Parquet file: its absolute path or URI, the rows of each of its row groups, bytes and checksum."""

    path: str
    row_groups: tuple[int, ...]
    bytes: int
    checksum: str


class ShardFiles:
    """The files of a split, in order, as columns: a million row groups are one array, not a million objects.

    `group_rows` int64 [row groups] holds the rows of each row group, file after file; `first_group` int64
    [files + 1] the number of each file's first row group, and how many row groups there are.
    """

    def __init__(self, column: pa.StructArray) -> None:
        """From a column of `FILE_TYPE`; ValueError or pa.ArrowException where it holds something else."""
        self._column = column.cast(FILE_TYPE)
        paths, row_groups, sizes, checksums = self._column.flatten()
        rows = row_groups.flatten()
        names = ("files", *FILE_TYPE.names, "rows of row_groups")
        for name, part in zip(names, (self._column, paths, row_groups, sizes, checksums, rows), strict=True):
            if part.null_count:
                raise ValueError(f"{part.null_count} of {len(part)} {name} are null or missing")
        self._paths: pa.StringArray = paths
        self.sizes: Int64 = sizes.to_numpy()
        self._checksums: pa.StringArray = checksums
        self.group_rows: Int64 = rows.to_numpy()
        self.first_group: Int64 = (
            row_groups.offsets.to_numpy().astype(np.int64) - row_groups.offsets[0].as_py()
        )

    @classmethod
    def of(cls, files: Iterable[ShardFile]) -> ShardFiles:
        """The columns of files that are given one by one."""
        return cls(pa.array([vars(file) for file in files], FILE_TYPE))

    def __len__(self) -> int:
        return len(self._column)

    def __iter__(self) -> Iterator[ShardFile]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> ShardFile:
        """One file by its number; -1 is the last one."""
        number = range(len(self))[number]
        first, last = self.first_group[number], self.first_group[number + 1]
        return ShardFile(
            path=self.path(number),
            row_groups=tuple(self.group_rows[first:last].tolist()),
            bytes=int(self.sizes[number]),
            checksum=self._checksums[number].as_py(),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ShardFiles) and self._column.equals(other._column)

    __hash__ = None  # type: ignore[assignment]  # like a list, it is not a key

    def path(self, number: int) -> str:
        """The path or URI of one file by its number."""
        return str(self._paths[number].as_py())

    @property
    def bytes(self) -> int:
        """The bytes of all files."""
        return int(self.sizes.sum())

    def to_arrow(self) -> pa.StructArray:
        """A column of `FILE_TYPE`, one value per file."""
        return self._column


@dataclass(frozen=True)
class Manifest:
    """A split of a samples table, pinned: nothing is ever looked up in a folder."""

    manifest_id: str
    table: str
    version: int
    split: str
    files: ShardFiles
    rows: int
    tokenizer_hash: str
    sequence_length: int
    seed: int

    def __post_init__(self) -> None:
        counted = int(self.files.group_rows.sum())
        if counted != self.rows:
            raise InputError(
                "a manifest's row groups do not add up to its rows",
                where=f"manifest {self.manifest_id}",
                got=f"{counted} rows in row groups",
                expected=f"{self.rows} rows",
                next_action="write the manifest again: sparkml run shard",
            )

    @property
    def is_packed(self) -> bool:
        """True for packed samples, `sequence_length` tokens each; else a sample is as long as its text."""
        return self.sequence_length > 0

    def facts(self) -> dict[str, Any]:
        """Everything but the files, as JSON values."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "files"}

    def to_record(self) -> dict[str, Any]:
        """The columns of table `manifests`, in their order and without `run_id`."""
        return {**vars(self), "files": self.files.to_arrow().to_pylist()}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Manifest:
        """Read a row of table `manifests`; InputError says what is missing.

        `files` is a list of mappings or, faster, a column of Arrow structs.
        """
        try:
            files = record["files"]
            column = files if isinstance(files, pa.StructArray) else pa.array(files, FILE_TYPE)
            return cls(
                manifest_id=record["manifest_id"],
                table=record["table"],
                version=int(record["version"]),
                split=record["split"],
                files=ShardFiles(column),
                rows=int(record["rows"]),
                tokenizer_hash=record["tokenizer_hash"],
                sequence_length=int(record["sequence_length"]),
                seed=int(record["seed"]),
            )
        except (KeyError, TypeError, ValueError, pa.ArrowException) as error:
            raise InputError(
                "not one of our manifests",
                got=f"{type(error).__name__}: {error}",
                expected="the columns of table `manifests`",
                next_action="write it again: sparkml run shard",
            ) from error

    @classmethod
    def from_table(cls, table: pa.Table) -> Iterator[Manifest]:
        """The rows of table `manifests`, without an object for every row group; InputError as `from_record`."""
        facts = table.drop_columns(["files"]).to_pylist()
        files = (value for chunk in table.column("files").chunks for value in chunk)
        for row, value in zip(facts, files, strict=True):
            yield cls.from_record({**row, "files": value.values})
