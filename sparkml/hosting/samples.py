"""Writes samples, packed or encoded, and the manifests that pin them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.storagelevel import StorageLevel

from sparkml.feed.manifest import Manifest
from sparkml.frame.run import StageRun
from sparkml.frame.schemas import MANIFESTS
from sparkml.hosting.layout import Bucket, Layout, numbered, row_groups_of
from sparkml.hosting.manifests import FileFacts, check_equal_groups, manifest_of, read_facts
from sparkml.hosting.sizes import FileShape


@dataclass(frozen=True)
class SampleSpec:
    """What is written where.

    `columns` of the samples beside `sample_id` and `split`; `content` are those that make their identity. `documents`
    and `tokens` name the columns that count them (each document once); `bytes` is what a sample takes in memory.
    """

    target: str
    manifests: str
    splits: tuple[str, ...]
    columns: tuple[str, ...]
    content: tuple[str, ...]
    documents: str
    tokens: str
    bytes: Column
    tokenizer_hash: str
    sequence_length: int


@dataclass(frozen=True)
class WrittenSamples:
    """Where every sample lies, the facts of the files, and the manifests by split."""

    layout: Layout
    facts: list[FileFacts]
    manifests: Mapping[str, Manifest]


def write_samples(
    job: StageRun,
    rows: DataFrame,
    spec: SampleSpec,
    shape_of: Callable[[int, float], FileShape],
) -> WrittenSamples:
    """Number the rows (`split`, `bucket`, `nth` and the spec's columns) and write table and manifests.

    `shape_of` says from the number of samples and their mean bytes in memory how large row groups and files are.
    """
    counts = rows.groupBy("split", "bucket").agg(
        F.count(F.lit(1)).alias("samples"),
        F.sum(spec.documents).alias("documents"),
        F.sum(spec.tokens).alias("tokens"),
        F.sum(spec.bytes).alias("bytes"),
    )
    counted = [row.asDict() for row in counts.collect()]  # at most a row a bucket and split
    n_bytes = sum(row.pop("bytes") for row in counted)
    buckets = [Bucket(**row) for row in counted]
    n_samples = sum(bucket.samples for bucket in buckets)
    width = max(n_bytes / max(n_samples, 1), 1.0)
    shape = shape_of(n_samples, width)
    layout = Layout.of(buckets, spec.splits, shape)
    with row_groups_of(job.spark, shape.rows_per_row_group, width):
        samples = numbered(rows, layout, spec.columns, job.spark)
        written = job.overwrite(samples, spec.target, options={"compression": "zstd"})
    facts = read_facts(job.spark, job.tables.data_files(spec.target, written.version), spec.content)
    check_equal_groups(facts, shape)
    manifests = {
        split: manifest_of(
            split,
            facts,
            table=spec.target,
            version=written.version,
            tokenizer_hash=spec.tokenizer_hash,
            sequence_length=spec.sequence_length,
            seed=job.seed,
        )
        for split in spec.splits
    }
    # Equal samples have equal ids: their row then names the files that hold them now.
    records = [manifest.to_record() for manifest in manifests.values()]
    job.put_rows(spec.manifests, records, "manifest_id", MANIFESTS)
    return WrittenSamples(layout, facts, manifests)


def kept_on_disk(rows: DataFrame) -> DataFrame:
    """Rows that are computed once: numbering needs the size of every bucket before a sample is written."""
    return rows.persist(StorageLevel.DISK_ONLY)


def bytes_of(columns: Sequence[str]) -> Column:
    """The bytes of a sample's binary columns."""
    return sum((F.coalesce(F.octet_length(name), F.lit(0)) for name in columns), F.lit(0))
