"""The manifest: the exact files, row groups and rows of one split of a table at one version."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sparkml.errors import InputError


@dataclass(frozen=True)
class ShardFile:
    """One Parquet file: its absolute path or URI, the rows of each of its row groups, bytes and checksum."""

    path: str
    row_groups: tuple[int, ...]
    bytes: int
    checksum: str


@dataclass(frozen=True)
class Manifest:
    """A split of a samples table, pinned: nothing is ever looked up in a folder."""

    manifest_id: str
    table: str
    version: int
    split: str
    files: tuple[ShardFile, ...]
    rows: int
    tokenizer_hash: str
    sequence_length: int
    seed: int

    def __post_init__(self) -> None:
        counted = sum(sum(file.row_groups) for file in self.files)
        if counted != self.rows:
            raise InputError(
                "a manifest's row groups do not add up to its rows",
                where=f"manifest {self.manifest_id}",
                got=f"{counted} rows in row groups",
                expected=f"{self.rows} rows",
                next_action="write the manifest again: sparkml run shard",
            )

    def to_record(self) -> dict[str, Any]:
        """The columns of table `manifests`, without `run_id`."""
        record = asdict(self)
        record["files"] = [
            {"path": f.path, "row_groups": list(f.row_groups), "bytes": f.bytes, "checksum": f.checksum}
            for f in self.files
        ]
        return record

    def to_json(self) -> str:
        """One line of JSON with sorted keys."""
        return json.dumps(self.to_record(), sort_keys=True)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Manifest:
        """Read a row of table `manifests` (as nested mappings); InputError names a column that is missing."""
        try:
            files = tuple(
                ShardFile(
                    path=file["path"],
                    row_groups=tuple(int(rows) for rows in file["row_groups"]),
                    bytes=int(file["bytes"]),
                    checksum=file["checksum"],
                )
                for file in record["files"]
            )
            return cls(
                manifest_id=record["manifest_id"],
                table=record["table"],
                version=int(record["version"]),
                split=record["split"],
                files=files,
                rows=int(record["rows"]),
                tokenizer_hash=record["tokenizer_hash"],
                sequence_length=int(record["sequence_length"]),
                seed=int(record["seed"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                "not a manifest of ours",
                got=f"{type(error).__name__}: {error}",
                expected="the columns of table `manifests`",
                next_action="write it again: sparkml run shard",
            ) from error

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read what `to_json` wrote; InputError where it is something else."""
        try:
            record = json.loads(text)
        except ValueError as error:
            raise InputError("a manifest is not valid JSON", got=str(error)) from error
        return cls.from_record(record)
