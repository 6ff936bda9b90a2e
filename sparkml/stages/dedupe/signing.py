"""One pass over the texts: exact groups by hash of the text, and band hashes for one document of each.

Pairs and media are compared exactly, by all that they hold: a passage may stand with many short questions, a caption
with many pictures, and none of them is a near duplicate of another.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial, reduce
from operator import or_

import pyarrow as pa
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, LongType, StructField, StructType

from sparkml.kernels.minhash import band_hashes
from sparkml.stages.dedupe.config import DedupeConfig, best_first, order_alias


def compared_documents(documents: DataFrame) -> DataFrame:
    """The documents with `digest`, a hash of all that is compared, and `text` null where only that is."""
    parts = [name for name in ("media", "text_b") if name in documents.columns]
    of_text = _sha256(F.col("text"))
    if not parts:
        return documents.withColumn("digest", of_text)
    has_more = reduce(or_, (F.col(name).isNotNull() for name in parts))
    # A part that is not there must not count as an empty one.
    hashes = [F.coalesce(_sha256(F.col(name)), F.lit(b"-")) for name in ("text", *parts)]
    return documents.withColumns(
        {
            "text": F.when(~has_more, F.col("text")),
            "digest": F.when(has_more, F.concat(*hashes)).otherwise(of_text),
        }
    )


def _sha256(column: Column) -> Column:
    return F.unhex(F.sha2(column, 256))


def signed_documents(documents: DataFrame, config: DedupeConfig) -> DataFrame:
    """`doc_id`, `digest`, the columns of keep_order, `bands` (64-bit hashes) of compared documents."""
    order = [
        F.col(name).alias(order_alias(position))
        for position, (name, _) in enumerate(config.keep_columns())
        if name != "doc_id"
    ]
    hashed = documents.select("doc_id", "digest", *order, "text")
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
    """Documents of equal digest: `rep_id` (the best of them), `first_id` (the smallest id), `is_rep`.

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
