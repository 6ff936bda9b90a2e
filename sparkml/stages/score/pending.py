"""What a scoring has to do: how the documents stand against the scores that there are."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

_TOUCHED = "_touched"


@dataclass(frozen=True)
class Pending:
    """How the documents stand against the scores that this step has of a model version."""

    documents: int
    bytes: int
    bytes_to_score: int
    current: int  # scored already, from the same text
    failed: int  # tried before, with an error
    changed: int  # scored from another text
    gone: int  # scores of documents that are no more
    repeated: int = 0  # ids that several documents have
    example: str | None = None  # one of those ids
    leftovers: bool = False  # rows that a run of this step which failed or died has left

    @property
    def to_score(self) -> int:
        """Documents that a model has to look at."""
        return self.documents - self.current

    @property
    def is_done(self) -> bool:
        """True where the table holds what it should."""
        return not (self.to_score or self.gone or self.leftovers)

    @property
    def only_new(self) -> bool:
        """True where no row that is there has to go."""
        return not (self.failed or self.changed or self.gone or self.leftovers)


@dataclass(frozen=True)
class Work:
    """What there is to do: the documents that a model has to look at, and the scores that stay."""

    pending: Pending
    to_score: DataFrame
    staying: DataFrame | None
    is_whole: bool  # all documents were compared, not only those that have changed


def whole_work(kept: DataFrame, scored: DataFrame | None) -> Work:
    """From a comparison of all documents with all scores; `scored` is None where there are none."""
    if scored is None:
        return Work(_all_new(kept), kept, None, is_whole=True)
    return Work(pending_of(kept, scored), unscored(kept, scored), still_valid(kept, scored), is_whole=True)


def changed_work(kept: DataFrame, scored: DataFrame, changes: DataFrame, documents: int) -> Work | None:
    """From the `changes` of the documents since all of them were scored: `_id`, and `doc_id`, `_hash`, `_bytes` and
    what the model reads, null where the document is no more.

    `documents`: how many there are now. Those that failed are read again, whether they have changed or not. None where
    scores, new and gone documents do not make up all of them: something else has happened to either table.
    """
    here = changes.where(F.col("doc_id").isNotNull()).drop("_id")
    ids = changes.select(F.col("_id").alias("doc_id"), F.lit(True).alias(_TOUCHED)).distinct()
    marked = scored.join(ids, "doc_id", "left").fillna(False, [_TOUCHED])
    found, n_failed, n_scores = _counted(here, marked)
    new = found.to_score - found.failed - found.changed
    if n_scores + new - found.gone != documents:
        return None
    pending = replace(
        found,
        documents=documents,
        current=documents - found.to_score - n_failed,
        failed=found.failed + n_failed,
    )
    touched, staying = (marked.where(part).drop(_TOUCHED) for part in (F.col(_TOUCHED), ~F.col(_TOUCHED)))
    to_score = unscored(here, touched)
    if n_failed:
        failed = F.col("error").isNotNull()
        again = kept.join(staying.where(failed).select("doc_id"), "doc_id", "left_semi")
        to_score, staying = to_score.unionByName(again), staying.where(~failed)
    # What has come back as it was keeps its score.
    return Work(pending, to_score, staying.unionByName(still_valid(here, touched)), is_whole=False)


def pending_of(kept: DataFrame, scored: DataFrame) -> Pending:
    """Count what is scored, failed, changed and gone, in one pass over ids and text hashes."""
    return _counted(kept, scored.withColumn(_TOUCHED, F.lit(True)))[0]


def _all_new(kept: DataFrame) -> Pending:
    found = _by_id(kept).agg(
        F.count(F.lit(1)).alias("documents"),
        F.coalesce(F.sum("_bytes"), F.lit(0)).alias("bytes"),
        F.count_if(F.col("_rows") > 1).alias("repeated"),
        F.min(F.when(F.col("_rows") > 1, F.col("doc_id"))).alias("example"),
    )
    counts = found.collect()[0].asDict()
    return Pending(bytes_to_score=counts["bytes"], current=0, failed=0, changed=0, gone=0, **counts)


def _counted(kept: DataFrame, marked: DataFrame) -> tuple[Pending, int, int]:
    """Documents against the scores that are marked as touched; failed ones among the others, and all scores."""
    both = _compared(kept, marked)
    here, there = F.col("_hash").isNotNull(), F.col("text_hash").isNotNull()
    same, failed = F.col("_hash") == F.col("text_hash"), F.col("error").isNotNull()
    current = here & there & same & ~failed
    row = both.agg(
        F.count_if(here).alias("documents"),
        F.coalesce(F.sum("_bytes"), F.lit(0)).alias("bytes"),
        F.coalesce(F.sum(F.when(~current, F.col("_bytes"))), F.lit(0)).alias("bytes_to_score"),
        F.count_if(current).alias("current"),
        F.count_if(here & there & same & failed).alias("failed"),
        F.count_if(here & there & ~same).alias("changed"),
        F.count_if(~here & F.col(_TOUCHED)).alias("gone"),
        F.count_if(F.col("_rows") > 1).alias("repeated"),
        F.min(F.when(F.col("_rows") > 1, F.col("doc_id"))).alias("example"),
        F.count_if(~F.col(_TOUCHED) & failed).alias("failed_before"),
        F.count_if(there).alias("scores"),
    ).collect()[0]
    counts = row.asDict()
    n_failed, n_scores = counts.pop("failed_before"), counts.pop("scores")
    return Pending(**counts), n_failed, n_scores


def _compared(kept: DataFrame, scored: DataFrame) -> DataFrame:
    return _by_id(kept).join(scored, "doc_id", "full")


def _by_id(kept: DataFrame) -> DataFrame:
    """A row for each id, whatever the table holds: a join has to be by `doc_id` anyway."""
    return kept.groupBy("doc_id").agg(
        F.max("_hash").alias("_hash"), F.sum("_bytes").alias("_bytes"), F.count(F.lit(1)).alias("_rows")
    )


def unscored(kept: DataFrame, scored: DataFrame) -> DataFrame:
    """Documents without a score of their present text, those that failed before included."""
    good = scored.where(F.col("error").isNull())
    known = good.select(F.col("doc_id").alias("_id"), F.col("text_hash").alias("_known"))
    same = (F.col("doc_id") == F.col("_id")) & (F.col("_hash") == F.col("_known"))
    return kept.join(known, same, "left_anti")


def still_valid(kept: DataFrame, scored: DataFrame) -> DataFrame:
    """The scores of unchanged documents."""
    same = (F.col("_hash") == F.col("text_hash")) & F.col("error").isNull()
    return _compared(kept, scored).where(same).select(*scored.columns)
