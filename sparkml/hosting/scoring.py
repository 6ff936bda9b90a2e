"""Scoring on Spark: what a step, a stream and a SQL function share. Examples in, one answer row each out.

Documents are scored in buckets that a hash of their id decides, sorted by length, in chunks of a fixed number
of documents. What is padded with what, and with it the last bit of every score, depends on the documents to
score alone: not on the order of the rows, the number of partitions, or the size of Arrow's batches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from sparkml.errors import ConfigError
from sparkml.frame import artifacts
from sparkml.frame.registry import ModelRecord
from sparkml.frame.sizing import bucket_count
from sparkml.frame.spark_schemas import spark_schema
from sparkml.inference.batches import SCORED_SCHEMA, ModelSource, answering_task, scoring
from sparkml.tasks.task import Task, TaskChoice

# A small encoder looks at 50 kB for a second or more on one core: a smaller bucket costs more than it spreads. The
# documents of a bucket of 1 MB sort well by length.
_SMALLEST_BUCKET_BYTES, _SMALL_BUCKET_BYTES, _LARGE_BUCKET_BYTES = 50_000, 1_000_000, 32_000_000


def suitable_buckets(n_bytes: int, spread_over: int = 16) -> int:
    """Into how many buckets examples of this size go when a model looks at them.

    1 MB and more each; where those are fewer than `spread_over`, a power of two of smaller ones up to that number.
    """
    spread = min(spread_over, 1 << int(math.log2(max(1, n_bytes / _SMALLEST_BUCKET_BYTES))))
    return max(spread, bucket_count(n_bytes, from_bytes=_SMALL_BUCKET_BYTES, to_bytes=_LARGE_BUCKET_BYTES))


@dataclass(frozen=True)
class Answering:
    """A model that workers can load, and what its task reads of an example."""

    task: type[Task[Any]]
    source: ModelSource

    @property
    def columns(self) -> list[str]:
        """What an example must have to be answered."""
        return list(self.task.answered_from())


def answering(
    location: str,
    identity: str,
    *,
    threads: int = 1,
    engine: str = "auto",
    device: str = "auto",
    task: TaskChoice | None = None,
) -> Answering:
    """A model directory by its path or URI, its files verified here: workers trust a local folder.

    `identity` changes with the model's files; `task`: see `asked_spec`. InputError where the directory is incomplete,
    unsafe or does not answer that.
    """
    folder: Path = artifacts.localise(location)
    kind = answering_task(folder, task)
    inputs, asked = kind.read_inputs(str(folder)), task.model_dump_json() if task else ""
    return Answering(kind, ModelSource(location, identity, threads, engine, inputs, asked, device))


def check_threads(spark: SparkSession, threads: int, where: str) -> None:
    """ConfigError where a task would use more threads than it has cores; `where` names the setting."""
    # Spark gives a task `spark.task.cpus` cores of its executor: more threads fight with the next task's.
    cores = int(spark.conf.get("spark.task.cpus", "1") or 1)
    if threads > cores:
        raise ConfigError(
            "more threads than a task has cores",
            where=where,
            got=str(threads),
            expected=f"at most spark.task.cpus = {cores}",
            next_action=f"set spark.task.cpus={threads}, or {where}={cores}",
        )


def answered(
    documents: DataFrame, model: ModelSource, *, chunk_documents: int, top_labels: int | None, n_buckets: int
) -> DataFrame:
    """Documents (`doc_id`, `_hash`, `_bytes` and what the task reads) -> one row each as `SCORED_SCHEMA` says."""
    bucket = F.pmod(F.xxhash64("doc_id"), F.lit(n_buckets)).cast("int")
    keyed = documents.withColumnRenamed("_hash", "text_hash").withColumn("_bucket", bucket)
    grouped = keyed.repartitionById(n_buckets, F.col("_bucket"))
    ordered = grouped.sortWithinPartitions("_bytes", "doc_id").drop("_bucket", "_bytes")
    return ordered.mapInArrow(scoring(model, chunk_documents, top_labels), spark_schema(SCORED_SCHEMA))


def with_hash(examples: DataFrame, columns: Sequence[str], asked: str = "") -> DataFrame:
    """Add `_hash`, 16 hex digits that change with what the task reads, and `_bytes`, how large that is.

    `asked` (`ModelSource`): who asks otherwise gets another answer to the same text, so that it changes the hash too.
    """
    hashed = F.lower(F.lpad(F.hex(F.xxhash64(*columns, *([F.lit(asked)] if asked else []))), 16, "0"))
    sizes = [_bytes_of(name, dict(examples.dtypes)[name]) for name in columns]
    return examples.withColumn("_hash", hashed).withColumn("_bytes", sum(sizes[1:], sizes[0]))


def _bytes_of(name: str, kind: str) -> Column:
    size = F.octet_length(F.concat_ws(" ", name)) if kind.startswith("array") else F.octet_length(name)
    return F.coalesce(size, F.lit(0)).cast("long")


def with_provenance(
    answers: DataFrame, record: ModelRecord, *, step: str, run_id: str, table: str, version: int | None
) -> DataFrame:
    """Rows of the table `scores`: answers, and which model looked at which version of which table."""
    return answers.select(
        "doc_id",
        F.lit(record.model_id).alias("model_id"),
        F.lit(record.version).cast("int").alias("model_version"),
        F.lit(step).alias("step"),
        "prediction",
        "score",
        "scores",
        "spans",
        "embedding",
        "output",
        "engine",
        F.lit(table).alias("input_table"),
        F.lit(version).cast("long").alias("input_version"),
        "error",
        "text_hash",
        F.lit(run_id).alias("run_id"),
    )
