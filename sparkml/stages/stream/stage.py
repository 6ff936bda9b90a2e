"""The stage `stream`: a Delta table, files or a topic -> `scores`, as documents come.

Every document is scored once per model version and step: one that comes again with the same text is left alone, with
another text its new answer takes the place of the old one, and one that failed before is tried again. Of the records
that one micro-batch has of a document the last counts. Rows of a table that are deleted stay scored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sparkml.frame import storage
from sparkml.frame.fingerprint import digest
from sparkml.frame.ledger import utc_now
from sparkml.frame.lineage import Station, TracedRun, rows_of_document
from sparkml.frame.registry import ModelRecord, model_identity
from sparkml.frame.run import StageRun
from sparkml.frame.schemas import SCORES
from sparkml.frame.spark_schemas import spark_schema
from sparkml.frame.stage import RunReport, Stage
from sparkml.hosting.asking import asked_model
from sparkml.sources.listing import followed_folder
from sparkml.stages.stream.batches import BatchScorer, Totals
from sparkml.stages.stream.config import StreamConfig
from sparkml.stages.stream.following import Following
from sparkml.stages.stream.incoming import Incoming, incoming


def run(job: StageRun, config: StreamConfig) -> RunReport:
    """Score what has come since the last run, batch by batch."""
    record, scorer = asked_model(job, config)
    source = incoming(job, config, scorer)
    batches = BatchScorer(job, source, record)
    following = Following(
        config, checkpoint_location(job, source, record), lambda: source.stream(job.spark), batches, job.step
    )
    following.run()
    if not job.tables.exists(config.target):  # nothing has come yet: whoever reads it finds it empty
        job.append(job.spark.createDataFrame([], spark_schema(SCORES)), config.target)
    for ref in (config.target, config.rejects):
        if (version := job.tables.version(ref)) is not None:
            job.record_output(ref, version)
    return report_of(batches.totals, list(following.latencies.values()))


def checkpoint_location(job: StageRun, source: Incoming, record: ModelRecord) -> str:
    """Where the stream keeps how far it is: it belongs to step, model version, what is asked, and source."""
    model = (record.model_id, record.version, model_identity(record))
    asked = [source.scorer.source.asked] if source.scorer.source.asked else []
    return storage.join(job.artifacts, "streams", f"{job.step}-{digest([*model, source.identity, *asked])}")


def report_of(totals: Totals, latencies: Sequence[float]) -> RunReport:
    """Records in = documents with a prediction + errors + records that a later one replaced + rejects."""
    reasons = {"error": totals.errors, "superseded": totals.superseded, **totals.rejects}
    found = {name: n for name, n in reasons.items() if n}
    seconds = np.asarray(latencies or [0.0])
    return RunReport(
        rows_in=totals.records,
        rows_kept=totals.current + totals.scored - totals.errors,
        rows_rejected=sum(found.values()),
        reasons=found,
        bytes_in=totals.bytes,
        metrics={
            "batches": totals.batches,
            "scored": totals.scored,
            "errors": totals.errors,
            "scored_before": totals.current,
            "scored_again": totals.replaced,
            "tokens": totals.tokens,
            "documents_per_second": totals.scored / totals.seconds if totals.seconds else 0.0,
            "batch_seconds_p50": float(np.quantile(seconds, 0.5)),
            "batch_seconds_p95": float(np.quantile(seconds, 0.95)),
        },
    )


def source_state(config: StreamConfig) -> str:
    """A hash that changes when files come. What a topic holds, and what will come, only a run can tell."""
    if config.is_endless or config.kafka.topic is not None:
        return utc_now().isoformat()
    if config.files.path is None:  # the version of the table says it
        return ""
    stamps = storage.stamps_below(followed_folder(config.files.path))
    return hashlib.sha256(json.dumps(sorted(stamps.items())).encode("utf-8", "surrogateescape")).hexdigest()


def trace(traced: TracedRun) -> Sequence[Station]:
    """The rows of a document. A run that was killed could not say which versions it had written: the newest then."""
    refs = [json.loads(traced.run.config)[name] for name in ("target", "rejects")]
    found = {ref: traced.tables.version(ref) for ref in refs} if not traced.run.outputs else {}
    newest = {ref: version for ref, version in found.items() if version is not None}
    run = replace(traced.run, outputs={**newest, **traced.run.outputs})
    return rows_of_document(replace(traced, run=run))


def sections() -> tuple[object, ...]:
    """What the report says of a stream: as of a scoring."""
    from sparkml.report.scores import SCORES as SECTION

    return (SECTION,)


STAGE = Stage(
    StreamConfig,
    run,
    "documents as they come, from a table, files or Kafka, once per model version -> scores",
    source_state=source_state,
    whole_commits=True,
    trace=trace,
    sections=sections,
)
