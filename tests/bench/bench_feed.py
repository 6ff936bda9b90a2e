"""Rows a second of shuffled batches: our feed through petastorm and pyarrow, a bare scan, and other loaders.

    python -m tests.bench.bench_feed --rows 40000 --length 512 \
        --peers "petastorm=/peers/petastorm/bin/python,mosaic=...,datasets=..."

Each way runs in a process of its own, in turn; medians are printed, and shares of the scan. Peers run in environments
of their own (`feed_peer.py` says what each is asked). Then: how long the first batch takes after a resume at 90 % of an
epoch, and what one rank of 100 needs to know which of a million row groups it reads.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sparkml.feed.batches import micro_batches
from sparkml.feed.groups import GroupLoader
from sparkml.feed.manifest import FILE_TYPE, Manifest, ShardFile, ShardFiles
from sparkml.feed.manifest_file import write_manifest
from sparkml.feed.plan import epoch_plan, row_groups
from sparkml.feed.reader import open_reader
from sparkml.hosting.sizes import ID_BYTES, file_shape
from sparkml.training.columns import SAMPLE_ID
from tests.bench.feed_peer import COLUMN, WAYS, timed

VOCABULARY, N_SPECIAL = 8192, 5
BATCH, STREAMS = 32, 8
PEER = Path(__file__).with_name("feed_peer.py")
ENVIRONMENTS = {way: way.split()[0].removesuffix("ml-streaming") for way in WAYS}


def write(folder: Path, rows: int, length: int) -> Manifest:
    """Files of random token ids, in row groups and files as `shard` would choose them."""
    rng = np.random.default_rng(0)
    shape = file_shape(rows, ID_BYTES * length, rows_per_row_group=None, file_bytes=128 << 20)
    schema = pa.schema([(SAMPLE_ID, pa.int64()), (COLUMN, pa.list_(pa.int32()))])
    (folder / "parquet").mkdir()
    files = []
    for first in range(0, rows, shape.rows_per_file):
        path = folder / "parquet" / f"part-{len(files):05d}.parquet"
        last = min(first + shape.rows_per_file, rows)
        groups = []
        with pq.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True) as writer:
            for start in range(first, last, shape.rows_per_row_group):
                count = min(shape.rows_per_row_group, last - start)
                drawn = rng.zipf(1.3, count * length).clip(max=VOCABULARY - N_SPECIAL) + (N_SPECIAL - 1)
                offsets = pa.array(np.arange(0, count * length + 1, length, dtype=np.int32))
                lists = pa.ListArray.from_arrays(offsets, pa.array(drawn.astype(np.int32)))
                writer.write_table(pa.table([np.arange(start, start + count), lists], schema=schema))
                groups.append(count)
        files.append(ShardFile(str(path), tuple(groups), path.stat().st_size, ""))
    return Manifest("bench", "samples", 0, "train", ShardFiles.of(files), rows, "", length, 17)


def widths(manifest: Manifest) -> dict[str, int]:
    """What a training reads of packed samples."""
    return {SAMPLE_ID: 0, COLUMN: manifest.sequence_length}


def scan(manifest: Manifest) -> Iterator[int]:
    """Decode every row group and nothing else."""
    loader = GroupLoader(widths(manifest))
    for file in manifest.files:
        parquet = pq.ParquetFile(file.path)
        for number in range(parquet.num_row_groups):
            yield parquet.read_row_group(number, columns=list(loader.widths), use_threads=False).num_rows


def feed(manifest: Manifest, name: str, first_step: int = 0) -> Iterator[int]:
    """What a rank alone sees: shuffled batches."""
    plan = epoch_plan(manifest, epoch=0, seed=1, batch_size=BATCH, n_streams=STREAMS)
    reader = open_reader(name, widths(manifest))  # type: ignore[arg-type]
    yield from (batch.rows for batch in micro_batches(reader, plan, first_step=first_step))


OURS: dict[str, Callable[[Manifest], Iterator[int]]] = {
    "bare scan": scan,
    "ours, pyarrow": lambda manifest: feed(manifest, "arrow"),
    "ours, petastorm": lambda manifest: feed(manifest, "petastorm"),
}


def run_once(way: str, folder: Path, peers: dict[str, str]) -> dict[str, float]:
    """One way in a fresh process."""
    if way in OURS:
        command = [sys.executable, "-m", "tests.bench.bench_feed", "--way", way, "--folder", str(folder)]
    else:
        command = [peers[ENVIRONMENTS[way]], str(PEER), way, str(folder), str(BATCH)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{way} failed:\n{done.stderr[-3000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(folder: Path, peers: dict[str, str], rounds: int) -> None:
    """Medians of every way, and shares of the scan."""
    ways = [*OURS, *(way for way in WAYS if ENVIRONMENTS[way] in peers)]
    found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            found[way].append(run_once(way, folder, peers))
    bare = 0.0
    print(f"{'':30}{'rows/s':>10}{'of scan':>9}{'rows/cpu-s':>12}")
    for way, runs in found.items():
        rate, per_cpu = (
            statistics.median(run["rows"] / run[name] for run in runs) for name in ("seconds", "cpu_seconds")
        )
        bare = bare or rate
        print(f"{way:30}{rate:10,.0f}{rate / bare:9.2f}{per_cpu:12,.0f}")


def resume(manifest: Manifest, rounds: int) -> None:
    """Seconds to the first batch at 90 % of an epoch."""
    step = int(0.9 * manifest.rows / BATCH)
    for name in ("arrow", "petastorm"):
        next(feed(manifest, name))  # what is imported once
        seconds = statistics.median(
            _seconds_of(lambda name=name: next(feed(manifest, name, step))) for _ in range(rounds)
        )
        print(f"first batch at 90 % of an epoch, {name:10} {1000 * seconds:10.1f} ms")


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
    how = {"epoch": 0, "seed": 1, "batch_size": 8 * ranks, "n_streams": ranks}
    planned = epoch_plan(manifest, **how)
    print(f"{'plan in memory':24} {(planned.order.nbytes + planned.ends.nbytes) / 1e6:10.2f} MB")
    mine, step = range(ranks // 2, ranks, ranks), planned.steps // 2
    ways: dict[str, Callable[[], object]] = {
        "write the manifest": lambda: write_manifest(manifest, folder),
        "read the manifest": pinned.read,
        "plan an epoch": lambda: epoch_plan(manifest, **how),
        "go to a step": lambda: next(planned.slices(mine, step)),
        "all slices of the rank": lambda: list(planned.slices(mine)),
        "open a row group of it": lambda: next(row_groups(files, [n_groups // 2])),
    }
    for label, way in ways.items():
        seconds = sorted(_seconds_of(way) for _ in range(9))
        print(f"{label:24} {1000 * seconds[0]:10.2f} ms {1000 * seconds[4]:10.2f} ms")


def _seconds_of(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for option, default in (("--rows", 40_000), ("--length", 512), ("--rounds", 5)):
        parser.add_argument(option, type=int, default=default)
    parser.add_argument("--peers", default="", help="name=python, for petastorm, mosaic, datasets")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Write, then read with everything."""
    options = parse()
    if options.way:
        pinned = Path(options.folder) / "manifest.json"
        print(timed(OURS[options.way](Manifest.from_record(json.loads(pinned.read_text(encoding="utf-8"))))))
        return
    peers = dict(pair.split("=", 1) for pair in options.peers.split(",") if pair)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = write(folder, options.rows, options.length)
        (folder / "manifest.json").write_text(json.dumps(manifest.to_record()), encoding="utf-8")
        first = manifest.files[0]
        print(
            f"{options.rows} rows of {options.length} tokens, {manifest.files.bytes / 1e6:.1f} MB in "
            f"{len(manifest.files)} files, {first.row_groups[0]} rows a row group, "
            f"batches of {BATCH}, median of {options.rounds}"
        )
        compare(folder, peers, options.rounds)
        resume(manifest, options.rounds)
        plan_many(name)


if __name__ == "__main__":
    main()
