"""The stage `ingest`: source files -> `bronze` and `rejects`.

Where the step's last run did the same work, only files that are new or have changed since are read. The tables then
are as if all had been read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime

from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkml.errors import InputError
from sparkml.frame.ledger import utc_now
from sparkml.frame.run import StageRun
from sparkml.frame.session import shuffles_for
from sparkml.frame.stage import RunReport, Stage
from sparkml.log import get_logger
from sparkml.sources.settings import SourceConfig
from sparkml.stages.ingest.config import IngestConfig
from sparkml.stages.ingest.following import (
    Staying,
    change_of,
    counted,
    known_parts,
    no_rows,
    put_parts,
    shares_ids,
)
from sparkml.stages.ingest.origins.choice import origin_of
from sparkml.stages.ingest.origins.origin import Origin, Part, Reading

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


def run(job: StageRun, config: IngestConfig) -> RunReport:
    """Read once what is new or has changed, or all; write `rejects`, `bronze`, and what was read of which part.

    InputError where no record has the text field.
    """
    origin = origin_of(config)
    parts = origin.parts(job)
    known = known_parts(job, config) if parts is not None and job.earlier is not None else None
    if parts is not None and known is not None:
        report = _follow(job, origin, parts, known)
        if report is not None:
            return report
    return _read_all(job, origin, parts)


def source_state(config: IngestConfig) -> str:
    """A hash that changes with the source: names, sizes and times of files, versions of an environment or table."""
    return hashlib.sha256(origin_of(config).state().encode("utf-8", "surrogateescape")).hexdigest()


def _read_all(job: StageRun, origin: Origin, parts: tuple[Part, ...] | None) -> RunReport:
    config = origin.config
    reading = origin.read(job, parts, {})
    with _held(job, reading, origin, is_all=True) as (rows, seen):
        bronze, rejects = transform(rows, origin, utc_now())
        stays = Staying.of(job, config, parts)
        reasons = job.write_rejects(stays.with_rejects(rejects), config.rejects)
        written = job.overwrite(stays.with_documents(bronze), config.target)
        if parts is not None:
            put_parts(job, config, [*counted(parts, rows), *stays.parts])
    return RunReport(
        rows_in=seen.records + stays.records,
        rows_kept=written.rows,
        rows_rejected=sum(reasons.values()),
        reasons=reasons,
        bytes_in=reading.bytes,
        metrics={**origin.metrics(), "text_bytes": seen.text_bytes, "parts_read": len(parts or ())},
    )


def _follow(
    job: StageRun, origin: Origin, parts: tuple[Part, ...], known: Mapping[str, Part]
) -> RunReport | None:
    """Read the parts that are new or have changed; None where an id is given twice, so that all must be read."""
    config, earlier = origin.config, job.earlier
    todo = [part for part in parts if part.source not in known or not part.is_as(known[part.source])]
    gone = known.keys() - {part.source for part in parts}
    retired = set() if config.vanished == "keep" else gone
    _log.info("%d parts: %d to read, %d gone", len(parts), len(todo), len(gone))
    reading = origin.read(job, todo, known) if todo else Reading(no_rows(job.spark), renewed=())
    renewed = retired | (known.keys() & set(reading.renewed or ()))
    with _held(job, reading, origin, is_all=False) as (rows, seen):
        bronze, rejects = transform(rows, origin, utc_now())
        if origin.gives_ids and shares_ids(job, config, rows, renewed):
            return None
        change = change_of(job, config, bronze, renewed)
        job.update(change.documents, config.target, "doc_id", change.touched)
        reasons = job.update_rejects(rejects, "source", change.sources, config.rejects)
        new = counted(todo, rows, {} if reading.renewed else known)
    stays = [
        part for source, part in known.items() if source not in {*retired, *(part.source for part in todo)}
    ]
    put_parts(job, config, [*stays, *new])
    before = (earlier.rows_in or 0) if earlier is not None else 0
    return RunReport(
        rows_in=before - sum(known[source].records for source in renewed) + seen.records,
        rows_kept=job.tables.log(config.target).count(job.outputs[config.target]),
        rows_rejected=sum(reasons.values()),
        reasons=reasons,
        bytes_in=reading.bytes,
        metrics={**origin.metrics(), "text_bytes": seen.text_bytes, "parts_read": len(todo)},
    )


@dataclass(frozen=True)
class Seen:
    """What a reading held."""

    records: int
    text_bytes: int


@contextmanager
def _held(
    job: StageRun, reading: Reading, origin: Origin, *, is_all: bool
) -> Iterator[tuple[DataFrame, Seen]]:
    """The rows of a reading, on the executors' disks while the block runs, and what they are."""
    # All tables are written from one reading: parsing costs more than a round trip over the local disk.
    rows = reading.rows.persist(StorageLevel.DISK_ONLY)
    with ExitStack() as stack:
        stack.callback(rows.unpersist)
        stack.enter_context(shuffles_for(job.spark, reading.bytes))
        yield rows, _measure(rows, origin, is_all=is_all)


def transform(rows: DataFrame, origin: Origin, ingested_at: datetime) -> tuple[DataFrame, DataFrame]:
    """Rows as read -> `bronze` and `rejects`."""
    if origin.gives_ids:
        rows = with_duplicate_ids(rows, newest_wins=origin.newest_wins)
    bronze = rows.where(F.col("drop_reason").isNull()).select(
        *_BRONZE,
        F.lit(origin.options.dataset).alias("dataset"),
        F.lit(ingested_at).cast("timestamp").alias("ingested_at"),
    )
    return bronze, rows.where(F.col("drop_reason").isNotNull()).select(*_REJECT)


def with_duplicate_ids(rows: DataFrame, *, newest_wins: bool = False) -> DataFrame:
    """An id that the source gives more than once stays with its first place (by file, then position), or its last.

    Every other record becomes the reject `duplicate_id`, under the id of its own place; its value is how many
    records share the id.
    """
    place = F.struct("source", "position", "place_id")
    documents = rows.where(F.col("drop_reason").isNull())
    chosen = (F.max if newest_wins else F.min)(place)
    counted = documents.groupBy("doc_id").agg(chosen.alias("first"), F.count(F.lit(1)).alias("times"))
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


def _measure(rows: DataFrame, origin: Origin, *, is_all: bool) -> Seen:
    """Records and bytes of text: the action that fills the cache, before anything is written."""
    source = origin.config.source
    lacking = F.col("drop_reason") == "missing_text"
    measured = rows.agg(
        F.count(F.lit(1)).alias("records"),
        F.coalesce(F.sum(F.octet_length("text")), F.lit(0)).alias("text_bytes"),
        F.count_if(lacking).alias("lacking"),
        *(F.count(name).alias(name) for name in _labelled_columns(source)),
        # The longest list of fields seen, for the error's text.
        F.max(F.when(lacking, F.struct(F.length("detail"), "detail"))).alias("seen"),
    ).collect()[0]
    if is_all and measured["records"] and measured["lacking"] == measured["records"]:
        raise InputError(
            f"no record has the text field `{source.text_field}`",
            where=origin.options.root,
            got=f"{measured['records']} records; {measured['seen']['detail']}",
            expected=f"a field `{source.text_field}` with the document",
            next_action="name the field: ingest.source.text_field=FIELD",
        )
    for name, given in _labelled_columns(source).items():
        if measured["records"] and not measured[name]:
            _log.warning("no record has a %s by `%s`", name, given)
    return Seen(measured["records"], measured["text_bytes"])


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


STAGE = Stage(IngestConfig, run, "files or the installed documentation -> bronze", source_state=source_state)
