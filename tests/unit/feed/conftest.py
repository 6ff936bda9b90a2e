"""Small shard files with a manifest: row `i` of the data set holds `i` in every position."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparkml.feed.manifest import Manifest, ShardFile, ShardFiles

SEQUENCE_LENGTH = 4


@pytest.fixture
def write_manifest(tmp_path: Path) -> Callable[..., Manifest]:
    """Write files with the given rows per row group; returns the manifest that pins them."""

    def write(*files: tuple[int, ...], folder: str = "split=train") -> Manifest:
        target = tmp_path / folder
        target.mkdir()
        shards, first = [], 0
        for number, groups in enumerate(files):
            path = target / f"part-{number:05d}.parquet"
            with pq.ParquetWriter(path, schema()) as writer:
                for rows in groups:
                    writer.write_table(samples(first, rows), row_group_size=rows)
                    first += rows
            shards.append(ShardFile(str(path), groups, path.stat().st_size, "0" * 64))
        files = ShardFiles.of(shards)
        return Manifest("m1", "samples", 3, "train", files, first, "t" * 64, SEQUENCE_LENGTH, 17)

    return write


def schema() -> pa.Schema:
    return pa.schema(
        [("sample_id", pa.int64()), ("input_ids", pa.list_(pa.int32())), ("doc_ids", pa.list_(pa.string()))]
    )


def samples(first: int, rows: int) -> pa.Table:
    ids = list(range(first, first + rows))
    columns = [ids, [[i] * SEQUENCE_LENGTH for i in ids], [[f"d{i}"] * (i % 3) for i in ids]]
    return pa.table(columns, schema=schema())
