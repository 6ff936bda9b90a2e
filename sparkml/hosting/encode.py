"""Examples to samples on Spark's workers: in buckets by a hash of the id, so that nothing depends on the cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkml.frame.spark_schemas import spark_schema
from sparkml.inference.features import OnSamples
from sparkml.tasks.task import Reject, Task, task_spec

# Examples that are encoded at once: enough to keep a tokenizer busy, few enough for images.
_EXAMPLES_AT_ONCE = 256
_PLACE = [("split", pa.string()), ("bucket", pa.int32()), ("nth", pa.int32()), ("doc_id", pa.string())]
_COUNTS = [("window", pa.int32()), ("n_tokens", pa.int32()), ("n_documents", pa.int32())]
_REJECT = [
    ("drop_reason", pa.string()),
    ("value", pa.float64()),
    ("threshold", pa.float64()),
    ("detail", pa.string()),
]


def encoded_schema(task: Task[Any]) -> pa.Schema:
    """Samples and rejects in one: a reject has a `drop_reason` and nothing of a sample."""
    return pa.schema([*_PLACE, *_COUNTS, *task.columns, *_REJECT])


def encode_examples(
    examples: DataFrame,
    task: Task[Any],
    *,
    n_buckets: int,
    seed: int,
    network: OnSamples | None = None,
) -> DataFrame:
    """Examples with `split` -> `encoded_schema`, numbered within their bucket and split in the order of a hash.

    `network`: what is applied to every sample.
    """
    bucket = F.pmod(F.xxhash64("doc_id"), F.lit(n_buckets)).cast("int")
    keyed = examples.select(
        "*", bucket.alias("bucket"), F.xxhash64(F.lit(seed).cast("long"), "doc_id").alias("_order")
    )
    # A bucket is a task; hashing the bucket number again would leave some tasks empty and double others.
    grouped = keyed.repartitionById(n_buckets, F.col("bucket"))
    ordered = grouped.sortWithinPartitions("split", "bucket", "_order", "doc_id").drop("_order")
    encode = encoding(task_spec(task), task.inputs, network)
    schema = encoded_schema(network.wrap(task) if network else task)
    return ordered.mapInArrow(encode, spark_schema(schema))


def encoding(
    spec: Mapping[str, Any], inputs: Any, network: OnSamples | None = None
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The function for `mapInArrow`."""

    def encode(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import os

        from sparkml.tasks.task import make_task

        # A task owns one core: the tokenizers library would start a thread for every core of the machine.
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        task = make_task(spec, inputs)
        numbers = _Numbers()
        for whole in batches:
            for start in range(0, whole.num_rows, _EXAMPLES_AT_ONCE):
                yield from _encoded(task, whole.slice(start, _EXAMPLES_AT_ONCE), numbers, network)

    return encode


class _Numbers:
    """Counts the samples of each bucket and split, which arrive in one piece."""

    def __init__(self) -> None:
        self._key: tuple[str, int] | None = None
        self._next = 0

    def of(self, splits: list[str], buckets: list[int]) -> list[int]:
        """The number of each sample within its bucket and split."""
        found = []
        for key in zip(splits, buckets, strict=True):
            if key != self._key:
                self._key, self._next = key, 0
            found.append(self._next)
            self._next += 1
        return found


def _encoded(
    task: Task[Any], examples: pa.RecordBatch, numbers: _Numbers, network: OnSamples | None
) -> Iterator[pa.RecordBatch]:
    done = task.encode(examples, purpose="train")
    samples = done.samples
    if network is not None:
        if samples.num_rows:
            samples = network.apply(task, samples)
        task = network.wrap(task)
    schema = encoded_schema(task)
    if samples.num_rows:
        place = samples.column("example")
        splits, buckets, ids = (
            pc.take(examples.column(name), place) for name in ("split", "bucket", "doc_id")
        )
        nth = numbers.of(splits.to_pylist(), buckets.to_pylist())
        windows = samples.column("window")
        first = pc.cast(pc.equal(windows, 0), pa.int32())
        own = [samples.column(name) for name, _ in task.columns]
        nothing = [pa.nulls(samples.num_rows, kind) for _, kind in _REJECT]
        columns = [
            splits,
            buckets,
            pa.array(nth, pa.int32()),
            ids,
            windows,
            samples.column("n_tokens"),
            first,
        ]
        yield _record_batch([*columns, *own, *nothing], schema)
    if done.rejects:
        yield _record_batch(_rejected(examples, done.rejects, task), schema)


def _rejected(examples: pa.RecordBatch, rejects: Any, task: Task[Any]) -> list[pa.Array]:
    found: list[Reject] = sorted(rejects, key=lambda reject: reject.example)
    place = pa.array(np.asarray([reject.example for reject in found], np.int32))
    splits, buckets, ids = (pc.take(examples.column(name), place) for name in ("split", "bucket", "doc_id"))
    n = len(found)
    nothing = [pa.nulls(n, kind) for _, kind in (*_COUNTS, *task.columns)]
    reasons = [
        pa.array([reject.reason for reject in found], pa.string()),
        pa.array([reject.value for reject in found], pa.float64()),
        pa.array([reject.threshold for reject in found], pa.float64()),
        pa.array([reject.detail for reject in found], pa.string()),
    ]
    return [splits, buckets, pa.nulls(n, pa.int32()), ids, *nothing, *reasons]


def _record_batch(columns: list[pa.Array], schema: pa.Schema) -> pa.RecordBatch:
    cast = [column.cast(field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(cast, schema=schema)
