"""Splits: by hash of the duplicate cluster, alike on any partitioning."""

from __future__ import annotations

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from sparkml.frame.splits import with_split

DUPLICATES = "doc_id string, kept_id string, cluster_id string"


def test_share_and_stability(spark: SparkSession) -> None:
    kept = spark.range(20_000).select(F.col("id").cast("string").alias("doc_id"))
    none = spark.createDataFrame([], DUPLICATES)
    split = with_split(kept, none, 0.1, 17)
    validation = {row["doc_id"] for row in split.where("split = 'validation'").collect()}
    assert 1850 < len(validation) < 2150  # 2000 +- 3.5 standard deviations of a binomial
    again = with_split(kept.orderBy(F.desc("doc_id")).repartition(7), none, 0.1, 17)
    assert {row["doc_id"] for row in again.where("split = 'validation'").collect()} == validation
    other_seed = with_split(kept, none, 0.1, 18)
    assert {row["doc_id"] for row in other_seed.where("split = 'validation'").collect()} != validation


def test_the_cluster_decides_not_the_document(spark: SparkSession) -> None:
    kept = spark.createDataFrame([(f"d{n}",) for n in range(200)], "doc_id string")
    one_cluster = spark.createDataFrame([(f"x{n}", f"d{n}", "c1") for n in range(200)], DUPLICATES)
    assert with_split(kept, one_cluster, 0.5, 17).select("split").distinct().count() == 1
    assert with_split(kept, one_cluster.limit(0), 0.5, 17).select("split").distinct().count() == 2


def test_a_key_keeps_its_documents_together_and_where_they_are(spark: SparkSession) -> None:
    rows = [(f"d{n:03d}", f"site-{n % 40}") for n in range(200)]
    kept = spark.createDataFrame([*rows, ("alone", None)], "doc_id string, site string")
    clusters = spark.createDataFrame([(f"x{n}", f"d{n:03d}", "a") for n in range(50)], DUPLICATES)
    split = {row["doc_id"]: row["split"] for row in with_split(kept, clusters, 0.3, 17, "site").collect()}
    assert len({(site, split[doc_id]) for doc_id, site in rows}) == 40
    assert set(split.values()) == {"train", "validation"}
    more = kept.unionByName(spark.createDataFrame([("new", "site-3")], "doc_id string, site string"))
    grown = {row["doc_id"]: row["split"] for row in with_split(more, None, 0.3, 17, "site").collect()}
    assert {doc_id: grown[doc_id] for doc_id in split} == split
    assert grown["new"] == split["d003"]
