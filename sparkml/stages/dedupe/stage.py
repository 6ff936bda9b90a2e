"""The stage `dedupe`: one document of every cluster of equal or nearly equal texts stays.

    clean -> groups of equal text -> MinHash bands -> pairs -> true Jaccard -> clusters -> kept | duplicates

Documents of equal text are duplicates at any length, also empty ones; documents shorter than a shingle are never
near duplicates. `signing` says what is compared of pairs and media. Row order and partitions do not change the result.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from sparkml.errors import InputError
from sparkml.frame import storage
from sparkml.frame.lineage import Station, TracedRun, rows_of_document
from sparkml.frame.run import StageRun
from sparkml.frame.session import checkpoint_below
from sparkml.frame.stage import RunReport, Stage
from sparkml.log import get_logger
from sparkml.stages.dedupe.candidates import candidate_links, verified_candidates
from sparkml.stages.dedupe.components import connected_components
from sparkml.stages.dedupe.config import DedupeConfig
from sparkml.stages.dedupe.decisions import EXACT, NEAR, duplicates_of
from sparkml.stages.dedupe.signing import compared_documents, signed_documents, with_exact_groups

_log = get_logger(__name__)


@dataclass(frozen=True)
class PairCounts:
    """Pairs that were proposed, that are similar, and that crowded buckets left out."""

    candidates: int
    verified: int
    uncompared: int

    def metrics(self) -> dict[str, float]:
        """As the ledger keeps them; precision is 1 where nothing was proposed."""
        return {
            "candidate_pairs": self.candidates,
            "verified_pairs": self.verified,
            "uncompared_pairs": self.uncompared,
            "candidate_precision": self.verified / self.candidates if self.candidates else 1.0,
        }


def run(job: StageRun, config: DedupeConfig) -> RunReport:
    """Write `kept`, `duplicates` and this step's slice of `rejects`."""
    clean = job.read(config.source)
    check_columns(clean, config)
    if config.reliable_checkpoints:
        checkpoint_below(job.spark, storage.join(job.artifacts, "clustering", job.run_id))
    rejected = job.write_rejects(malformed(clean), config.rejects)
    documents = clean.where(F.col("doc_id").isNotNull() & has_contents(clean))
    counts = write_duplicates(job, compared_documents(documents), config)
    # What was written decides what is kept: the two tables cannot disagree, and nothing is computed twice.
    duplicates = job.tables.read(config.duplicates, job.outputs[config.duplicates])
    kept = job.overwrite(documents.join(duplicates.select("doc_id"), "doc_id", "left_anti"), config.target)
    if config.reliable_checkpoints:
        storage.remove(storage.join(job.artifacts, "clustering", job.run_id))
    found = cluster_metrics(duplicates)
    reasons = {**rejected, **{f"{kind}_duplicate": n for kind in (EXACT, NEAR) if (n := int(found[kind]))}}
    return job.account(
        config.source,
        kept.rows,
        reasons,
        {
            **counts.metrics(),
            "clusters": found["clusters"],
            "largest_cluster": found["largest_cluster"],
        },
    )


def write_duplicates(job: StageRun, documents: DataFrame, config: DedupeConfig) -> PairCounts:
    """Find all duplicates and write them."""
    with ExitStack() as persisted:
        # The near search and the decisions both read it, and making it costs a pass over all texts.
        grouped = _persist(with_exact_groups(signed_documents(documents, config), config), persisted)
        # Counted before it is joined: Spark then knows its size, and sends it to the texts.
        links = _persist(candidate_links(grouped, config), persisted)
        proposed = links.agg(F.count_if(F.col("anchor") != F.col("key")), F.sum("uncompared")).collect()[0]
        # Counted, clustered and searched for partners.
        verified = _persist(verified_candidates(links, documents, config), persisted)
        edges = verified.where(F.col("similarity") >= config.similarity_threshold).select(
            F.col("doc_a").alias("src"), F.col("doc_b").alias("dst"), "similarity"
        )
        counts = PairCounts(proposed[0], edges.count() if proposed[0] else 0, proposed[1] or 0)
        _log_counts(counts, config)
        components = connected_components(
            edges.select("src", "dst"),
            counts.verified,
            single_task_edges=config.single_task_edges,
            reliable=config.reliable_checkpoints,
        )
        job.overwrite(duplicates_of(grouped, edges, components, config), config.duplicates)
    return counts


def _persist(frame: DataFrame, until: ExitStack) -> DataFrame:
    frame = frame.persist(StorageLevel.MEMORY_AND_DISK)
    until.callback(frame.unpersist)
    return frame


def cluster_metrics(duplicates: DataFrame) -> dict[str, float]:
    """Duplicates by kind, clusters, and the documents of the largest cluster with the one that stays."""
    sizes = duplicates.groupBy("cluster_id").agg(
        F.count_if(F.col("kind") == EXACT).alias(EXACT), F.count_if(F.col("kind") == NEAR).alias(NEAR)
    )
    row = sizes.agg(
        F.sum(EXACT).alias(EXACT),
        F.sum(NEAR).alias(NEAR),
        F.count(F.lit(1)).alias("clusters"),
        (F.max(F.col(EXACT) + F.col(NEAR)) + 1).alias("largest_cluster"),
    ).collect()[0]
    return {name: float(value or 0) for name, value in row.asDict().items()}


def malformed(clean: DataFrame) -> DataFrame:
    """Documents that cannot be compared, as rows of `rejects`."""
    reason = F.when(F.col("doc_id").isNull(), "null_doc_id").when(~has_contents(clean), "null_text")
    return clean.select("doc_id", reason.alias("drop_reason")).where("drop_reason IS NOT NULL")


def has_contents(clean: DataFrame) -> Column:
    """Whether a document has a text or, where the table has the column, media."""
    has_text = F.col("text").isNotNull()
    return has_text | F.col("media").isNotNull() if "media" in clean.columns else has_text


def check_columns(clean: DataFrame, config: DedupeConfig) -> None:
    """InputError where the table lacks a column that the stage needs, before any work."""
    needed = ["doc_id", "text", *(name for name, _ in config.keep_columns())]
    missing = [name for name in needed if name.split(".")[0] not in clean.columns]
    if missing:
        raise InputError(
            "the table to dedupe lacks columns",
            where=config.source,
            got=", ".join(clean.columns),
            expected=", ".join(dict.fromkeys(missing)),
            next_action="check dedupe.source and dedupe.keep_order",
        )


def _log_counts(counts: PairCounts, config: DedupeConfig) -> None:
    _log.info("%d candidate pairs, %d of them similar", counts.candidates, counts.verified)
    if counts.uncompared:
        _log.warning(
            "%d pairs of crowded buckets were not compared directly, only through others; "
            "a larger dedupe.bucket_window (now %d) compares more",
            counts.uncompared,
            config.bucket_window,
        )


def trace(traced: TracedRun) -> list[Station]:
    """What became of the document here, and which other documents were dropped for it."""
    stations = list(rows_of_document(traced))
    duplicates = [ref for ref in traced.outputs() if traced.rows(ref, "kept_id")]
    for ref in duplicates:
        copies = traced.rows(ref, "kept_id")
        listed = tuple(
            (row["doc_id"], f"{row['kind']}, similarity {row['similarity']:.3f}") for row in copies
        )
        stations.append(Station(f"kept for its cluster {copies[0]['cluster_id']}; dropped instead", listed))
    return stations


def sections() -> tuple[object, ...]:
    """What the report says about a deduplication."""
    from sparkml.report.duplicates import DUPLICATES

    return (DUPLICATES,)


STAGE = Stage(
    DedupeConfig,
    run,
    "exact and near duplicates, one document a cluster -> kept",
    trace=trace,
    sections=sections,
)
