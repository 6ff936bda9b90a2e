"""From verified pairs to one row per duplicate: its cluster, its partner, and the document that stays."""

from __future__ import annotations

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from sparkml.stages.dedupe.config import DedupeConfig, best_first

EXACT, NEAR = "exact", "near"


def duplicates_of(
    grouped: DataFrame, edges: DataFrame, components: DataFrame, config: DedupeConfig
) -> DataFrame:
    """The rows of `duplicates`: every document but the best of its cluster.

    `exact`: the partner is the document that stands for all of equal text, similarity 1. `near`: the
    partner is the most similar verified neighbour (equal: the smaller id). Both name the same `kept_id`,
    the best of the whole cluster, and the same `cluster_id`, the smallest id of the cluster, exact copies
    included.
    """
    clusters = near_clusters(grouped, components, config).join(partners(edges), "rep_id")
    known = grouped.select("doc_id", "rep_id", "first_id", "is_rep").join(clusters, "rep_id", "left")
    is_near = F.col("is_rep")
    return known.where("NOT is_rep OR kept_id <> doc_id").select(
        "doc_id",
        F.when(is_near, NEAR).otherwise(EXACT).alias("kind"),
        F.coalesce("cluster_id", "first_id").alias("cluster_id"),
        F.when(is_near, F.col("partner_id")).otherwise(F.col("rep_id")).alias("partner_id"),
        F.coalesce("kept_id", "rep_id").alias("kept_id"),
        F.when(is_near, F.col("similarity")).otherwise(F.lit(1.0)).alias("similarity"),
    )


def near_clusters(grouped: DataFrame, components: DataFrame, config: DedupeConfig) -> DataFrame:
    """(rep_id, kept_id, cluster_id) of every representative that has a near duplicate."""
    cluster = Window.partitionBy("component")
    members = grouped.where("is_rep").join(components.withColumnRenamed("node", "doc_id"), "doc_id")
    return members.select(
        F.col("doc_id").alias("rep_id"),
        F.first("doc_id").over(cluster.orderBy(*best_first(config))).alias("kept_id"),
        F.min("first_id").over(cluster).alias("cluster_id"),
    )


def partners(edges: DataFrame) -> DataFrame:
    """(rep_id, partner_id, similarity): the most similar neighbour of each end of (src, dst, similarity)."""
    there = edges.select(F.col("src").alias("rep_id"), F.col("dst").alias("partner_id"), "similarity")
    back = edges.select(F.col("dst").alias("rep_id"), F.col("src").alias("partner_id"), "similarity")
    # The smallest of (-similarity, id): the highest similarity, then the smaller id.
    best = F.min(F.struct((-F.col("similarity")).alias("distance"), "partner_id")).alias("best")
    nearest = there.unionByName(back).groupBy("rep_id").agg(best)
    return nearest.select("rep_id", "best.partner_id", (-F.col("best.distance")).alias("similarity"))
