"""Near duplicates that stand on both sides of a split: deduplication has looked for them, this looks harder.

More and shorter bands than deduplication's propose the pairs (48 of 4 minima: of pairs of Jaccard similarity 0.7 nearly
all, of 0.5 still 95 %); the true similarity of their shingles decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.storagelevel import StorageLevel

from sparkml.frame.splits import TRAIN, VALIDATION
from sparkml.kernels.minhash import band_hashes
from sparkml.kernels.verification import verified_pairs
from sparkml.log import get_logger

_log = get_logger(__name__)
_BANDS, _ROWS, _NGRAM, _SEED = 48, 4, 5, 101
# Training documents of one bucket that a held-out one is compared with: a crowded bucket tells the same many times.
_MOST_OF_A_BUCKET = 16
_SHOWN = 5


def leaks(documents: DataFrame, threshold: float) -> DataFrame:
    """(validation_id, train_id, similarity) of `documents` (doc_id, split, text), at least `threshold` similar."""
    # Each side is hashed apart: of the many training documents only those go on that share a band.
    asked = _bands(documents.where(F.col("split") == VALIDATION)).withColumnRenamed("doc_id", "anchor")
    there = _bands(documents.where(F.col("split") == TRAIN))
    shared = there.join(asked.select("band").distinct(), "band", "left_semi")
    nth = F.row_number().over(Window.partitionBy("band").orderBy("doc_id"))
    few = shared.withColumn("nth", nth).where(F.col("nth") <= _MOST_OF_A_BUCKET)
    links = asked.join(few, "band").select("anchor", F.col("doc_id").alias("train_id")).distinct()
    # The held-out text comes first and once; the kernel compares those behind it with it, and names the smaller id
    # first: by its mark that is the held-out one.
    texts = documents.select("doc_id", "text")
    first = links.select("anchor", F.col("anchor").alias("doc_id")).distinct().join(texts, "doc_id")
    others = links.select("anchor", F.col("train_id").alias("doc_id")).join(texts, "doc_id")
    rows = _marked(first, is_anchor=True).unionByName(_marked(others, is_anchor=False))
    ordered = rows.repartition("anchor").sortWithinPartitions("anchor", F.desc("is_anchor"), "doc_id")
    compared = ordered.mapInArrow(
        partial(verified_pairs, ngram=_NGRAM), "doc_a string, doc_b string, similarity double"
    )
    return compared.where(F.col("similarity") >= threshold).select(
        _unmarked("doc_a").alias("validation_id"), _unmarked("doc_b").alias("train_id"), "similarity"
    )


def _marked(rows: DataFrame, *, is_anchor: bool) -> DataFrame:
    doc_id = F.concat(F.lit("0" if is_anchor else "1"), "doc_id").alias("doc_id")
    return rows.select("anchor", F.lit(is_anchor).alias("is_anchor"), doc_id, "text")


def _unmarked(name: str) -> Column:
    return F.expr(f"substring({name}, 2)")


def count_leaks(documents: DataFrame, threshold: float) -> int:
    """Held-out documents that have a near duplicate among the training ones; some are named in the log."""
    found = leaks(documents, threshold).persist(StorageLevel.DISK_ONLY)
    try:
        for pair in found.orderBy(F.desc("similarity"), "validation_id", "train_id").limit(_SHOWN).collect():
            _log.warning("held-out document %s has a near duplicate in training: %s (similarity %.2f)", *pair)
        return int(found.select("validation_id").distinct().count())
    finally:
        found.unpersist()


def _bands(documents: DataFrame) -> DataFrame:
    return documents.select("doc_id", "text").mapInArrow(_signed, "doc_id string, band long")


def _signed(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        bands = band_hashes(batch.column("text"), n_bands=_BANDS, n_rows=_ROWS, ngram=_NGRAM, seed=_SEED)
        ids = batch.column("doc_id").take(pc.list_parent_indices(bands))
        yield pa.RecordBatch.from_arrays([ids, bands.flatten()], ["doc_id", "band"])
