"""Near duplicates that stand on both sides of a split: deduplication has looked for them, this looks harder.

More and shorter bands than deduplication's propose the pairs (48 of 4 minima: of pairs of Jaccard similarity 0.7 nearly
all, of 0.5 still 95 %); the true similarity of their shingles decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, Window
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
    signed = documents.select("doc_id", "split", "text").mapInArrow(
        _signed, "doc_id string, split string, band long"
    )
    asked = signed.where(F.col("split") == VALIDATION).select("band", F.col("doc_id").alias("validation_id"))
    there = signed.where(F.col("split") == TRAIN).join(asked.select("band").distinct(), "band", "left_semi")
    nearest = Window.partitionBy("band").orderBy("doc_id")
    few = there.withColumn("_nth", F.row_number().over(nearest)).where(f"_nth <= {_MOST_OF_A_BUCKET}")
    pairs = asked.join(few.select("band", F.col("doc_id").alias("train_id")), "band")
    links = pairs.select("validation_id", "train_id").distinct()
    # The held-out text comes first and once; the kernel compares those behind it with it.
    texts = documents.select("doc_id", "text")
    anchors = links.select(F.col("validation_id").alias("anchor")).distinct()
    first = anchors.join(texts, anchors.anchor == texts.doc_id).select(
        "anchor", F.lit(True).alias("is_anchor"), "doc_id", "text"
    )
    others = links.join(texts, links.train_id == texts.doc_id).select(
        F.col("validation_id").alias("anchor"), F.lit(False).alias("is_anchor"), "doc_id", "text"
    )
    grouped = first.unionByName(others).repartition("anchor")
    ordered = grouped.sortWithinPartitions("anchor", F.desc("is_anchor"), "doc_id")
    compared = ordered.mapInArrow(
        partial(verified_pairs, ngram=_NGRAM), "doc_a string, doc_b string, similarity double"
    )
    similar = compared.where(F.col("similarity") >= threshold)
    # The kernel names the smaller id first.
    held_out = documents.where(F.col("split") == VALIDATION).select(F.col("doc_id").alias("validation_id"))
    either = similar.join(held_out, F.expr("validation_id = doc_a or validation_id = doc_b"))
    train = F.when(F.col("validation_id") == F.col("doc_a"), F.col("doc_b")).otherwise(F.col("doc_a"))
    return either.select("validation_id", train.alias("train_id"), "similarity")


def count_leaks(documents: DataFrame, threshold: float) -> int:
    """Held-out documents that have a near duplicate among the training ones; some are named in the log."""
    found = leaks(documents, threshold).persist(StorageLevel.DISK_ONLY)
    try:
        for pair in found.orderBy(F.desc("similarity"), "validation_id", "train_id").limit(_SHOWN).collect():
            _log.warning("held-out document %s has a near duplicate in training: %s (similarity %.2f)", *pair)
        return int(found.select("validation_id").distinct().count())
    finally:
        found.unpersist()


def _signed(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        bands = band_hashes(batch.column("text"), n_bands=_BANDS, n_rows=_ROWS, ngram=_NGRAM, seed=_SEED)
        of_row = pc.list_parent_indices(bands)
        columns = {name: batch.column(name).take(of_row) for name in ("doc_id", "split")}
        yield pa.RecordBatch.from_pydict({**columns, "band": bands.flatten()})
