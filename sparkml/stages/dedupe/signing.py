"""One pass over the texts: exact groups by hash of the text, and band hashes for one document of each."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, LongType, StructField, StructType

from sparkml.kernels.minhash import band_hashes
from sparkml.stages.dedupe.config import DedupeConfig, best_first, order_alias


def signed_documents(documents: DataFrame, config: DedupeConfig) -> DataFrame:
    """`doc_id`, `digest` (SHA-256 of the text), the columns of keep_order, `bands` (64-bit hashes)."""
    order = [
        F.col(name).alias(order_alias(position))
        for position, (name, _) in enumerate(config.keep_columns())
        if name != "doc_id"
    ]
    hashed = documents.select("doc_id", F.unhex(F.sha2(F.col("text"), 256)).alias("digest"), *order, "text")
    bands = StructField("bands", ArrayType(LongType()))
    if not config.near:
        return hashed.drop("text").withColumn("bands", F.lit(None).cast(bands.dataType))
    schema = StructType([*hashed.drop("text").schema.fields, bands])
    sign = partial(
        sign_batches,
        n_bands=config.n_bands,
        n_rows=config.n_rows,
        ngram=config.ngram,
        seed=config.signature_seed,
    )
    return hashed.mapInArrow(sign, schema)


def sign_batches(
    batches: Iterator[pa.RecordBatch], *, n_bands: int, n_rows: int, ngram: int, seed: int
) -> Iterator[pa.RecordBatch]:
    """Replace the text, the last column, by its band hashes: texts do not leave the kernel."""
    for batch in batches:
        bands = band_hashes(batch.column("text"), n_bands=n_bands, n_rows=n_rows, ngram=ngram, seed=seed)
        names = [name for name in batch.schema.names if name != "text"]
        yield pa.RecordBatch.from_arrays([*(batch.column(name) for name in names), bands], [*names, "bands"])


def with_exact_groups(signed: DataFrame, config: DedupeConfig) -> DataFrame:
    """Documents of equal text: `rep_id` (the best of them), `first_id` (the smallest id), `is_rep`.

    Only a representative keeps its `bands`: the near search sees every text once.
    """
    group = Window.partitionBy("digest")
    best = group.orderBy(*best_first(config))
    grouped = signed.select(
        "*",
        F.first("doc_id").over(best).alias("rep_id"),
        F.min("doc_id").over(group).alias("first_id"),
        (F.row_number().over(best) == 1).alias("is_rep"),
    )
    return grouped.withColumn("bands", F.when(F.col("is_rep"), F.col("bands"))).drop("digest")
