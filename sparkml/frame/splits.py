"""Train and validation: decided by a hash of the duplicate cluster (near duplicates stay on one side), or of a key."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

TRAIN = "train"
VALIDATION = "validation"
_BUCKETS = 1_000_000


def split_of(cluster_id: Column, validation_fraction: float, seed: int) -> Column:
    """The split of a cluster: the same for the same seed, on any cluster size and in any run."""
    bucket = F.pmod(F.xxhash64(F.lit(seed).cast("long"), cluster_id), F.lit(_BUCKETS))
    limit = round(validation_fraction * _BUCKETS)
    return F.when(bucket < limit, F.lit(VALIDATION)).otherwise(F.lit(TRAIN))


def with_split(
    kept: DataFrame, duplicates: DataFrame | None, validation_fraction: float, seed: int, by: str = ""
) -> DataFrame:
    """`kept` with a column `split`; a document without duplicates is its own cluster.

    `by`: the column whose value decides instead (a site, an author), where it has one: whatever else the table comes to
    hold, documents of one value stay together and where they are.
    """
    if by:
        key = F.coalesce(F.col(by).cast("string"), F.col("doc_id"))
        return kept.withColumn("split", split_of(key, validation_fraction, seed))
    if duplicates is None:
        return kept.withColumn("split", split_of(F.col("doc_id"), validation_fraction, seed))
    clusters = duplicates.select(
        F.col("kept_id").alias("doc_id"), F.col("cluster_id").alias("_cluster_id")
    ).dropDuplicates(["doc_id"])  # every duplicate of one kept document names the same cluster
    joined = kept.join(clusters, "doc_id", "left")
    cluster = F.coalesce(F.col("_cluster_id"), F.col("doc_id"))
    return joined.withColumn("split", split_of(cluster, validation_fraction, seed)).drop("_cluster_id")
