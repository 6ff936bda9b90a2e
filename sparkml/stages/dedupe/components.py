"""Connected components of the verified pairs.

One task solves up to `single_task_edges` edges by union-find in memory: Spark jobs would only add seconds.
More edges are contracted first (randomised contraction: Boegeholz, Brand, Todor, ICDE 2020). A round orders
all documents by a hash; the smallest of a document and its neighbours then represents it. A fixed
share of the documents disappears in every round, in expectation and on any graph, also on the long paths
where spreading the smallest id takes one round per document. A finished component has no edge left and
takes no further part. So rounds are O(log n), and their edges shrink geometrically.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkml.kernels.unionfind import components
from sparkml.log import get_logger

_log = get_logger(__name__)

_COMPONENTS = "node string, component string"


def connected_components(
    edges: DataFrame, n_edges: int, *, single_task_edges: int, reliable: bool = False
) -> DataFrame:
    """(node, component) for every end of `edges` (src, dst); a component is named by its smallest node.

    Nodes are ordered by their UTF-8 bytes. The result does not depend on the partitions, nor on which of
    the two ways is taken.
    """
    rounds: list[DataFrame] = []
    while n_edges > single_task_edges:
        representatives, edges, n_edges = _contract(edges, len(rounds), reliable)
        rounds.append(representatives)
        _log.info("clustering round %d: %d edges remain", len(rounds), n_edges)
    roots = edges.coalesce(1).mapInArrow(_union_find, _COMPONENTS)
    for representatives in reversed(rounds):
        roots = _expand(representatives, roots)
    return _named_by_smallest(roots) if rounds else roots


def _union_find(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    table = pa.Table.from_batches(
        list(batches), schema=pa.schema([("src", pa.string()), ("dst", pa.string())])
    )
    if table.num_rows:
        yield components(table.column("src").combine_chunks(), table.column("dst").combine_chunks())


def _contract(edges: DataFrame, turn: int, reliable: bool) -> tuple[DataFrame, DataFrame, int]:
    """One round: each node's representative, and the edges between different representatives."""
    swapped = edges.select(F.col("dst").alias("src"), F.col("src").alias("dst"))
    both = edges.select("src", "dst").unionByName(swapped)
    rank = F.xxhash64(F.lit(turn), "dst")  # another order in every round, or a path could keep its length
    own = F.struct(F.xxhash64(F.lit(turn), "src").alias("rank"), F.col("src").alias("node"))
    nearest = both.groupBy("src").agg(
        F.min(F.struct(rank.alias("rank"), F.col("dst").alias("node"))).alias("best")
    )
    representatives = _checkpoint(
        nearest.select(
            F.col("src").alias("node"), F.least("best", own).getField("node").alias("representative")
        ),
        reliable,
    )
    contracted = (
        edges.join(representatives.toDF("src", "a"), "src")
        .join(representatives.toDF("dst", "b"), "dst")
        .where("a <> b")
        .select(F.least("a", "b").alias("src"), F.greatest("a", "b").alias("dst"))
        .distinct()
    )
    remaining = _checkpoint(contracted, reliable)
    return representatives, remaining, remaining.count()


def _expand(representatives: DataFrame, roots: DataFrame) -> DataFrame:
    """Every node with the root of its representative; one without edges left is a root itself."""
    known = roots.toDF("representative", "root")
    joined = representatives.join(known, "representative", "left")
    return joined.select("node", F.coalesce("root", "representative").alias("component"))


def _named_by_smallest(roots: DataFrame) -> DataFrame:
    smallest = roots.groupBy("component").agg(F.min("node").alias("smallest"))
    return roots.join(smallest, "component").select("node", F.col("smallest").alias("component"))


def _checkpoint(frame: DataFrame, reliable: bool) -> DataFrame:
    # Without a cut the plan doubles in every round. Local blocks go with their executor; then the run
    # fails, and the next one repeats it, unless the checkpoints are reliable.
    return frame.checkpoint() if reliable else frame.localCheckpoint()
