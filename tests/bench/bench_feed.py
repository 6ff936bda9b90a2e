"""Rows a second: our readers on petastorm and pyarrow, rows in torch's DataLoader, a bare scan as the upper bound.
Milliseconds: what one rank of 100 needs to know which of a million row groups it reads.

python -m tests.bench.bench_feed [rows] [tokens per row] [rows per row group]
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.utils.data import DataLoader, IterableDataset

from sparkml.feed.batches import count, micro_batches
from sparkml.feed.manifest import FILE_TYPE, Manifest, ShardFile, ShardFiles
from sparkml.feed.manifest_file import write_manifest
from sparkml.feed.plan import epoch_plan, row_groups
from sparkml.feed.reader import Reader, ReaderName, open_reader
from sparkml.training.columns import SAMPLE_ID

COLUMN = "input_ids"
VOCABULARY, N_SPECIAL = 8192, 5
READ = [SAMPLE_ID, COLUMN]  # what a training reads of packed samples


def write(folder: Path, rows: int, length: int, group: int) -> Manifest:
    """One zstd file of random token ids, none of them one of the five special ones that tokenizers begin with."""
    path = folder / "samples.parquet"
    rng = np.random.default_rng(0)
    kind = pa.list_(pa.int32())
    counts = [min(group, rows - start) for start in range(0, rows, group)]
    schema = pa.schema([(SAMPLE_ID, pa.int64()), (COLUMN, kind)])
    first = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for n_rows in counts:
            drawn = rng.zipf(1.3, (n_rows, length)).clip(max=VOCABULARY - N_SPECIAL) + (N_SPECIAL - 1)
            ids = pa.array(drawn.astype(np.int32).ravel())
            offsets = pa.array(np.arange(0, n_rows * length + 1, length, dtype=np.int32))
            lists = pa.ListArray.from_arrays(offsets, ids)
            numbers = np.arange(first, first + n_rows)
            writer.write_table(pa.table([numbers, lists], schema=schema), row_group_size=n_rows)
            first += n_rows
    files = ShardFiles.of([ShardFile(str(path), tuple(counts), path.stat().st_size, "")])
    return Manifest("bench", "samples", 0, "train", files, rows, "", length, 17)


def scan(manifest: Manifest) -> int:
    """Decode every row group and nothing else."""
    file = pq.ParquetFile(manifest.files[0].path)
    return sum(file.read_row_group(i, columns=READ).num_rows for i in range(file.num_row_groups))


def reader_of(manifest: Manifest, name: ReaderName) -> Reader:
    """A reader of what a training reads."""
    return open_reader(name, {SAMPLE_ID: 0, COLUMN: manifest.sequence_length})


def read(manifest: Manifest, name: ReaderName) -> int:
    """Row groups as matrices, in order."""
    reader = reader_of(manifest, name)
    groups = row_groups(manifest.files, range(len(manifest.files.group_rows)))
    return sum(count(rows) for rows in reader.read(groups))


def feed(manifest: Manifest, name: ReaderName) -> int:
    """What a rank sees: shuffled micro batches of 32."""
    plan = epoch_plan(manifest, epoch=0, seed=1, batch_size=32, n_streams=8)
    return sum(batch.rows for batch in micro_batches(reader_of(manifest, name), plan))


def rows_in_a_data_loader(manifest: Manifest) -> int:
    """What training scripts do: rows as Python lists through torch's `DataLoader`, batches of 32, not shuffled."""
    file = pq.ParquetFile(manifest.files[0].path)
    groups = (file.read_row_group(i, columns=[COLUMN])[COLUMN] for i in range(file.num_row_groups))
    loader = DataLoader(
        _Rows(row for group in groups for row in group.to_pylist()), batch_size=32, collate_fn=torch.tensor
    )
    return sum(len(batch) for batch in loader)


class _Rows(IterableDataset[list[int]]):
    def __init__(self, rows: Iterator[list[int]]) -> None:
        self._rows = rows

    def __iter__(self) -> Iterator[list[int]]:
        return self._rows


def plan_many(folder: str, n_groups: int = 1_000_000, n_files: int = 10_000, ranks: int = 100) -> None:
    """One rank's way to its first row group: read the manifest, plan an epoch, go to a step in its middle."""
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 512, n_groups)
    edges = pa.array(np.linspace(0, n_groups, n_files + 1).astype(np.int32))
    paths = [
        f"s3a://bucket/lake/samples/part-{n:05d}-{rng.bytes(16).hex()}.zstd.parquet" for n in range(n_files)
    ]
    checksums = [rng.bytes(32).hex() for _ in range(n_files)]
    lists = pa.ListArray.from_arrays(edges, pa.array(counts))
    columns = [pa.array(paths), lists, pa.array(np.full(n_files, 128 << 20)), pa.array(checksums)]
    files = ShardFiles(pa.StructArray.from_arrays(columns, fields=list(FILE_TYPE)))
    manifest = Manifest("bench", "samples", 0, "train", files, int(counts.sum()), "", 128, 17)
    print(f"{n_groups} row groups in {n_files} files, rank {ranks // 2} of {ranks}, best and median of 9")
    pinned = write_manifest(manifest, folder)
    print(f"{'manifest file':24} {Path(pinned.location).stat().st_size / 1e6:10.2f} MB")
    planned = epoch_plan(manifest, epoch=0, seed=1, world_size=ranks, micro_batch=8)
    print(f"{'plan in memory':24} {(planned.order.nbytes + planned.ends.nbytes) / 1e6:10.2f} MB")
    rank, step = ranks // 2, planned.steps // 2
    ways: dict[str, Callable[[], object]] = {
        "write the manifest": lambda: write_manifest(manifest, folder),
        "read the manifest": pinned.read,
        "plan an epoch": lambda: epoch_plan(manifest, epoch=0, seed=1, world_size=ranks, micro_batch=8),
        "go to a step": lambda: next(planned.slices(rank, step)),
        "all slices of the rank": lambda: list(planned.slices(rank)),
    }
    for label, way in ways.items():
        seconds = sorted(_seconds_of(way) for _ in range(9))
        print(f"{label:24} {1000 * seconds[0]:10.2f} ms {1000 * seconds[4]:10.2f} ms")


def _seconds_of(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main(rows: int = 40_000, length: int = 128, group: int = 256) -> None:
    """Write, then read with everything."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = write(Path(folder), rows, length, group)
        size = manifest.files[0].bytes
        print(f"{rows} rows x {length} tokens, {size / 1e6:.1f} MB, {group} rows a row group")
        ways: dict[str, Callable[[], int]] = {"pyarrow scan": lambda: scan(manifest)}
        for name in ("arrow", "petastorm"):
            ways[f"{name} reader"] = lambda name=name: read(manifest, name)
            ways[f"{name} micro batches"] = lambda name=name: feed(manifest, name)
        ways["rows in a DataLoader"] = lambda: rows_in_a_data_loader(manifest)
        for label, way in ways.items():
            way()
            started, cpu = time.perf_counter(), time.process_time()
            done = way()
            seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
            print(f"{label:24} {done / seconds:10,.0f} rows/s   {done / cpu:10,.0f} rows/cpu-s")
        plan_many(folder)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
