"""The stage `ingest`: source files -> `bronze` and `rejects`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime

from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparkml.errors import InputError
from sparkml.frame import storage
from sparkml.frame.ledger import utc_now
from sparkml.frame.run import StageRun
from sparkml.frame.session import shuffles_for
from sparkml.frame.stage import RunReport, Stage
from sparkml.log import get_logger
from sparkml.sources.environment import environment_files, environment_state
from sparkml.sources.formats.table import AUTO, EMBEDDED
from sparkml.sources.listing import list_source
from sparkml.sources.records import ReadOptions, Split
from sparkml.sources.rows import rows_of
from sparkml.sources.settings import SourceConfig
from sparkml.sources.splits import plan_environment, plan_files, sample_files
from sparkml.stages.ingest.config import IngestConfig

_log = get_logger(__name__)
_BRONZE = (
    "doc_id",
    "source",
    "locator",
    "content_hash",
    "text",
    "text_b",
    "tokens",
    "tags",
    "media",
    "media_type",
    "url",
    "title",
    "published",
    "label",
    "split",
    "meta",
)
_REJECT = ("doc_id", "source", "locator", "drop_reason", "value", "threshold", "detail")


@dataclass(frozen=True)
class ReadPlan:
    """Which splits are read, and how."""

    options: ReadOptions
    splits: Sequence[Split]
    files: int
    bytes: int
    ignored: int


def run(job: StageRun, config: IngestConfig) -> RunReport:
    """List, read once, write `rejects` and `bronze`; InputError where no record has the text field."""
    plan = plan_reading(config)
    _log.info("%d files, %d bytes, %d splits", plan.files, plan.bytes, len(plan.splits))
    # Both tables are written from one reading: parsing costs more than a round trip over the local disk.
    rows = read_rows(job.spark, plan).persist(StorageLevel.DISK_ONLY)
    with ExitStack() as stack:
        stack.callback(rows.unpersist)
        stack.enter_context(shuffles_for(job.spark, plan.bytes))
        records, texts = _measure(rows, config.source, plan)
        bronze, rejects = transform(rows, plan.options, utc_now())
        reasons = job.write_rejects(rejects, config.rejects)
        written = job.overwrite(bronze, config.target)
    return RunReport(
        rows_in=records,
        rows_kept=written.rows,
        rows_rejected=sum(reasons.values()),
        reasons=reasons,
        bytes_in=plan.bytes,
        metrics={"files": plan.files, "files_ignored": plan.ignored, "text_bytes": texts},
    )


def source_state(config: IngestConfig) -> str:
    """A hash that changes with the source: names, sizes and times of files, versions of an environment."""
    if _is_embedded(config.source):
        state = environment_state(config.source.path)
    else:
        listing = list_source(config.source.path or "", config.source.format)
        lines = (f"{file.relative}\t{file.size}\t{file.modified}" for file in listing.files)
        state = "\n".join([listing.root, *lines])
    return hashlib.sha256(state.encode("utf-8", "surrogateescape")).hexdigest()


def plan_reading(config: IngestConfig) -> ReadPlan:
    """List the source and cut it into splits; InputError where there is nothing to read."""
    source = config.source
    if _is_embedded(source):
        found = sample_files(environment_files(source.path), source.sample_fraction, source.max_files)
        splits, root, ignored = plan_environment(found, config.split_bytes), "/", 0
        sizes = [file.size for file in found]
        dataset = source.dataset or EMBEDDED
    else:
        listing = list_source(source.path or "", source.format)
        listed = sample_files(listing.files, source.sample_fraction, source.max_files)
        root, ignored = listing.root, listing.ignored
        splits = plan_files(storage.filesystem_of(root)[0], listed, config.split_bytes)
        sizes = [file.size for file in listed]
        dataset = source.dataset or root.rstrip("/").rpartition("/")[2]
    if not splits:
        raise InputError(
            "the sample of the source holds no file",
            where=source.path or EMBEDDED,
            got=f"sample_fraction={source.sample_fraction}",
            next_action="raise ingest.source.sample_fraction",
        )
    return ReadPlan(_options(config, root, dataset), splits, len(sizes), sum(sizes), ignored)


def read_rows(spark: SparkSession, plan: ReadPlan) -> DataFrame:
    """One row a record of the source: a document, or a reject where `drop_reason` is set."""
    return rows_of(spark, plan.splits, plan.options)


def transform(rows: DataFrame, options: ReadOptions, ingested_at: datetime) -> tuple[DataFrame, DataFrame]:
    """Rows as read -> `bronze` and `rejects`."""
    if options.id_field is not None:
        rows = with_duplicate_ids(rows)
    bronze = rows.where(F.col("drop_reason").isNull()).select(
        *_BRONZE,
        F.lit(options.dataset).alias("dataset"),
        F.lit(ingested_at).cast("timestamp").alias("ingested_at"),
    )
    return bronze, rows.where(F.col("drop_reason").isNotNull()).select(*_REJECT)


def with_duplicate_ids(rows: DataFrame) -> DataFrame:
    """An id that the source gives more than once stays with its first place (by file, then position).

    Every later record becomes the reject `duplicate_id`, under the id of its own place; its value is how many
    records share the id.
    """
    place = F.struct("source", "position")
    documents = rows.where(F.col("drop_reason").isNull())
    counted = documents.groupBy("doc_id").agg(F.min(place).alias("first"), F.count(F.lit(1)).alias("times"))
    repeated = counted.where(F.col("times") > 1)
    later = F.col("drop_reason").isNull() & F.col("times").isNotNull() & (place != F.col("first"))
    where = F.concat(F.col("first.source"), F.lit(" at "), F.col("first.position"))
    detail = F.concat(F.lit("id "), F.substring("doc_id", 1, 60), F.lit(" is taken by "), where)
    return rows.join(repeated, "doc_id", "left").withColumns(
        {
            "doc_id": F.when(later, F.col("place_id")).otherwise(F.col("doc_id")),
            "drop_reason": F.when(later, F.lit("duplicate_id")).otherwise(F.col("drop_reason")),
            "value": F.when(later, F.col("times").cast("double")).otherwise(F.col("value")),
            "threshold": F.when(later, F.lit(1.0)).otherwise(F.col("threshold")),
            "detail": F.when(later, detail).otherwise(F.col("detail")),
        }
    )


def _measure(rows: DataFrame, source: SourceConfig, plan: ReadPlan) -> tuple[int, int]:
    """Records and bytes of text: the action that fills the cache, before anything is written."""
    lacking = F.col("drop_reason") == "missing_text"
    measured = rows.agg(
        F.count(F.lit(1)).alias("records"),
        F.coalesce(F.sum(F.octet_length("text")), F.lit(0)).alias("text_bytes"),
        F.count_if(lacking).alias("lacking"),
        *(F.count(name).alias(name) for name in _labelled_columns(source)),
        # The longest list of fields seen, for the error's text.
        F.max(F.when(lacking, F.struct(F.length("detail"), "detail"))).alias("seen"),
    ).collect()[0]
    if measured["records"] and measured["lacking"] == measured["records"]:
        raise InputError(
            f"no record has the text field `{source.text_field}`",
            where=plan.options.root,
            got=f"{measured['records']} records; {measured['seen']['detail']}",
            expected=f"a field `{source.text_field}` with the document",
            next_action="name the field: ingest.source.text_field=FIELD",
        )
    for name, given in _labelled_columns(source).items():
        if measured["records"] and not measured[name]:
            _log.warning("no record has a %s by `%s`", name, given)
    return measured["records"], measured["text_bytes"]


def _labelled_columns(source: SourceConfig) -> dict[str, str]:
    """The columns that the configuration asks for, with the field or the pattern that gives them."""
    asked = {
        "label": source.label_field or source.label_pattern,
        "text_b": source.text_b_field,
        "tokens": source.tokens_field,
        "tags": source.tags_field,
        "media": source.media_field,
        "split": source.split_field or source.split_pattern,
    }
    return {name: given for name, given in asked.items() if given is not None}


def _options(config: IngestConfig, root: str, dataset: str) -> ReadOptions:
    return config.source.read_options(
        root,
        dataset,
        max_record_bytes=config.max_record_bytes,
        batch_bytes=config.batch_bytes,
        max_inflation=config.max_inflation,
    )


def _is_embedded(source: SourceConfig) -> bool:
    return source.format == EMBEDDED or (source.path is None and source.format == AUTO)


STAGE = Stage(IngestConfig, run, "files or the installed documentation -> bronze", source_state=source_state)
