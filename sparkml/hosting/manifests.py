"""Manifests from what lies on disk: footers and checksums of the pinned files, read by Spark tasks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparkml.errors import TableError
from sparkml.feed.manifest import Manifest, ShardFile, ShardFiles
from sparkml.frame.spark_schemas import spark_schema
from sparkml.frame.storage import filesystem_of, normalise
from sparkml.frame.tables import DataFile
from sparkml.hosting.sizes import FileShape

_FACTS_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("split", pa.string()),
        ("first_id", pa.int64()),
        ("row_groups", pa.list_(pa.int64())),
        ("bytes", pa.int64()),
        ("checksum", pa.string()),
        ("content", pa.string()),
    ]
)
_READ_BYTES = 1 << 20
_MOST_TASKS = 1 << 14  # a task a file, until starting tasks costs more than reading files


@dataclass(frozen=True)
class FileFacts:
    """One data file as it is on disk. `content` is a hash of its samples alone, not of who wrote them and when."""

    path: str
    split: str
    first_id: int
    row_groups: tuple[int, ...]
    bytes: int
    checksum: str
    content: str


def read_facts(spark: SparkSession, files: Sequence[DataFile], columns: Sequence[str]) -> list[FileFacts]:
    """Open every file in a Spark task; returns the facts in the order of the samples. `columns` are their content."""
    if not files:
        return []
    tasks = in_tasks(spark, [(normalise(file.path),) for file in files], "path string")
    rows = tasks.mapInArrow(_opening(tuple(columns)), spark_schema(_FACTS_SCHEMA)).collect()
    facts = [FileFacts(**{**row.asDict(), "row_groups": tuple(row["row_groups"])}) for row in rows]
    return sorted(facts, key=lambda file: file.first_id)


def in_tasks(spark: SparkSession, files: Sequence[tuple[object, ...]], columns: str) -> DataFrame:
    """Facts of files as rows of `columns`, a file a task as far as there may be tasks."""
    n_tasks = min(len(files), _MOST_TASKS)
    rows = [(number % n_tasks, *file) for number, file in enumerate(files)]
    return spark.createDataFrame(rows, f"task int, {columns}").repartitionById(n_tasks, F.col("task"))


def sum_of(stream: pa.NativeFile) -> tuple[str, int]:
    """SHA-256 of all that a stream gives, and its bytes."""
    found, n_bytes = hashlib.sha256(), 0
    while block := stream.read(_READ_BYTES):
        found.update(block)
        n_bytes += len(block)
    return found.hexdigest(), n_bytes


def _opening(columns: tuple[str, ...]) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def open_files(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            facts = [file_facts(path, columns) for path in batch.column("path").to_pylist()]
            yield pa.RecordBatch.from_pylist([vars(fact) for fact in facts], schema=_FACTS_SCHEMA)

    return open_files


def file_facts(path: str, columns: Sequence[str]) -> FileFacts:
    """Footer, SHA-256 of the bytes, and SHA-256 of the samples of one Parquet file of one split."""
    filesystem, inner = filesystem_of(path)
    with filesystem.open_input_file(inner) as stream:
        checksum, size = sum_of(stream)
        stream.seek(0)
        file = pq.ParquetFile(stream)
        groups = [file.metadata.row_group(number).num_rows for number in range(file.metadata.num_row_groups)]
        content = hashlib.sha256()
        ids: list[int] = []
        splits: set[str] = set()
        for number in range(file.metadata.num_row_groups):
            table = file.read_row_group(number, columns=["split", "sample_id", *columns]).combine_chunks()
            splits.update(table.column("split").unique().to_pylist())
            ids.append(table.column("sample_id")[0].as_py())
            _update(content, table, ["sample_id", *columns])
    if len(splits) != 1:
        raise TableError(
            "a shard file must hold samples of one split",
            where=path,
            got=", ".join(sorted(splits)) or "no samples",
        )
    return FileFacts(path, splits.pop(), ids[0], tuple(groups), size, checksum, content.hexdigest())


def _update(content: hashlib._Hash, table: pa.Table, columns: Sequence[str]) -> None:
    for name in columns:
        for chunk in table.column(name).chunks:
            values = chunk
            if isinstance(chunk, pa.ListArray):
                content.update(chunk.value_lengths().to_numpy().tobytes())
                values = chunk.flatten()
            if pa.types.is_string(values.type):
                content.update("\0".join(values.to_pylist()).encode())
            elif pa.types.is_binary(values.type):
                filled = values.fill_null(b"")
                content.update(pc.binary_length(filled).to_numpy().tobytes())
                content.update(b"".join(filled.to_pylist()))
            else:
                content.update(values.to_numpy().tobytes())


def check_equal_groups(facts: Sequence[FileFacts], shape: FileShape) -> None:
    """Raise TableError unless only the last file of each split, and its last row group, are short.

    Readers that deal out whole row groups, as Petastorm's own sharding does, give ranks unequal steps where groups are
    unequal, and an allreduce then waits forever.
    """
    rows_per_row_group, rows_per_file = shape.rows_per_row_group, shape.rows_per_file
    for split in dict.fromkeys(file.split for file in facts):
        files = [file for file in facts if file.split == split]
        groups = list(chain.from_iterable(file.row_groups for file in files))
        sizes = [sum(file.row_groups) for file in files]
        short_files = [file for file, rows in zip(files[:-1], sizes, strict=False) if rows != rows_per_file]
        equal = all(rows == rows_per_row_group for rows in groups[:-1]) and groups[-1] <= rows_per_row_group
        if short_files or not equal or sizes[-1] > rows_per_file:
            raise TableError(
                f"the `{split}` samples do not lie in equal row groups",
                where=(short_files or files)[0].path,
                got=f"row groups of {sorted(set(groups))} rows",
                expected=f"{rows_per_row_group} rows a row group, {rows_per_file} a file",
                next_action="turn optimised writes and auto compaction off for this table",
            )


def manifest_of(
    split: str,
    facts: Sequence[FileFacts],
    *,
    table: str,
    version: int,
    tokenizer_hash: str,
    sequence_length: int,
    seed: int,
) -> Manifest:
    """The manifest of one split. Its id is a hash of the samples: equal samples of a table have equal ids."""
    mine = [file for file in facts if file.split == split]
    identity = {
        "table": table,
        "split": split,
        "tokenizer_hash": tokenizer_hash,
        "sequence_length": sequence_length,
        "seed": seed,
        "files": [[list(file.row_groups), file.content] for file in mine],
    }
    return Manifest(
        manifest_id=hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest(),
        table=table,
        version=version,
        split=split,
        files=ShardFiles.of(
            ShardFile(file.path, file.row_groups, file.bytes, file.checksum) for file in mine
        ),
        rows=sum(sum(file.row_groups) for file in mine),
        tokenizer_hash=tokenizer_hash,
        sequence_length=sequence_length,
        seed=seed,
    )
