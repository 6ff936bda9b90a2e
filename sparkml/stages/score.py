"""Score: every kept document once per model version -> `scores`.

Documents are scored in buckets that a hash of their id decides, sorted by length, in chunks of a fixed number
of documents. What is padded with what, and with it the last bit of every score, depends on the documents to
score alone: not on the order of the rows, the number of partitions, or the size of Arrow's batches.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from pydantic import Field
from pyspark.sql import Column, DataFrame, Observation
from pyspark.sql import functions as F

from sparkml.errors import ConfigError
from sparkml.frame.config import StageConfig, TableRef
from sparkml.frame.registry import ModelRecord, require
from sparkml.frame.runs import RunReport, StageRun, model_ref
from sparkml.frame.schemas import SCORES
from sparkml.frame.sizing import MOST_BUCKETS, bucket_count
from sparkml.inference.batches import SCORED_DDL, ModelSource, scoring
from sparkml.log import get_logger

_log = get_logger(__name__)
# A small encoder scores a bucket of 1 MB in some seconds on one core, and the documents of one sort well by length.
_SMALL_BUCKET_BYTES, _LARGE_BUCKET_BYTES = 1_000_000, 32_000_000
_MAKERS = {"encoder": "train", "classifier-int8": "compress"}


class ScoreConfig(StageConfig):
    """What `conf/base/score.yaml` holds."""

    source: TableRef = Field("kept", description="Documents to score")
    target: TableRef = Field("scores", description="One row a document and model version")
    model_id: str = Field("classifier", pattern=r"^[\w.-]+$", description="Model of the registry")
    model_version: int | None = Field(None, ge=1, description="Its version; null: the latest")
    top_labels: int | None = Field(None, ge=1, description="Labels in `scores`, best first; null: all")
    n_buckets: int | None = Field(
        None, ge=1, le=MOST_BUCKETS, description="Groups that are scored on their own; null: by bytes"
    )
    chunk_documents: int = Field(
        256, ge=1, description="Documents of similar length given to the model at once"
    )
    threads: int = Field(1, ge=1, description="Threads of a task; at most spark.task.cpus")


@dataclass(frozen=True)
class Pending:
    """How the documents stand against the scores of a model version."""

    documents: int
    bytes: int
    bytes_to_score: int
    current: int  # scored already, from the same text
    changed: int  # scored from another text
    gone: int  # scores of this table's documents that are no more

    @property
    def to_score(self) -> int:
        """Documents that a model has to look at."""
        return self.documents - self.current


def transform(documents: DataFrame, model: ModelSource, config: ScoreConfig, n_buckets: int) -> DataFrame:
    """Documents (`doc_id`, `text`) -> one row each as `SCORED_DDL` says."""
    bucket = F.pmod(F.xxhash64("doc_id"), F.lit(n_buckets)).cast("int")
    keyed = documents.select("doc_id", text_hash().alias("text_hash"), "text", bucket.alias("_bucket"))
    grouped = keyed.repartitionById(n_buckets, F.col("_bucket"))
    ordered = grouped.sortWithinPartitions(F.length("text"), "doc_id").drop("_bucket")
    return ordered.mapInArrow(scoring(model, config.chunk_documents, config.top_labels), SCORED_DDL)


def text_hash() -> Column:
    """16 hex digits that change with the text."""
    return F.lower(F.lpad(F.hex(F.xxhash64("text")), 16, "0"))


def run(job: StageRun, config: ScoreConfig) -> RunReport:
    """Score what has no score of this model version yet; one commit at most."""
    _check_threads(job, config)
    kept = job.read(config.source).select("doc_id", "text")
    record = _model(job, config)
    scored = _scores_of(job, config, record)
    pending = pending_of(kept, scored, config.source)
    _log.info("%s: %d of %d documents to score", record.name, pending.to_score, pending.documents)
    metrics: dict[str, float] = {"scored": 0, "errors": 0}
    if pending.to_score or pending.gone or not job.tables.exists(config.target):
        metrics |= _write(job, config, record, kept, scored, pending)
    else:
        job.record_output(config.target, job.tables.version(config.target) or 0)
    return RunReport(
        rows_in=pending.documents,
        rows_kept=pending.documents,
        bytes_in=pending.bytes,
        metrics={**metrics, "scored_before": pending.current, "scored_again": pending.changed},
    )


def _check_threads(job: StageRun, config: ScoreConfig) -> None:
    # Spark gives a task `spark.task.cpus` cores of its executor: more threads fight with the next task's.
    cores = int(job.spark.conf.get("spark.task.cpus", "1") or 1)
    if config.threads > cores:
        raise ConfigError(
            "more threads than a task has cores",
            where="score.threads",
            got=str(config.threads),
            expected=f"at most spark.task.cpus = {cores}",
            next_action=f"set spark.task.cpus={config.threads}, or score.threads={cores}",
        )


def _model(job: StageRun, config: ScoreConfig) -> ModelRecord:
    if config.model_version is not None:
        job.inputs[model_ref(config.model_id)] = config.model_version
    return require(job, config.model_id, stage=_MAKERS.get(config.model_id, "finetune"))


def _scores_of(job: StageRun, config: ScoreConfig, record: ModelRecord) -> DataFrame:
    """The rows of this model version. They are no input of the run: it adds what is missing."""
    if not job.tables.exists(config.target):
        return job.spark.createDataFrame([], SCORES)
    return job.tables.read(config.target).where(_slice(record))


def _slice(record: ModelRecord) -> str:
    return f"model_id = '{record.model_id}' AND model_version = {record.version}"


def pending_of(kept: DataFrame, scored: DataFrame, source: str) -> Pending:
    """Count what is scored, changed and gone, in one pass over ids and text hashes."""
    both = _compared(kept, scored)
    here, there = F.col("_hash").isNotNull(), F.col("text_hash").isNotNull()
    same = here & there & (F.col("_hash") == F.col("text_hash"))
    row = both.agg(
        F.count_if(here).alias("documents"),
        F.coalesce(F.sum("_bytes"), F.lit(0)).alias("bytes"),
        F.coalesce(F.sum(F.when(~same, F.col("_bytes"))), F.lit(0)).alias("bytes_to_score"),
        F.count_if(same).alias("current"),
        F.count_if(here & there & (F.col("_hash") != F.col("text_hash"))).alias("changed"),
        F.count_if(~here & (F.col("input_table") == source)).alias("gone"),
    ).collect()[0]
    return Pending(**row.asDict())


def _compared(kept: DataFrame, scored: DataFrame) -> DataFrame:
    mine = kept.select("doc_id", text_hash().alias("_hash"), F.octet_length("text").alias("_bytes"))
    return mine.join(scored, "doc_id", "full")


def unscored(kept: DataFrame, scored: DataFrame) -> DataFrame:
    """Documents without a score of their present text."""
    known = scored.select(F.col("doc_id").alias("_id"), F.col("text_hash").alias("_hash"))
    same = (F.col("doc_id") == F.col("_id")) & (text_hash() == F.col("_hash"))
    return kept.join(known, same, "left_anti")


def still_valid(kept: DataFrame, scored: DataFrame, source: str) -> DataFrame:
    """Scores of unchanged documents, and those of documents of other tables."""
    elsewhere = F.col("_hash").isNull() & (F.col("input_table") != source)
    keep = elsewhere | (F.col("_hash") == F.col("text_hash"))
    return _compared(kept, scored).where(F.col("text_hash").isNotNull() & keep).select(*scored.columns)


def suitable_buckets(pending: Pending) -> int:
    """Buckets by the bytes of text that a model has to look at."""
    return bucket_count(pending.bytes_to_score, from_bytes=_SMALL_BUCKET_BYTES, to_bytes=_LARGE_BUCKET_BYTES)


def _write(
    job: StageRun,
    config: ScoreConfig,
    record: ModelRecord,
    kept: DataFrame,
    scored: DataFrame,
    pending: Pending,
) -> dict[str, float]:
    started = time.monotonic()
    model = ModelSource(record.path, record.stage_run, config.threads)
    seen = Observation()
    n_buckets = config.n_buckets or suitable_buckets(pending)
    answers = transform(unscored(kept, scored), model, config, n_buckets).observe(
        seen,
        F.count(F.lit(1)).alias("scored"),
        F.count("error").alias("errors"),
        F.coalesce(F.sum("n_tokens"), F.lit(0)).alias("tokens"),
    )
    fresh = with_provenance(answers, record, job, config)
    if pending.changed or pending.gone:
        # Old and new rows change places in one commit: nobody sees a document without a score, or with two.
        job.replace_slice(
            still_valid(kept, scored, config.source).unionByName(fresh), config.target, _slice(record)
        )
    else:
        job.append(fresh, config.target)
    seconds = time.monotonic() - started
    counts = seen.get
    if counts["errors"]:
        _log.warning("%d of %d documents could not be scored", counts["errors"], counts["scored"])
    return {
        "scored": counts["scored"],
        "errors": counts["errors"],
        "tokens": counts["tokens"],
        "documents_per_second": counts["scored"] / seconds,
        "tokens_per_second": counts["tokens"] / seconds,
    }


def with_provenance(scored: DataFrame, record: ModelRecord, job: StageRun, config: ScoreConfig) -> DataFrame:
    """Add which model looked at which version of which table."""
    return scored.select(
        "doc_id",
        F.lit(record.model_id).alias("model_id"),
        F.lit(record.version).cast("int").alias("model_version"),
        "prediction",
        "score",
        "scores",
        F.lit(config.source).alias("input_table"),
        F.lit(job.input_version(config.source)).cast("long").alias("input_version"),
        "error",
        "text_hash",
        F.lit(job.run_id).alias("run_id"),
    )
