"""Duplicate clusters: counts by kind, sizes, similarities, and pairs with their differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame, Row, Window
from pyspark.sql import functions as F

from sparkml.report.charts import Bars, Chart, Histogram
from sparkml.report.config import ReportConfig
from sparkml.report.differences import Comparison, compare
from sparkml.report.formats import excerpt, ratio, shown
from sparkml.report.lake import Excerpt, number
from sparkml.report.section import Section
from sparkml.report.view import StepView

_BINS = 20  # of similarity, between the threshold and 1
_BANDS = 24  # of similarity from 0 to 1, from which examples are taken in turn
_COMPARED_CHARACTERS = 20_000  # of a document at most: the words before a difference are folded
_LARGEST = 5


@dataclass(frozen=True)
class Kind:
    """Duplicates of one kind."""

    name: str
    documents: int
    share: float
    mean_similarity: float | None


@dataclass(frozen=True)
class Pair:
    """A duplicate and the document that it matched."""

    kind: str
    similarity: float | None
    doc_id: str
    partner_id: str
    name: str
    partner_name: str
    is_kept: bool  # the partner is the document that stays
    comparison: Comparison


@dataclass(frozen=True)
class Cluster:
    """One of the largest clusters, by the document that stays."""

    cluster_id: str
    documents: int
    kept_id: str
    name: str
    text: str


@dataclass(frozen=True)
class Duplicates:
    """Everything the section shows. Sizes count the document that stays."""

    documents: int
    clusters: int
    largest: int
    kinds: tuple[Kind, ...]
    size_labels: tuple[str, ...]
    size_counts: tuple[int, ...]
    edges: tuple[float, ...]
    similarities: tuple[int, ...]
    threshold: float | None
    top: tuple[Cluster, ...]
    pairs: tuple[Pair, ...]


def gather(view: StepView) -> Duplicates | None:
    """Clusters, kinds and pairs of one deduplication; None where it left no table of duplicates."""
    duplicates, limits = view.table("duplicates"), view.limits
    if duplicates is None:
        return None
    clusters = duplicates.groupBy("cluster_id").agg(
        (F.count(F.lit(1)) + 1).alias("documents"), F.min("kept_id").alias("kept_id")
    )
    sizes = _sizes(clusters)
    threshold = number(view.config, "similarity_threshold")
    kinds, edges, similarities = _counts(duplicates, threshold)
    top = clusters.orderBy(F.desc("documents"), "cluster_id").limit(_LARGEST).collect()
    examples = _examples(duplicates, limits.duplicate_examples)
    wanted = [row["kept_id"] for row in top]
    wanted += [row[key] for row in examples for key in ("doc_id", "partner_id")]
    # The texts that were compared are those that the step read.
    texts = view.documents("source", wanted, _COMPARED_CHARACTERS)
    return Duplicates(
        documents=sum(kind.documents for kind in kinds),
        clusters=sum(count for _, count, _ in sizes),
        largest=max((largest for _, _, largest in sizes), default=0),
        kinds=kinds,
        size_labels=tuple(label for label, _, _ in sizes),
        size_counts=tuple(count for _, count, _ in sizes),
        edges=edges,
        similarities=similarities,
        threshold=threshold,
        top=tuple(_cluster(row.asDict(), texts, limits) for row in top),
        pairs=tuple(
            _pair(row, texts, limits)
            for row in examples
            if row["doc_id"] in texts and row["partner_id"] in texts
        ),
    )


def _counts(
    duplicates: DataFrame, threshold: float | None
) -> tuple[tuple[Kind, ...], tuple[float, ...], tuple[int, ...]]:
    """Kinds, and the similarities of all but the exact ones, from a tenth below the threshold to 1: one pass."""
    low = max(0.0, int(10 * (0.5 if threshold is None else threshold) + 1e-9) / 10 - 0.1)
    width = (1 - low) / _BINS
    place = F.least(F.lit(_BINS - 1), F.floor((F.col("similarity") - low) / width))
    clamped = F.when(F.col("similarity").isNotNull(), F.greatest(F.lit(0), place)).cast("int")
    rows = (
        duplicates.groupBy("kind", clamped.alias("bin"))
        .agg(F.count(F.lit(1)).alias("documents"), F.sum("similarity").alias("similarity"))
        .collect()
    )
    kinds: dict[str, list[Row]] = {}
    counts = [0] * _BINS
    for row in rows:
        kinds.setdefault(row["kind"] or "(none)", []).append(row)
        if row["kind"] != "exact" and row["bin"] is not None:
            counts[row["bin"]] += row["documents"]
    total = sum(row["documents"] for row in rows)
    found = [_kind(name, group, total) for name, group in kinds.items()]
    edges = tuple(round(low + width * at, 6) for at in range(_BINS + 1))
    ordered = tuple(sorted(found, key=lambda kind: (-kind.documents, kind.name)))
    return ordered, edges, tuple(counts) if any(counts) else ()


def _kind(name: str, rows: list[Row], total: int) -> Kind:
    documents = sum(row["documents"] for row in rows)
    measured = [row for row in rows if row["similarity"] is not None]
    similar = ratio(sum(r["similarity"] for r in measured), sum(r["documents"] for r in measured))
    return Kind(name, documents, documents / total, similar)


def size_label(power: int) -> str:
    """The sizes s with 2^power <= s - 1 < 2^(power + 1), that is: by duplicates, in doubling ranges."""
    low, high = 2**power + 1, 2 ** (power + 1)
    return str(low) if low == high else f"{low:,}–{high:,}"


def _sizes(clusters: DataFrame) -> list[tuple[str, int, int]]:
    """(label, clusters, largest size) in doubling ranges, with the empty ranges between them."""
    power = F.floor(F.log2(F.col("documents") - 1)).cast("int")
    rows = (
        clusters.groupBy(power.alias("power"))
        .agg(F.count(F.lit(1)).alias("clusters"), F.max("documents").alias("largest"))
        .collect()
    )
    found = {row["power"]: (row["clusters"], row["largest"]) for row in rows}
    powers = range(max(found, default=-1) + 1)
    return [(size_label(at), *found.get(at, (0, 0))) for at in powers]


def _examples(duplicates: DataFrame, limit: int) -> list[dict[str, Any]]:
    """Pairs from all bands of similarity in turn, the least similar first; the same ones on every run."""
    if not limit:
        return []
    near = duplicates.where((F.col("kind") != "exact") & (F.col("similarity") < 1))
    band = F.floor(F.col("similarity") * _BANDS).cast("int")
    order = Window.partitionBy("_band").orderBy(F.xxhash64("doc_id"), "doc_id")
    ranked = near.withColumn("_band", band).withColumn("_rank", F.row_number().over(order))
    # The first of every band, then the second of every band, until the limit is reached.
    few = ranked.where(F.col("_rank") <= limit).orderBy("_rank", "_band").limit(limit)
    rows = [row.asDict() for row in few.collect()]
    return sorted(rows, key=lambda row: (row["similarity"], row["doc_id"]))


def _cluster(row: Mapping[str, Any], texts: Mapping[str, Excerpt], limits: ReportConfig) -> Cluster:
    kept = row["kept_id"]
    document = texts.get(kept)
    text = excerpt(document.text, limits.excerpt_characters // 2) if document else ""
    return Cluster(row["cluster_id"], row["documents"], kept, document.name if document else kept, text)


def _pair(row: Mapping[str, Any], texts: Mapping[str, Excerpt], limits: ReportConfig) -> Pair:
    left, right = row["doc_id"], row["partner_id"]
    return Pair(
        row["kind"],
        row["similarity"],
        left,
        right,
        texts[left].name,
        texts[right].name,
        right == row["kept_id"],
        compare(shown(texts[left].text), shown(texts[right].text), max_words=limits.compared_words),
    )


def charts(found: Duplicates) -> dict[str, Chart]:
    """Sizes of clusters, and similarities of near duplicates."""
    made: dict[str, Chart] = {}
    if found.size_counts:
        made["sizes"] = Bars(
            found.size_labels,
            found.size_counts,
            x_label="documents in the cluster",
            y_label="clusters",
            description=f"Bar chart of cluster sizes: {found.clusters:,} clusters, the largest of "
            f"{found.largest:,} documents.",
        )
    if found.similarities:
        made["similarities"] = Histogram(
            found.edges,
            found.similarities,
            x_label="Jaccard similarity to the partner",
            y_label="near duplicates",
            description=f"Histogram of the similarity of {sum(found.similarities):,} near duplicates.",
            mark=found.threshold,
            mark_label="" if found.threshold is None else f"threshold {found.threshold:g}",
        )
    return made


DUPLICATES = Section("Duplicates", gather, template="duplicates", charts=charts)
