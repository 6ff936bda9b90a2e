"""A micro-batch: its records, what of them is new, their answers, and two commits. It may come twice.

A row is written under its key (document, model version, step), never by the number of the batch: a batch that comes
again after a kill finds what it has committed and writes the rest. So nothing is lost or doubled where a
checkpoint was deleted, copied or set back either.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkml.errors import AccountingError, InputError, ScoringError
from sparkml.frame.registry import ModelRecord, model_identity
from sparkml.frame.run import StageRun, as_rejects
from sparkml.frame.schemas import SCORES
from sparkml.frame.spark_schemas import spark_schema
from sparkml.frame.tables import slice_of
from sparkml.hosting.scoring import answered, suitable_buckets, with_hash, with_provenance
from sparkml.log import get_logger
from sparkml.stages.stream.incoming import Incoming

_log = get_logger(__name__)
# A batch should come back soon: small groups, that every core of a large cluster has some.
_SPREAD_OVER = 1024
# Before so many documents a fraction of errors says nothing.
_FEWEST_JUDGED = 100


@dataclass
class Totals:
    """What the batches of a run have done; they are counted where it was done, not by what was asked."""

    batches: int = 0
    records: int = 0
    current: int = 0  # scored before, from the same text
    superseded: int = 0  # a later record of the same document was in the same batch
    scored: int = 0
    errors: int = 0
    replaced: int = 0  # answers that took the place of one to another text, or of an error
    tokens: int = 0
    bytes: int = 0
    seconds: float = 0.0
    rejects: Counter[str] = field(default_factory=Counter)


class BatchScorer:
    """Scores micro-batches, one after the other."""

    def __init__(self, job: StageRun, incoming: Incoming, record: ModelRecord) -> None:
        self._job = job
        self._incoming = incoming
        self._config = incoming.config
        self._record = record
        self._slice = {"step": job.step, "model_id": record.model_id, "model_version": record.version}
        self.totals = Totals()

    def __call__(self, batch: DataFrame, number: int) -> None:
        """Score a batch and commit it. Raises before anything is written where the model is gone or fails too often."""
        started = time.monotonic()
        self._check_model()
        job = self._job.within(batch.sparkSession)
        with _kept(self._incoming.records(job, batch)) as records:
            self._score(job, records)
        self.totals.batches += 1
        self.totals.seconds += time.monotonic() - started
        _log.info("batch %d: %d records so far", number, self.totals.records)

    def _check_model(self) -> None:
        if model_identity(self._record) != self._incoming.scorer.source.identity:
            raise InputError(
                "the files of the model are gone, or others, since the stream began",
                where=self._record.path,
                expected=f"{self._record.name} as it was",
                next_action="put them back, then repeat the step: it goes on with the batch before which it stopped",
            )

    def _score(self, job: StageRun, records: DataFrame) -> None:
        is_document = F.col("drop_reason").isNull()
        counted = records.groupBy("drop_reason").agg(
            F.count(F.lit(1)).alias("n"),
            F.countDistinct("doc_id").alias("ids"),
            F.min("doc_id").alias("first"),
            F.max("doc_id").alias("last"),
        )
        found = {row["drop_reason"]: row for row in counted.collect()}
        rejects = Counter({reason: row["n"] for reason, row in found.items() if reason is not None})
        if rejects:
            self._write_rejects(job, records.where(~is_document))
        current = superseded = 0
        if None in found:
            row = found[None]
            superseded = row["n"] - row["ids"]
            documents = records.where(is_document)
            documents = self._incoming.latest(job, documents) if superseded else documents
            current = self._score_documents(job, documents, row["ids"], (row["first"], row["last"]))
        self.totals.records += sum(row["n"] for row in found.values())
        self.totals.rejects += rejects
        self.totals.superseded += superseded
        self.totals.current += current

    def _score_documents(
        self, job: StageRun, documents: DataFrame, expected: int, ids: tuple[str, str]
    ) -> int:
        """Answer what has no answer yet; returns how many had one. `ids`: the first and the last."""
        scorer = self._incoming.scorer
        columns = scorer.columns
        hashed = with_hash(documents.select("doc_id", *columns), columns, scorer.source.asked)
        known = self._known(job, ids)
        joined = hashed.join(known, "doc_id", "left")
        with _kept(joined) as compared:
            is_current = F.coalesce(F.col("_good") & (F.col("_hash") == F.col("_known")), F.lit(False))
            row = compared.agg(
                F.count_if(is_current).alias("current"),
                F.count_if(F.col("_known").isNotNull() & ~is_current).alias("replaced"),
                F.coalesce(F.sum(F.when(~is_current, F.col("_bytes"))), F.lit(0)).alias("bytes"),
                F.count(F.lit(1)).alias("documents"),
            ).collect()[0]
            pending = compared.where(~is_current).drop("_good", "_known")
            to_score = row["documents"] - row["current"]
            if to_score:
                self._answer(job, pending, to_score, row["replaced"], row["bytes"], ids)
        if row["documents"] != expected:
            raise AccountingError(
                "documents of a batch were lost or counted twice",
                got=str(row["documents"]),
                expected=str(expected),
            )
        return int(row["current"])

    def _known(self, job: StageRun, ids: tuple[str, str]) -> DataFrame:
        """What the table has of this model version: `_known`, the hash of the text; `_good`, where it was answered."""
        if not job.tables.exists(self._config.target):
            rows = job.spark.createDataFrame([], spark_schema(SCORES))
        else:
            # Files whose ids all lie elsewhere stay closed.
            near = F.col("doc_id").between(*ids)
            rows = job.tables.read(self._config.target).where(slice_of(**self._slice)).where(near)
        hidden = sorted(job.ledger.unfinished())
        counts = ~F.col("run_id").isin(hidden) if hidden else F.lit(True)
        return rows.select(
            "doc_id", F.col("text_hash").alias("_known"), (F.col("error").isNull() & counts).alias("_good")
        )

    def _answer(
        self,
        job: StageRun,
        pending: DataFrame,
        expected: int,
        replaced: int,
        n_bytes: int,
        ids: tuple[str, str],
    ) -> None:
        config, scorer = self._config, self._incoming.scorer
        rows = answered(
            pending,
            scorer.source,
            chunk_documents=config.chunk_documents,
            top_labels=config.top_labels,
            n_buckets=config.n_buckets or suitable_buckets(n_bytes, _SPREAD_OVER),
        )
        with _kept(rows) as answers:
            row = answers.agg(
                F.count(F.lit(1)).alias("answers"),
                F.count("error").alias("errors"),
                F.coalesce(F.sum("n_tokens"), F.lit(0)).alias("tokens"),
            ).collect()[0]
            self._check_answers(row["answers"], expected, row["errors"])
            fresh = with_provenance(
                answers,
                self._record,
                step=job.step,
                run_id=job.run_id,
                table=self._incoming.name,
                version=self._incoming.version(),
            )
            if replaced:
                written = job.merge(fresh, config.target, self._slice, "doc_id", ids)
            else:
                written = job.append(fresh, config.target)
            if written.rows != expected:
                raise AccountingError(
                    "a commit does not hold the answers of its batch",
                    where=f"table `{config.target}`, version {written.version}",
                    got=f"{written.rows} rows",
                    expected=str(expected),
                )
        self.totals.scored += row["answers"]
        self.totals.errors += row["errors"]
        self.totals.tokens += row["tokens"]
        self.totals.replaced += replaced
        self.totals.bytes += n_bytes

    def _check_answers(self, answers: int, expected: int, errors: int) -> None:
        """Before the commit: a batch that is not committed comes again."""
        if answers != expected:
            raise AccountingError(
                "documents were lost on the way through the model, or scored twice",
                got=f"{answers} answers",
                expected=f"{expected}, one for each document",
            )
        tried, failed = self.totals.scored + answers, self.totals.errors + errors
        limit = self._config.max_error_fraction
        if tried >= _FEWEST_JUDGED and failed > limit * tried:
            raise ScoringError(
                "too many documents could not be scored",
                got=f"{failed} of {tried} of this run, with the batch that was not written",
                expected=f"at most a fraction of max_error_fraction = {limit}",
                next_action="look at `error` in the table and at what comes in; repeat the step or raise the limit",
            )

    def _write_rejects(self, job: StageRun, rejects: DataFrame) -> None:
        """Add those that an earlier try of the batch has not."""
        config = self._config
        whole = as_rejects(rejects).withColumns({"stage": F.lit(job.stage), "step": F.lit(job.step)})
        if job.tables.exists(config.rejects):
            there = job.tables.read(config.rejects).where(slice_of(step=job.step)).select("doc_id")
            whole = whole.join(there, "doc_id", "left_anti")
        with _kept(whole) as missing:
            if not missing.isEmpty():
                job.append(missing, config.rejects)


@contextmanager
def _kept(rows: DataFrame) -> Iterator[DataFrame]:
    """Rows that are computed once, while the block runs."""
    kept = rows.persist(StorageLevel.MEMORY_AND_DISK)
    try:
        yield kept
    finally:
        kept.unpersist()
