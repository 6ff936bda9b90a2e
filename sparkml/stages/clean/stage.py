"""Clean: bronze -> clean, and a reason for every document that is left out.

One pass over the text gives both: each document is normalised, its words are found once, every configured rule set
measures it, and the first rule that it fails names the reason. What passes and what does not is kept on the executors'
disks while the two tables are written. A document's decision follows from the document alone: where the step's last run
did the same work, only documents that have come, gone or changed since are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    MapType,
    StringType,
    StructField,
    StructType,
)
from pyspark.storagelevel import StorageLevel

from sparkml.errors import ConfigError
from sparkml.frame.changes import CHANGED_ID, Changes
from sparkml.frame.schemas import CLEAN, LABELLED
from sparkml.frame.spark_schemas import with_optional
from sparkml.frame.stage import RunReport, Stage
from sparkml.frame.tables import first_line
from sparkml.stages.clean.config import CleanConfig
from sparkml.stages.clean.explain import explain
from sparkml.stages.clean.reasons import DROP_WHEN
from sparkml.stages.clean.redecide import measured_before, redecided, rejects_again

if TYPE_CHECKING:
    import pyarrow as pa

    from sparkml.frame.run import StageRun
    from sparkml.report.signals import Limit

_LANGUAGES = ArrayType(StructType([StructField("lang", StringType()), StructField("share", FloatType())]))
_PASSED = StructType(
    [
        StructField("doc_id", StringType()),
        StructField("source", StringType()),
        StructField("locator", StringType()),
        StructField("lang", StringType()),
        StructField("lang_score", FloatType()),
        StructField("languages", _LANGUAGES),
        StructField("url", StringType()),
        StructField("title", StringType()),
        StructField("label", StringType()),
        StructField("text_b", StringType()),
        StructField("tokens", ArrayType(StringType())),
        StructField("tags", ArrayType(StringType())),
        StructField("media", BinaryType()),
        StructField("media_type", StringType()),
        StructField("split", StringType()),
        StructField("meta", MapType(StringType(), StringType())),
    ]
)
_KEPT = tuple(name for name in CLEAN.names if name != "run_id")
_REJECTED = ("doc_id", "source", "locator", "drop_reason", "value", "threshold", "detail", "signals")


def transform(bronze: DataFrame, config: CleanConfig) -> DataFrame:
    """Every document with its decision: `drop_reason` is null and `text` normalised where it stays.

    `lang` and `lang_score` are the source's own fields of these names, where no rule set finds the language out.
    """
    documents = with_optional(bronze, "bronze").select(
        "doc_id",
        "source",
        "locator",
        _from_meta("lang").alias("lang"),
        _from_meta("lang_score").try_cast("float").alias("lang_score"),
        F.lit(None).cast(_LANGUAGES).alias("languages"),
        "url",
        "title",
        "label",
        *LABELLED,
        "meta",
        "text",
    )
    decided = documents.mapInArrow(partial(_clean, config.prepared()), _decided(config))
    return decided if config.drop_when is None else _dropped_when(decided, config.drop_when)


def _dropped_when(decided: DataFrame, asked: str) -> DataFrame:
    """The same, with what passed the rules and is dropped by the user's SQL; ConfigError where that cannot be asked."""
    drops = F.col("drop_reason").isNull() & F.coalesce(F.expr(asked).cast("boolean"), F.lit(False))
    reason = F.when(drops, F.lit(DROP_WHEN)).otherwise(F.col("drop_reason"))
    try:
        return decided.withColumns(
            {
                "drop_reason": reason,
                "detail": F.when(drops, F.lit(asked)).otherwise(F.col("detail")),
                "text": F.when(~drops, F.col("text")),
            }
        )
    except PySparkException as error:
        raise ConfigError(
            "the rule cannot be asked",
            where="drop_when",
            got=first_line(error),
            expected=f"a condition over {', '.join(decided.columns)}",
        ) from error


def kept_of(decided: DataFrame) -> DataFrame:
    """The rows of `clean`."""
    return decided.where(F.col("drop_reason").isNull()).select(*_KEPT)


def rejects_of(decided: DataFrame) -> DataFrame:
    """The rows of `rejects`."""
    names = decided.select("signals.*").columns
    signals = F.create_map(*(part for name in names for part in (F.lit(name), F.col(f"signals.{name}"))))
    dropped = decided.where(F.col("drop_reason").isNotNull())
    return dropped.withColumn("signals", F.when(F.col("signals").isNotNull(), signals)).select(*_REJECTED)


def run(job: StageRun, config: CleanConfig) -> RunReport:
    """Decide once, then write `clean` and the rejects: of what has changed since the last run, or of all."""
    if config.quality_model is not None and "quality" in config.rules:
        config = config.with_model(job.model(config.quality_model).path)
    if config.from_signals:
        return _decide_again(job, config)
    changes = None if job.earlier is None else job.changes(config.source, job.earlier, "doc_id")
    done = None if changes is None else _follow(job, config, changes)
    return _decide_all(job, config) if done is None else done


def _decide_all(job: StageRun, config: CleanConfig) -> RunReport:
    with _deciding(job.read(config.source), config) as (decided, seen):
        job.overwrite(kept_of(decided), config.target)
        reasons = job.write_rejects(rejects_of(decided), config.rejects)
    return _report(job, config, reasons, seen)


def _follow(job: StageRun, config: CleanConfig, changes: Changes) -> RunReport | None:
    """Decide about changed documents alone; None where they do not account for what the table holds now."""
    with _deciding(changes.rows.where(F.col("doc_id").isNotNull()), config) as (decided, seen):
        ids = changes.rows.select(F.col(CHANGED_ID).alias("doc_id")).distinct()
        left = (
            0 if changes.only_added else _decided_before(job, config).join(ids, "doc_id", "left_semi").count()
        )
        before = job.earlier.report if job.earlier is not None else RunReport()
        unique = changes.only_added or decided.select("doc_id").distinct().count() == seen["documents"]
        now = (before.rows_kept or 0) + (before.rows_rejected or 0) - left + seen["documents"]
        if not unique or now != job.input_rows(config.source):
            return None
        touched = None if changes.only_added else ids
        job.update(kept_of(decided), config.target, "doc_id", touched)
        reasons = job.update_rejects(rejects_of(decided), "doc_id", touched, config.rejects)
    return _report(job, config, reasons, seen)


def _decide_again(job: StageRun, config: CleanConfig) -> RunReport:
    """Decide from signals; only documents that come back are read."""
    job = job.after(measured_before(job, config))
    again = redecided(job, config).persist(StorageLevel.DISK_ONLY)
    try:
        is_dropped, was_dropped = F.col("drop_reason").isNotNull(), F.col("was").isNotNull()
        back = again.where(~is_dropped & was_dropped).select("doc_id")
        moved = again.where(is_dropped != was_dropped).select("doc_id")
        documents = job.read(config.source).join(back, "doc_id", "left_semi")
        with _deciding(documents, config) as (decided, seen):
            job.update(kept_of(decided), config.target, "doc_id", moved)
            rejects = rejects_again(job, config, again).unionByName(rejects_of(decided))
            reasons = job.write_rejects(rejects, config.rejects)
    finally:
        again.unpersist()
    return _report(job, config, reasons, seen)


def _decided_before(job: StageRun, config: CleanConfig) -> DataFrame:
    """The ids of documents that this step has decided about."""
    rejected = job.left(config.rejects).where(F.col("step") == job.step)
    return job.left(config.target).select("doc_id").unionAll(rejected.select("doc_id"))


@contextmanager
def _deciding(documents: DataFrame, config: CleanConfig) -> Iterator[tuple[DataFrame, Row]]:
    """The documents with their decisions, kept on disk while the block runs; how many they are, and their bytes."""
    decided = transform(documents, config).persist(StorageLevel.DISK_ONLY)
    try:
        seen = decided.agg(
            F.count(F.lit(1)).alias("documents"),
            F.coalesce(F.sum("text_bytes"), F.lit(0)).alias("bytes"),
        ).collect()[0]
        yield decided, seen
    finally:
        decided.unpersist()


def _report(job: StageRun, config: CleanConfig, reasons: Mapping[str, int], seen: Row) -> RunReport:
    return RunReport(
        rows_in=job.input_rows(config.source),
        rows_kept=job.tables.log(config.target).count(job.outputs[config.target]),
        rows_rejected=sum(reasons.values()),
        reasons=reasons,
        bytes_in=seen["bytes"],
        metrics={"documents_read": seen["documents"]},
    )


def _clean(config: CleanConfig, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    from sparkml.stages.clean.batches import clean_batches  # numba stays out of the driver

    return clean_batches(config, tuple(_PASSED.names), batches)


def _decided(config: CleanConfig) -> StructType:
    signals = StructType([StructField(name, DoubleType()) for name in config.signal_names])
    decision = [
        StructField("text", StringType()),
        StructField("text_bytes", LongType()),
        StructField("n_words", IntegerType()),
        StructField("signals", signals),
        StructField("drop_reason", StringType()),
        StructField("value", DoubleType()),
        StructField("threshold", DoubleType()),
        StructField("detail", StringType()),
    ]
    return StructType([*_PASSED.fields, *decision])


def _from_meta(field: str) -> Column:
    """A field that ingest kept in `meta`; its values are JSON, so a string loses its quotes."""
    return F.get_json_object(F.try_element_at("meta", F.lit(field)), "$")


def limits_of(config: Mapping[str, Any]) -> list[Limit]:
    """The limits of a run's configuration, as its report shows them."""
    from sparkml.report.signals import Limit

    rules = [rule for one in CleanConfig.model_validate(config).rule_sets for rule in one.rules()]
    return [
        Limit(rule.reason, rule.signal, float(limit), is_least)
        for rule in rules
        for limit, is_least in ((rule.least, True), (rule.most, False))
        if limit is not None
    ]


def sections() -> tuple[object, ...]:
    """What the report says of a cleaning."""
    from sparkml.report.signals import signals_section

    return (signals_section(limits_of),)


STAGE = Stage(
    CleanConfig,
    run,
    "normalise documents; rule sets from page to personal data -> clean",
    lookups=CleanConfig.lookups,
    explain=explain,
    sections=sections,
)
