"""Candidate pairs from LSH buckets, and their true similarity.

Here a 64-bit key, the hash of its id, stands for a document: 24 bytes a row instead of 60. Keys only propose
pairs; a verified pair names document ids, so a collision of keys costs a comparison and never joins documents.
"""

from __future__ import annotations

from functools import partial

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from sparkml.kernels.buckets import bucket_pairs
from sparkml.kernels.verification import verified_pairs
from sparkml.stages.dedupe.config import DedupeConfig


def document_key() -> Column:
    """The 64-bit key of a document."""
    return F.xxhash64("doc_id")


def candidate_links(grouped: DataFrame, config: DedupeConfig) -> DataFrame:
    """(anchor, key, uncompared): what is compared with what, once, and each anchor with itself.

    An anchor's own row brings its text, and says how many pairs of its crowded buckets are left out.
    """
    bands = F.explode("bands").alias("band_hash")
    signatures = grouped.where("is_rep").select(document_key().alias("key"), bands)
    # Sorted streams let the kernel pair a bucket of any size in the memory of one batch; a self-join cannot.
    buckets = signatures.repartition("band_hash").sortWithinPartitions("band_hash", "key")
    pairs = buckets.mapInArrow(
        partial(bucket_pairs, window=config.bucket_window), "anchor bigint, key bigint, uncompared bigint"
    )
    itself = F.struct("anchor", F.col("anchor").alias("key"), F.lit(0).cast("bigint").alias("uncompared"))
    links = pairs.select(F.explode(F.array(F.struct("anchor", "key", "uncompared"), itself)).alias("link"))
    return links.groupBy("link.anchor", "link.key").agg(F.sum("link.uncompared").alias("uncompared"))


def verified_candidates(links: DataFrame, documents: DataFrame, config: DedupeConfig) -> DataFrame:
    """(doc_a < doc_b, similarity) of every candidate pair, similar or not.

    A text is shipped once as an anchor and once for each comparison with another anchor.
    """
    texts = documents.select(document_key().alias("key"), "doc_id", "text")
    rows = links.join(texts, "key").select(
        "anchor", (F.col("key") == F.col("anchor")).alias("is_anchor"), "doc_id", "text"
    )
    grouped = rows.repartition("anchor").sortWithinPartitions("anchor", F.desc("is_anchor"), "doc_id")
    return grouped.mapInArrow(
        partial(verified_pairs, ngram=config.ngram), "doc_a string, doc_b string, similarity double"
    )
