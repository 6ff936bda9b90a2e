"""Other ways to feed shuffled batches of token rows to torch, as their users run them, for `bench_feed`.

    python feed_peer.py WAY FOLDER BATCH     # imports nothing of ours: each peer in an environment of its own

Prints rows and seconds as one line of JSON. FOLDER holds Parquet files in `parquet/`; what another format needs is
written beside them first, and does not count.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

COLUMN = "input_ids"
SHUFFLED_ROWS = 4096


def petastorm_loader(folder: Path, batch: int) -> Iterator[int]:
    """Petastorm's `DataLoader`: rows in a shuffling queue."""
    from petastorm import make_batch_reader
    from petastorm.pytorch import DataLoader

    reader = make_batch_reader(f"file://{folder / 'parquet'}", schema_fields=[COLUMN], num_epochs=1)
    with DataLoader(reader, batch_size=batch, shuffling_queue_capacity=SHUFFLED_ROWS) as loader:
        yield from (len(rows[COLUMN]) for rows in loader)


def petastorm_batched(folder: Path, batch: int) -> Iterator[int]:
    """Petastorm's `BatchedDataLoader`: the faster one."""
    from petastorm import make_batch_reader
    from petastorm.pytorch import BatchedDataLoader

    reader = make_batch_reader(f"file://{folder / 'parquet'}", schema_fields=[COLUMN], num_epochs=1)
    with BatchedDataLoader(reader, batch_size=batch, shuffling_queue_capacity=SHUFFLED_ROWS) as loader:
        yield from (len(rows[COLUMN]) for rows in loader)


def mosaic(folder: Path, batch: int) -> Iterator[int]:
    """MosaicML Streaming: its shards of arrays, zstd, a worker process."""
    from streaming import StreamingDataset
    from torch.utils.data import DataLoader

    data = StreamingDataset(local=str(folder / "mds"), shuffle=True, batch_size=batch)
    loader = DataLoader(data, batch_size=batch, num_workers=1)
    yield from (len(rows[COLUMN]) for rows in loader)


def write_mosaic(folder: Path) -> None:
    """The Parquet rows as its shards."""
    import numpy as np
    import pyarrow.parquet as pq
    from streaming import MDSWriter

    target = folder / "mds"
    if target.exists():
        return
    files = sorted((folder / "parquet").glob("*.parquet"))
    length = len(pq.ParquetFile(files[0]).read_row_group(0)[COLUMN][0])
    columns = {COLUMN: f"ndarray:int32:{length}"}
    with MDSWriter(out=str(target), columns=columns, compression="zstd") as writer:
        for file in files:
            for row in pq.read_table(file, columns=[COLUMN])[COLUMN].to_pylist():
                writer.write({COLUMN: np.asarray(row, np.int32)})


def datasets_streaming(folder: Path, batch: int) -> Iterator[int]:
    """Hugging Face datasets, streamed, with a shuffle buffer, batches by torch's DataLoader."""
    import datasets
    from torch.utils.data import DataLoader

    files = [str(path) for path in sorted((folder / "parquet").glob("*.parquet"))]
    data: Any = datasets.load_dataset(
        "parquet", data_files=files, split="train", streaming=True, columns=[COLUMN]
    )
    data = data.shuffle(seed=1, buffer_size=SHUFFLED_ROWS).with_format("torch")
    yield from (len(rows[COLUMN]) for rows in DataLoader(data, batch_size=batch))


WAYS: dict[str, Callable[[Path, int], Iterable[int]]] = {
    "petastorm DataLoader": petastorm_loader,
    "petastorm BatchedDataLoader": petastorm_batched,
    "mosaicml-streaming": mosaic,
    "datasets streaming": datasets_streaming,
}


def processor_seconds() -> float:
    """Of this process and its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def timed(counts: Iterable[int]) -> str:
    """Read everything once; rows and seconds from the first batch on, as a line of JSON."""
    rows = 0
    started, cpu = 0.0, 0.0
    for count in counts:
        if not started:
            started, cpu = time.perf_counter(), processor_seconds()
        else:
            rows += count
    seconds = time.perf_counter() - started
    return json.dumps({"rows": rows, "seconds": seconds, "cpu_seconds": processor_seconds() - cpu})


def main(way: str, folder: str, batch: str) -> None:
    """Print what one way took."""
    if way == "mosaicml-streaming":
        write_mosaic(Path(folder))
    print(timed(WAYS[way](Path(folder), int(batch))))


if __name__ == "__main__":
    main(*sys.argv[1:])
