"""How fast is ingest? MB/s and documents/s a format, beside Spark's own readers in the same session.

    python -m tests.bench.bench_ingest [MEGABYTES]

Every source is written to a no-op sink, so the numbers are of reading alone. The last line is the embedded corpus.
"""

from __future__ import annotations

import bz2
import gzip
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from pyspark.sql import DataFrame, SparkSession

from sparkml.frame.config import load_config
from sparkml.frame.session import build_session
from sparkml.sources.environment import environment_files
from sparkml.sources.rows import rows_of
from sparkml.stages.ingest.config import IngestConfig
from sparkml.stages.ingest.origins.files import Environment, Files

_WORDS = 2_000
_MEGABYTE = 1_000_000


def corpus(megabytes: int) -> list[dict[str, object]]:
    """Documents of 20 to 400 words with the fields that crawls have."""
    choose = random.Random(17)
    words = ["".join(choose.choices("etaoinshrdlu", k=choose.randint(2, 9))) for _ in range(_WORDS)]
    documents: list[dict[str, object]] = []
    size = 0
    while size < megabytes * _MEGABYTE:
        text = " ".join(choose.choices(words, k=choose.randint(20, 400)))
        documents.append(
            {"text": text, "url": f"http://example.org/{len(documents)}", "score": 0.5, "tags": ["a"]}
        )
        size += len(text) + 80
    return documents


def write_sources(folder: Path, documents: list[dict[str, object]]) -> dict[str, Path]:
    """The same documents in every format; two files each, so that two tasks can read."""
    paths = {}
    for name, compress in {
        "jsonl": bytes,
        "jsonl.gz": lambda data: gzip.compress(data, 6),
        "jsonl.zst": lambda data: zstandard.compress(data, 3),
        "jsonl.bz2": bz2.compress,
    }.items():
        paths[name] = folder / name
        paths[name].mkdir()
        for part in range(2):
            body = "\n".join(json.dumps(document, ensure_ascii=False) for document in documents[part::2])
            (paths[name] / f"{part}.{name}").write_bytes(compress(body.encode()))
    paths["parquet"] = folder / "parquet"
    paths["parquet"].mkdir()
    for part in range(2):
        pq.write_table(pa.Table.from_pylist(documents[part::2]), paths["parquet"] / f"{part}.parquet")
    return paths


def measure(name: str, size: int, documents: int, frame: Callable[[], DataFrame]) -> None:
    """Print the better of two readings."""
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        frame().write.format("noop").mode("overwrite").save()
        seconds.append(time.perf_counter() - start)
    best = min(seconds)
    print(f"{name:<34}{best:8.2f} s {size / best / _MEGABYTE:8.1f} MB/s {documents / best:10,.0f} docs/s")


def bench_formats(spark: SparkSession, megabytes: int) -> None:
    """Our reader and Spark's, on the same files."""
    documents = corpus(megabytes)
    size = sum(len(json.dumps(document)) + 1 for document in documents)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_sources(Path(folder), documents)
        for name, path in paths.items():
            config = IngestConfig(source={"path": str(path), "dataset": "bench"}, split_bytes=size // 2)
            files = Files(config)
            measure(
                f"ingest {name}", size, len(documents), partial(rows_of, spark, files.splits(), files.options)
            )
        readers = {
            "spark.read.json": lambda: spark.read.json(str(paths["jsonl"])),
            "spark.read.json (schema given)": lambda: spark.read.schema("text string, url string").json(
                str(paths["jsonl"])
            ),
            "spark.read.json .gz": lambda: spark.read.json(str(paths["jsonl.gz"])),
            "spark.read.text": lambda: spark.read.text(str(paths["jsonl"])),
            "spark.read.parquet": lambda: spark.read.parquet(str(paths["parquet"])),
        }
        for name, frame in readers.items():
            measure(name, size, len(documents), frame)


def bench_environment(spark: SparkSession) -> None:
    """The embedded corpus; MB are of source files."""
    config = IngestConfig()
    start = time.perf_counter()
    corpus = Environment(config)
    splits, files = corpus.splits(), corpus.metrics()["files"]
    print(f"{'listing of the environment':<34}{time.perf_counter() - start:8.2f} s {files:>8,} files")
    size = sum(file.size for file in environment_files())
    documents = rows_of(spark, splits, corpus.options).where("drop_reason is null").count()
    measure("ingest embedded corpus", size, documents, lambda: rows_of(spark, splits, corpus.options))


def main() -> None:
    """Run everything on two cores."""
    settings = load_config("local", ["spark.master=local[2]", "spark.driver.memory=1500m"])
    spark = build_session(settings.spark, name="bench-ingest")
    bench_formats(spark, int(sys.argv[1]) if len(sys.argv) > 1 else 100)
    bench_environment(spark)
    spark.stop()


if __name__ == "__main__":
    main()
