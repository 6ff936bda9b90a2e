"""Score: every kept document once per model version -> `scores`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pydantic import Field
from pyspark.sql import DataFrame, Observation
from pyspark.sql import functions as F

from sparkml.errors import AccountingError, InputError, ScoringError
from sparkml.frame.registry import ModelRecord, model_identity
from sparkml.frame.run import StageRun
from sparkml.frame.schemas import SCORES, spark_schema
from sparkml.frame.sizing import MOST_BUCKETS, bucket_count
from sparkml.frame.stage import Reads, RunReport, Shares, Stage, StageConfig, Uses
from sparkml.frame.tables import slice_of
from sparkml.hosting.examples import Columns, examples_of
from sparkml.hosting.scoring import answered, answering, check_threads, with_hash, with_provenance
from sparkml.inference.batches import ModelSource
from sparkml.log import get_logger

_log = get_logger(__name__)
# A small encoder scores a bucket of 1 MB in some seconds on one core, and the documents of one sort well by length.
_SMALL_BUCKET_BYTES, _LARGE_BUCKET_BYTES = 1_000_000, 32_000_000


class ScoreConfig(StageConfig):
    """What `conf/base/score.yaml` holds."""

    source: Reads = Field("kept", description="Documents to score")
    columns: Columns = Field(Columns(), description="Which columns of the table the model's task reads")
    target: Shares = Field("scores", description="One row a document, model version and step")
    model: Uses = Field(
        "classifier", description="What scores: `name` (its latest version), `name/v3`, a directory"
    )
    max_error_fraction: float = Field(
        0.1, ge=0, le=1, description="Documents that may fail, of all and of new ones; more fail the step"
    )
    top_labels: int | None = Field(None, ge=1, description="Labels in `scores`, best first; null: all")
    n_buckets: int | None = Field(
        None, ge=1, le=MOST_BUCKETS, description="Groups that are scored on their own; null: by bytes"
    )
    chunk_documents: int = Field(
        256, ge=1, description="Documents of similar length given to the model at once"
    )
    threads: int = Field(1, ge=1, description="Threads of a task; at most spark.task.cpus")
    engine: str = Field(
        "auto",
        description="What runs the network: auto takes the fastest that can, else encoder, torch or onnx",
    )


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


def run(job: StageRun, config: ScoreConfig) -> RunReport:
    """Score what has no score of this model version yet, or failed before; one commit at most."""
    check_threads(job.spark, config.threads, f"{job.step}.threads")
    record = job.model(config.model)
    scorer = answering(record.path, model_identity(record), threads=config.threads, engine=config.engine)
    where = f"table `{config.source}`"
    examples = examples_of(job.read(config.source), scorer.task, config.columns, where=where, labelled=False)
    kept = with_hash(examples.select("doc_id", *scorer.columns), scorer.columns)
    scored = _scores_of(job, config, record)
    pending = replace(pending_of(kept, scored), leftovers=_has_leftovers(job, config, record))
    _check_ids(config, pending)
    _log.info("%s: %d of %d documents to score", record.name, pending.to_score, pending.documents)
    metrics: dict[str, float] = {"scored": 0, "errors": 0}
    if pending.is_done and job.exists(config.target):
        job.record_output(config.target, job.input_version(config.target))
    else:
        metrics |= _write(job, config, (record, scorer.source), kept, scored, pending)
    written = job.tables.read(config.target, job.outputs[config.target]).where(_slice(job, record))
    # Counted from what the table holds now, not from what was asked of the model.
    account = written.agg(
        F.count_if(F.col("error").isNull()).alias("good"), F.count("error").alias("bad")
    ).collect()[0]
    return RunReport(
        rows_in=job.input_rows(config.source),
        rows_kept=account["good"],
        rows_rejected=account["bad"],
        reasons={"error": account["bad"]} if account["bad"] else {},
        bytes_in=pending.bytes,
        metrics={
            **metrics,
            "scored_before": pending.current,
            "scored_again": pending.changed,
            "tried_again": pending.failed,
        },
    )


def _check_ids(config: ScoreConfig, pending: Pending) -> None:
    # Two documents of one id would be scored twice and take each other's scores.
    if pending.repeated:
        raise InputError(
            "several documents have the same `doc_id`",
            where=f"table `{config.source}`",
            got=f"{pending.repeated} such ids, for example {pending.example!r}",
            expected="one row for each `doc_id`",
            next_action="give every document an id of its own, or keep one row of each",
        )


def _scores_of(job: StageRun, config: ScoreConfig, record: ModelRecord) -> DataFrame:
    """What succeeded runs of this step have left of this model version."""
    if not job.exists(config.target):
        return job.spark.createDataFrame([], spark_schema(SCORES))
    rows, dead = job.read(config.target).where(_slice(job, record)), _dead_runs(job)
    return rows.where(~F.col("run_id").isin(dead)) if dead else rows


def _has_leftovers(job: StageRun, config: ScoreConfig, record: ModelRecord) -> bool:
    """True where a run of this step that failed or died has written to this model version's rows.

    Other steps may have written to the table since: what they stand on counts as published then.
    """
    dead = _dead_runs(job)
    if not dead or not job.tables.exists(config.target):
        return False
    own = {run.run_id for run in job.ledger.runs() if run.step == job.step}
    writers = (commit.run_id for commit in job.tables.log(config.target).commits())
    if next((run_id for run_id in writers if run_id in own), None) in dead:
        return True
    newest = job.tables.read(config.target).where(_slice(job, record))
    return not newest.where(F.col("run_id").isin(dead)).isEmpty()


def _dead_runs(job: StageRun) -> list[str]:
    """Earlier runs of this step that failed or died."""
    dead = job.ledger.unfinished() - {job.run_id}
    return sorted(run.run_id for run in job.ledger.runs() if run.step == job.step and run.run_id in dead)


def _slice(job: StageRun, record: ModelRecord) -> str:
    return slice_of(step=job.step, model_id=record.model_id, model_version=record.version)


def pending_of(kept: DataFrame, scored: DataFrame) -> Pending:
    """Count what is scored, failed, changed and gone, in one pass over ids and text hashes."""
    both = _compared(kept, scored)
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
        F.count_if(~here).alias("gone"),
        F.count_if(F.col("_rows") > 1).alias("repeated"),
        F.min(F.when(F.col("_rows") > 1, F.col("doc_id"))).alias("example"),
    ).collect()[0]
    return Pending(**row.asDict())


def _compared(kept: DataFrame, scored: DataFrame) -> DataFrame:
    # A row for each id, whatever the table holds: the join has to be by `doc_id` anyway.
    mine = kept.groupBy("doc_id").agg(
        F.max("_hash").alias("_hash"), F.sum("_bytes").alias("_bytes"), F.count(F.lit(1)).alias("_rows")
    )
    return mine.join(scored, "doc_id", "full")


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


def suitable_buckets(pending: Pending) -> int:
    """Buckets by the bytes of text that a model has to look at."""
    return bucket_count(pending.bytes_to_score, from_bytes=_SMALL_BUCKET_BYTES, to_bytes=_LARGE_BUCKET_BYTES)


def _write(
    job: StageRun,
    config: ScoreConfig,
    scorer: tuple[ModelRecord, ModelSource],
    kept: DataFrame,
    scored: DataFrame,
    pending: Pending,
) -> dict[str, float]:
    started = time.monotonic()
    record, model = scorer
    seen = Observation()
    answers = answered(
        unscored(kept, scored),
        model,
        chunk_documents=config.chunk_documents,
        top_labels=config.top_labels,
        n_buckets=config.n_buckets or suitable_buckets(pending),
    ).observe(
        seen,
        F.count(F.lit(1)).alias("scored"),
        F.count("error").alias("errors"),
        F.coalesce(F.sum("n_tokens"), F.lit(0)).alias("tokens"),
    )
    fresh = with_provenance(
        answers,
        record,
        step=job.step,
        run_id=job.run_id,
        table=config.source,
        version=job.input_version(config.source),
    )
    if pending.only_new:
        job.append(fresh, config.target)
    else:
        # Old and new rows change places in one commit: nobody sees a document without a score, or with two.
        rows = still_valid(kept, scored).unionByName(fresh)
        job.replace_slice(rows, config.target, _slice(job, record), marked=True)
    seconds = time.monotonic() - started
    counts = seen.get
    _check_counts(config, pending, counts)
    return {
        "scored": counts["scored"],
        "errors": counts["errors"],
        "tokens": counts["tokens"],
        "documents_per_second": counts["scored"] / seconds,
        "tokens_per_second": counts["tokens"] / seconds,
    }


def _check_counts(config: ScoreConfig, pending: Pending, counts: Mapping[str, int]) -> None:
    """Every pending document was answered, and not too many with an error."""
    if counts["scored"] != pending.to_score:
        raise AccountingError(
            "documents were lost on the way through the model, or scored twice",
            got=f"{counts['scored']} answers",
            expected=f"{pending.to_score}, one for each pending document",
        )
    if counts["errors"]:
        _log.warning("%d of %d documents could not be scored", counts["errors"], counts["scored"])
    # Those that failed before are tried with every run: alone they must not fail it, nor hide that new ones do.
    new, new_errors = counts["scored"] - pending.failed, counts["errors"] - pending.failed
    limit = config.max_error_fraction
    if counts["errors"] > limit * pending.documents or new_errors > limit * new:
        raise ScoringError(
            "too many documents could not be scored",
            got=f"{counts['errors']} of {pending.documents}; {max(new_errors, 0)} of {new} new ones",
            expected=f"at most a fraction of max_error_fraction = {limit}",
            next_action="look at `error` in the newest version of the table, then repeat the step or raise the limit",
        )


def sections() -> tuple[object, ...]:
    """What the report says of a scoring."""
    from sparkml.report.scores import SCORES

    return (SCORES,)


def failed_before(report: RunReport) -> str:
    """Documents that failed are tried again in the next run."""
    return f"{report.rows_rejected} documents failed in its last run" if report.rows_rejected else ""


STAGE = Stage(
    ScoreConfig,
    run,
    "every document of a table, once per model version -> scores",
    again=failed_before,
    sections=sections,
)
