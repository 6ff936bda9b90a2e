"""Labelled rows to samples that ranks train on: what every stage does that learns a task from a table."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from pydantic import Field
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkml.errors import InputError
from sparkml.frame.run import StageRun
from sparkml.frame.sizing import MOST_BUCKETS, bucket_count
from sparkml.frame.splits import TRAIN, VALIDATION
from sparkml.hosting.encode import encode_examples
from sparkml.hosting.examples import Columns, examples_of, split_as_given
from sparkml.hosting.samples import SampleSpec, WrittenSamples, bytes_of, kept_on_disk, write_samples
from sparkml.hosting.sizes import FileShape, file_shape
from sparkml.hosting.training import TrainingConfig
from sparkml.inference.features import OnSamples
from sparkml.tasks.task import Task

TEST = "test"
_SPLITS = (TRAIN, VALIDATION)
# Encoding a text takes about a second a megabyte; an image or sound of the same size takes less.
_SMALL_BUCKET_BYTES, _LARGE_BUCKET_BYTES = 4_000_000, 128_000_000


class LearningConfig(TrainingConfig):
    """The settings that every stage has which learns a task from labelled rows."""

    columns: Columns = Field(Columns(), description="Which columns of the table the task reads")
    validation_fraction: float = Field(
        0.1, gt=0, lt=1, description="Part of the clusters that is held out, where the table names no split"
    )
    n_buckets: int | None = Field(
        None, ge=1, le=MOST_BUCKETS, description="Groups that are encoded on their own; null: by bytes"
    )


def labelled_examples(
    job: StageRun, config: LearningConfig, source: str, duplicates: str | None, task: type[Task[Any]]
) -> DataFrame:
    """The rows of a table with the columns of a task, and their split."""
    examples = examples_of(job.read(source), task, config.columns, where=f"table `{source}`")
    known = job.read(duplicates) if duplicates else None
    return split_as_given(examples, known, config.validation_fraction, job.seed)


def encoded_examples(
    job: StageRun,
    config: LearningConfig,
    source: str,
    examples: DataFrame,
    task: Task[Any],
    network: OnSamples | None = None,
) -> DataFrame:
    """The samples and rejects of examples, but for those that are set aside for a test; see `encode_examples`."""
    n_buckets = config.n_buckets or bucket_count(
        job.input_bytes(source), from_bytes=_SMALL_BUCKET_BYTES, to_bytes=_LARGE_BUCKET_BYTES
    )
    used = examples.where(F.col("split") != TEST)
    return encode_examples(used, task, n_buckets=n_buckets, seed=job.seed, network=network)


def put_samples(
    job: StageRun,
    encoded: DataFrame,
    task: Task[Any],
    *,
    samples: str,
    manifests: str,
    rejects: str,
    further_rejects: DataFrame | None = None,
) -> tuple[WrittenSamples, dict[str, int]]:
    """Write samples, manifests and rejects of what `encoded_examples` gives, and count the rejects by reason.

    `task`: that of the samples, which have its columns. InputError where there is nothing to train or to measure on.
    """
    kept = kept_on_disk(encoded)
    try:
        bad = F.col("drop_reason").isNotNull()
        rejected = kept.where(bad)
        if further_rejects is not None:
            rejected = rejected.unionByName(further_rejects, allowMissingColumns=True)
        reasons = job.write_rejects(rejected, rejects)
        written = write_samples(job, kept.where(~bad), _spec(task, samples, manifests), _shape_of)
    finally:
        kept.unpersist()
    train, held_out = (rows_of_split(written, split) for split in _SPLITS)
    if not train or not held_out:
        raise InputError(
            "too few examples to train and to measure",
            got=f"{train} training and {held_out} held-out examples",
            expected="at least one of each",
            next_action="give more examples, or raise validation_fraction",
        )
    return written, reasons


def rows_of_split(samples: WrittenSamples, split: str) -> int:
    """Examples of a split that became samples."""
    return sum(bucket.documents for bucket in samples.layout.buckets if bucket.split == split)


def _spec(task: Task[Any], samples: str, manifests: str) -> SampleSpec:
    columns = ("doc_id", "window", "n_tokens", *(name for name, _ in task.columns))
    return SampleSpec(
        target=samples,
        manifests=manifests,
        splits=_SPLITS,
        columns=columns,
        content=columns,
        documents="n_documents",
        tokens="n_tokens",
        bytes=bytes_of([name for name, kind in task.columns if pa.types.is_binary(kind)]),
        tokenizer_hash=task.inputs.identity,
        sequence_length=0,
    )


def _shape_of(samples: int, row_bytes: float) -> FileShape:
    return file_shape(samples, row_bytes, rows_per_row_group=None, file_bytes=128 << 20)
