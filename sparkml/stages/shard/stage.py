"""Shard: kept documents -> tokenizer, packed samples in equal row groups, one manifest per split.

A document's bucket and its place in the bucket are hashes of its id, and each bucket of a split is packed on its own:
the samples depend on neither the order nor the partitions of the rows.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

from pydantic import Field
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from sparkml.errors import ConfigError
from sparkml.frame import artifacts, storage
from sparkml.frame.lineage import Station, TracedRun, rows_of_document
from sparkml.frame.run import StageRun
from sparkml.frame.sizing import MOST_BUCKETS, bucket_count
from sparkml.frame.spark_schemas import spark_schema
from sparkml.frame.splits import TRAIN, VALIDATION, with_split
from sparkml.frame.stage import Reads, RunReport, Shares, Stage, StageConfig, Uses, Writes
from sparkml.hosting.layout import Layout
from sparkml.hosting.leaks import count_leaks
from sparkml.hosting.manifests import FileFacts
from sparkml.hosting.samples import SampleSpec, WrittenSamples, kept_on_disk, write_samples
from sparkml.hosting.sizes import ID_BYTES, FileShape, file_shape
from sparkml.hosting.verify import verify_manifests
from sparkml.kernels.hashing import bucket_of
from sparkml.log import get_logger
from sparkml.models.inputs import TextInputs, read_text_inputs
from sparkml.stages.shard.pack import SAMPLE_SCHEMA, packing
from sparkml.stages.shard.vocabulary import (
    SAMPLE_CHARACTERS_PER_DOCUMENT,
    SPECIAL_TOKENS,
    TokenizerKind,
    keep_tokenizer,
    sample_texts,
    save_tokenizer,
    train_in_one_task,
)

_log = get_logger(__name__)
_SPLITS = (TRAIN, VALIDATION)
_CONTENT = ("input_ids", "doc_starts", "doc_ids")
_BUCKETS = "buckets"  # among the metrics: with the id of a document, it tells where its samples lie
_BYTE_TOKENS = 256
Packing = Literal["concatenate", "best_fit"]
# A bucket of 4 MB is packed in a second or two; its last sample is padded, one of thousands.
_SMALL_BUCKET_BYTES, _LARGE_BUCKET_BYTES = 4_000_000, 128_000_000


class ShardConfig(StageConfig):
    """What `conf/base/shard.yaml` holds."""

    source: Reads = Field("kept", description="Documents to pack")
    duplicates: Reads = Field("duplicates", description="Their duplicates: a cluster stays in one split")
    with_text_b: bool = Field(
        False, description="Of pairs the second text is packed too, on a line of its own behind the first"
    )
    target: Writes = Field("samples", description="Packed samples")
    manifests: Shares = Field("manifests", description="One row per split: files, row groups, version")
    rejects: Shares = Field("rejects", description="Documents without a token")
    tokenizer: Uses | None = Field(
        None, description="The model whose tokenizer packs, to go on training it; null: one is trained"
    )
    tokenizer_kind: TokenizerKind = Field(
        "bpe", description="What is trained: bpe or unigram, both on bytes, or wordpiece, as BERT's"
    )
    vocabulary_size: int = Field(
        8192, ge=len(SPECIAL_TOKENS) + _BYTE_TOKENS, le=1 << 20, description="Tokens of the tokenizer at most"
    )
    sentinels: int = Field(
        0,
        ge=0,
        le=1000,
        description="Tokens of it that stand for spans, for task span_corruption: T5 has 100",
    )
    tokenizer_sample_bytes: int = Field(
        16_000_000, ge=1, description="Bytes of training text that the tokenizer is trained on, about"
    )
    sequence_length: int = Field(128, ge=8, le=1 << 16, description="Tokens a sample")
    packing: Packing = Field(
        "concatenate",
        description="concatenate: documents behind one another, cut where a sample ends; best_fit: few are cut, "
        "samples have padding",
    )
    validation_fraction: float = Field(0.1, ge=0.0, lt=1.0, description="Part of the clusters held out")
    split_by: str = Field(
        "",
        description="Column whose value decides the split, so that it stays when the corpus grows (a site, a source); "
        "empty: the cluster of duplicates",
    )
    leak_similarity: float = Field(
        0.7,
        ge=0.0,
        le=1.0,
        description="Held-out documents are counted that are so similar to a training one; 0: nobody looks",
    )
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
    documents: DataFrame,
    inputs: TextInputs,
    *,
    n_buckets: int,
    sequence_length: int,
    seed: int,
    best_fit: bool = False,
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
    return ordered.mapInArrow(
        packing(inputs, sequence_length, best_fit=best_fit), spark_schema(SAMPLE_SCHEMA)
    )


def is_empty() -> Column:
    """A document without a character has no token."""
    return F.coalesce(F.length("text"), F.lit(0)) == 0


def run(job: StageRun, config: ShardConfig) -> RunReport:
    """Write `samples`, then `manifests` that pin them; the tokenizer file comes before both."""
    kept = job.read(config.source)
    if config.split_by and config.split_by not in kept.columns:
        raise ConfigError(
            "there is no such column to split by",
            where=f"table `{config.source}`",
            got=f"split_by {config.split_by}",
            expected=", ".join(kept.columns),
        )
    if config.with_text_b:
        kept = kept.withColumn("text", F.concat_ws("\n", "text", "text_b"))
    duplicates = job.read(config.duplicates)
    split = with_split(kept, duplicates, config.validation_fraction, job.seed, config.split_by)
    documents = split.select("doc_id", "text", "split")
    reasons = job.write_rejects(rejects_of(kept), config.rejects)
    documents = documents.where(~is_empty())
    size = source_size(documents)
    inputs = _tokenizer(job, config, documents, size)
    leaked = _leaked(config, documents)
    started = time.monotonic()
    n_buckets = config.n_buckets or suitable_buckets(size)
    packed = transform(
        documents,
        inputs,
        n_buckets=n_buckets,
        sequence_length=config.sequence_length,
        seed=job.seed,
        best_fit=config.packing == "best_fit",
    )
    written = _write(job, config, packed, inputs)
    seconds, layout = time.monotonic() - started, written.layout
    rejected = sum(reasons.values())
    return RunReport(
        rows_in=job.input_rows(config.source),
        rows_kept=layout.documents,
        rows_rejected=rejected,
        reasons=reasons,
        bytes_in=size.bytes,
        metrics={**_metrics(layout, config, written.facts, size, seconds), **leaked, _BUCKETS: n_buckets},
    )


def _leaked(config: ShardConfig, documents: DataFrame) -> dict[str, float]:
    """What deduplication has missed, or was not asked to find: it would make the validation look better than it is."""
    if not config.leak_similarity or not config.validation_fraction:
        return {}
    return {"held_out_leaks": float(count_leaks(documents, config.leak_similarity))}


def _tokenizer(job: StageRun, config: ShardConfig, documents: DataFrame, size: SourceSize) -> TextInputs:
    """That of the model, or one trained on a sample of the training split; kept below the artifacts."""
    if config.tokenizer is not None:
        model = artifacts.localise(job.model(config.tokenizer).path)
        return keep_tokenizer(model, read_text_inputs(model), job.artifacts)
    training = documents.where(F.col("split") == TRAIN)
    sample = sample_texts(training, size.train_sample_bytes, config.tokenizer_sample_bytes, job.seed)
    # Two trainings of a unigram tokenizer differ a little: where this work was begun before, its tokenizer is there.
    note = storage.join(job.artifacts, "tokenizers", f"of-{job.step}-{job.fingerprint}")
    again = config.tokenizer_kind == "unigram"
    if again and storage.exists(note):
        digest = storage.read_bytes(note).decode()
    else:
        content = train_in_one_task(sample, config.vocabulary_size, config.sentinels, config.tokenizer_kind)
        digest = save_tokenizer(content, job.artifacts, config.sentinels)
        if again:
            storage.write_bytes(note, digest.encode())
    return read_text_inputs(artifacts.localise(storage.join(job.artifacts, "tokenizers", digest)))


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


def _write(job: StageRun, config: ShardConfig, packed: DataFrame, inputs: TextInputs) -> WrittenSamples:
    spec = SampleSpec(
        target=config.target,
        manifests=config.manifests,
        splits=_SPLITS,
        columns=(*_CONTENT, "bucket"),  # in the order of the ids, a look-up of a document reads one bucket
        content=_CONTENT,
        documents="n_documents",
        tokens="n_tokens",
        bytes=F.lit(ID_BYTES * config.sequence_length),
        tokenizer_hash=inputs.identity,
        sequence_length=config.sequence_length,
    )

    def shape_of(samples: int, row_bytes: float) -> FileShape:
        return file_shape(
            samples, row_bytes, rows_per_row_group=config.rows_per_row_group, file_bytes=config.file_bytes
        )

    packed = kept_on_disk(packed)
    try:
        return write_samples(job, packed, spec, shape_of)
    finally:
        packed.unpersist()


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
    verify=verify_manifests,
    sections=sections,
)
