"""Shard: kept documents -> tokenizer, packed samples in equal row groups, one manifest per split.

A document's bucket and its place in the bucket are hashes of its id, and each bucket of a split is packed on its own:
the samples depend on neither the order nor the partitions of the rows.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from pydantic import Field
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.storagelevel import StorageLevel

from sparkml.frame.lineage import Station, TracedRun, rows_of_document
from sparkml.frame.run import StageRun
from sparkml.frame.schemas import MANIFESTS, spark_schema
from sparkml.frame.sizing import MOST_BUCKETS, bucket_count
from sparkml.frame.splits import TRAIN, VALIDATION, with_split
from sparkml.frame.stage import Reads, RunReport, Shares, Stage, StageConfig, Writes
from sparkml.frame.tables import Written
from sparkml.kernels.hashing import bucket_of
from sparkml.log import get_logger
from sparkml.models.tokenizer import SPECIAL_TOKENS
from sparkml.stages.shard.layout import Bucket, Layout, numbered, row_groups_of
from sparkml.stages.shard.manifests import FileFacts, check_equal_groups, manifest_of, read_facts
from sparkml.stages.shard.pack import SAMPLE_SCHEMA, packing
from sparkml.stages.shard.sizes import file_shape
from sparkml.stages.shard.vocabulary import (
    SAMPLE_CHARACTERS_PER_DOCUMENT,
    sample_texts,
    save_tokenizer,
    train_in_one_task,
)

_log = get_logger(__name__)
_SPLITS = (TRAIN, VALIDATION)
_BUCKETS = "buckets"  # among the metrics: with the id of a document, it tells where its samples lie
_BYTE_TOKENS = 256
# A bucket of 4 MB is packed in a second or two; its last sample is padded, one of thousands.
_SMALL_BUCKET_BYTES, _LARGE_BUCKET_BYTES = 4_000_000, 128_000_000


class ShardConfig(StageConfig):
    """What `conf/base/shard.yaml` holds."""

    source: Reads = Field("kept", description="Documents to pack")
    duplicates: Reads = Field("duplicates", description="Their duplicates: a cluster stays in one split")
    target: Writes = Field("samples", description="Packed samples")
    manifests: Shares = Field("manifests", description="One row per split: files, row groups, version")
    rejects: Shares = Field("rejects", description="Documents without a token")
    vocabulary_size: int = Field(
        8192, ge=len(SPECIAL_TOKENS) + _BYTE_TOKENS, le=1 << 20, description="Tokens of the tokenizer at most"
    )
    tokenizer_sample_bytes: int = Field(
        16_000_000, ge=1, description="Bytes of training text that the tokenizer is trained on, about"
    )
    sequence_length: int = Field(128, ge=8, le=1 << 16, description="Tokens a sample")
    validation_fraction: float = Field(0.1, ge=0.0, lt=1.0, description="Part of the clusters held out")
    n_buckets: int | None = Field(
        None, ge=1, le=MOST_BUCKETS, description="Groups that are packed on their own; null: by bytes"
    )
    rows_per_row_group: int | None = Field(
        None, ge=1, description="Samples a row group: what a rank reads at once; null: by bytes"
    )
    file_bytes: int = Field(128 << 20, ge=1, description="Bytes of a file on disk, about")


@dataclass(frozen=True)
class SourceSize:
    """What there is to pack."""

    bytes: int
    train_sample_bytes: int  # of the train split, with each document cut as for the tokenizer's sample


def transform(
    documents: DataFrame, tokenizer_json: str, *, n_buckets: int, sequence_length: int, seed: int
) -> DataFrame:
    """Documents with `split` -> packed samples, numbered within their bucket (`SAMPLE_SCHEMA`)."""
    bucket = F.pmod(F.xxhash64("doc_id"), F.lit(n_buckets)).cast("int")
    keyed = documents.select(
        "split",
        bucket.alias("bucket"),
        "doc_id",
        "text",
        F.xxhash64(F.lit(seed).cast("long"), "doc_id").alias("_order"),
    )
    # A bucket is a task; hashing the bucket number again would leave some tasks empty and double others.
    grouped = keyed.repartitionById(n_buckets, F.col("bucket"))
    ordered = grouped.sortWithinPartitions("split", "bucket", "_order", "doc_id").drop("_order")
    return ordered.mapInArrow(packing(tokenizer_json, sequence_length), spark_schema(SAMPLE_SCHEMA))


def is_empty() -> Column:
    """A document without a character has no token."""
    return F.coalesce(F.length("text"), F.lit(0)) == 0


def run(job: StageRun, config: ShardConfig) -> RunReport:
    """Write `samples`, then `manifests` that pin them; the tokenizer file comes before both."""
    kept = job.read(config.source).select("doc_id", "text")
    documents = with_split(kept, job.read(config.duplicates), config.validation_fraction, job.seed)
    reasons = job.write_rejects(rejects_of(kept), config.rejects)
    documents = documents.where(~is_empty())
    size = source_size(documents)
    content = train_in_one_task(
        sample_texts(
            documents.where(F.col("split") == TRAIN),
            size.train_sample_bytes,
            config.tokenizer_sample_bytes,
            job.seed,
        ),
        config.vocabulary_size,
    )
    tokenizer_hash = save_tokenizer(content, job.artifacts)
    started = time.monotonic()
    n_buckets = config.n_buckets or suitable_buckets(size)
    packed = transform(
        documents,
        content,
        n_buckets=n_buckets,
        sequence_length=config.sequence_length,
        seed=job.seed,
    )
    layout, written = _write_samples(job, config, packed)
    seconds = time.monotonic() - started
    facts = read_facts(job.spark, job.tables.data_files(config.target, written.version))
    check_equal_groups(facts, layout.shape)
    _write_manifests(job, config, facts, written, tokenizer_hash)
    rejected = sum(reasons.values())
    return RunReport(
        rows_in=job.input_rows(config.source),
        rows_kept=layout.documents,
        rows_rejected=rejected,
        reasons=reasons,
        bytes_in=size.bytes,
        metrics={**_metrics(layout, config, facts, size, seconds), _BUCKETS: n_buckets},
    )


def rejects_of(kept: DataFrame) -> DataFrame:
    """Documents that have no token at all, in the columns of `rejects`."""
    return kept.where(is_empty()).select(
        "doc_id",
        F.lit("no_tokens").alias("drop_reason"),
        F.lit(0.0).alias("value"),
        F.lit(1.0).alias("threshold"),
        F.when(F.col("text").isNull(), "text is null").otherwise("text is empty").alias("detail"),
    )


def source_size(documents: DataFrame) -> SourceSize:
    """One pass that also says how large a part the tokenizer's sample is."""
    head = F.octet_length(F.substring("text", 1, SAMPLE_CHARACTERS_PER_DOCUMENT))
    row = documents.agg(
        F.coalesce(F.sum(F.octet_length("text")), F.lit(0)).alias("bytes"),
        F.coalesce(F.sum(F.when(F.col("split") == TRAIN, head)), F.lit(0)).alias("train"),
    ).collect()[0]
    return SourceSize(row["bytes"], row["train"])


def suitable_buckets(size: SourceSize) -> int:
    """Buckets by the bytes of text: another cluster packs the same samples."""
    return bucket_count(size.bytes, from_bytes=_SMALL_BUCKET_BYTES, to_bytes=_LARGE_BUCKET_BYTES)


def _write_samples(job: StageRun, config: ShardConfig, packed: DataFrame) -> tuple[Layout, Written]:
    # Numbering needs the size of every bucket before a sample is written: tokenised once, kept on disk.
    packed = packed.persist(StorageLevel.DISK_ONLY)
    try:
        counts = packed.groupBy("split", "bucket").agg(
            F.count(F.lit(1)).alias("samples"),
            F.sum("n_documents").alias("documents"),
            F.sum("n_tokens").alias("tokens"),
        )
        buckets = [Bucket(**row.asDict()) for row in counts.collect()]  # at most two rows a bucket
        shape = file_shape(
            sum(bucket.samples for bucket in buckets),
            config.sequence_length,
            rows_per_row_group=config.rows_per_row_group,
            file_bytes=config.file_bytes,
        )
        layout = Layout.of(buckets, _SPLITS, shape)
        with row_groups_of(job.spark, shape.rows_per_row_group, config.sequence_length):
            samples = numbered(packed, layout, job.spark)
            return layout, job.overwrite(samples, config.target, options={"compression": "zstd"})
    finally:
        packed.unpersist()


def _write_manifests(
    job: StageRun, config: ShardConfig, facts: list[FileFacts], written: Written, tokenizer_hash: str
) -> None:
    manifests = [
        manifest_of(
            split,
            facts,
            table=config.target,
            version=written.version,
            tokenizer_hash=tokenizer_hash,
            sequence_length=config.sequence_length,
            seed=job.seed,
        )
        for split in _SPLITS
    ]
    # Equal samples have equal ids: their row then names the files that hold them now.
    job.put_rows(config.manifests, [manifest.to_record() for manifest in manifests], "manifest_id", MANIFESTS)


def _metrics(
    layout: Layout, config: ShardConfig, facts: list[FileFacts], size: SourceSize, seconds: float
) -> dict[str, float]:
    places = layout.samples * config.sequence_length
    # [CLS] of every sample and [SEP] of every document are counted as tokens of the samples, not of the text.
    text_tokens = layout.tokens - layout.samples - layout.documents
    return {
        "documents": layout.documents,
        "samples": layout.samples,
        "samples_validation": layout.samples_of(VALIDATION),
        "tokens": text_tokens,
        "tokens_per_second": text_tokens / seconds,
        "bytes_per_token": size.bytes / text_tokens if text_tokens else 0.0,
        "padding_fraction": 1 - layout.tokens / places if places else 0.0,
        "files": len(facts),
        "row_groups": sum(len(file.row_groups) for file in facts),
    }


def trace(traced: TracedRun) -> list[Station]:
    """The samples that hold tokens of the document, and the manifests of its run."""
    stations = list(rows_of_document(traced))
    for ref in traced.outputs():
        rows = traced.rows(ref, "doc_ids", where=_place_of(traced))
        if rows:
            ids = ", ".join(sorted((str(row["sample_id"]) for row in rows), key=int))
            found = (("split", str(rows[0]["split"])), ("sample_id", ids), ("run_id", traced.run.run_id))
            stations.append(Station(f"training samples in {ref}", found))
        for row in traced.rows(ref, "run_id", traced.run.run_id):
            if "manifest_id" in row:
                names = ("table", "version", "split", "rows", "sequence_length", "tokenizer_hash", "seed")
                facts = tuple((name, str(row[name])) for name in names)
                stations.append(
                    Station(f"manifest {row['manifest_id']}", (*facts, ("files", str(len(row["files"])))))
                )
    return stations


def _place_of(traced: TracedRun) -> dict[str, int]:
    """The bucket that a document is packed in, whatever its length."""
    n_buckets = traced.run.metrics.get(_BUCKETS)
    return {"bucket": bucket_of(traced.doc_id, int(n_buckets))} if n_buckets else {}


def sections() -> tuple[object, ...]:
    """What the report says about packed samples."""
    from sparkml.report.samples import SAMPLES

    return (SAMPLES,)


STAGE = Stage(
    ShardConfig,
    run,
    "tokenizer, packing, split, equal row groups -> samples, manifests",
    trace=trace,
    sections=sections,
)
