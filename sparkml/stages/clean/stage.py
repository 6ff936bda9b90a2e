"""Clean: bronze -> clean, and a reason for every document that is left out.

One pass over the text gives both: each document is normalised, its words are found once, every configured rule set
measures it, and the first rule that it fails names the reason. What passes and what does not is kept on the executors'
disks while the two tables are written.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame
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
from sparkml.frame.schemas import CLEAN, LABELLED, with_optional
from sparkml.frame.stage import RunReport, Stage
from sparkml.frame.tables import first_line
from sparkml.stages.clean.config import CleanConfig

if TYPE_CHECKING:
    import pyarrow as pa

    from sparkml.frame.run import StageRun

DROP_WHEN = "drop_when"

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
_REJECTED = ("doc_id", "source", "locator", "drop_reason", "value", "threshold", "detail")


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
    return decided.where(F.col("drop_reason").isNotNull()).select(*_REJECTED)


def run(job: StageRun, config: CleanConfig) -> RunReport:
    """Decide once, then write `clean` and the rejects."""
    decided = transform(job.read(config.source), config).persist(StorageLevel.DISK_ONLY)
    try:
        text_bytes = decided.agg(F.sum("text_bytes")).collect()[0][0]
        kept = job.overwrite(kept_of(decided), config.target)
        reasons = job.write_rejects(rejects_of(decided), config.rejects)
    finally:
        decided.unpersist()
    return RunReport(
        rows_in=job.input_rows(config.source),
        rows_kept=kept.rows,
        rows_rejected=sum(reasons.values()),
        reasons=reasons,
        bytes_in=text_bytes or 0,
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


STAGE = Stage(CleanConfig, run, "normalise, Gopher repetition and quality rules -> clean")
