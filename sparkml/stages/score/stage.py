"""Score: every kept document once per model version -> `scores`."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace

from pyspark.sql import DataFrame, Observation
from pyspark.sql import functions as F

from sparkml.errors import AccountingError, InputError, ScoringError
from sparkml.frame.changes import CHANGED_ID
from sparkml.frame.ledger import Run
from sparkml.frame.pipeline import model_ref
from sparkml.frame.registry import ModelRecord
from sparkml.frame.run import StageRun
from sparkml.frame.stage import RunReport, Stage
from sparkml.frame.tables import slice_of
from sparkml.hosting.asking import asked_model
from sparkml.hosting.examples import examples_of
from sparkml.hosting.queries import asked
from sparkml.hosting.scoring import Answering, answered, suitable_buckets, with_hash, with_provenance
from sparkml.inference.batches import ModelSource
from sparkml.log import get_logger
from sparkml.stages.score.config import ScoreConfig
from sparkml.stages.score.pending import Pending, Work, changed_work, whole_work

_log = get_logger(__name__)


def run(job: StageRun, config: ScoreConfig) -> RunReport:
    """Score what has no score of this model version yet, or failed before; one commit at most."""
    record, scorer = asked_model(job, config)
    work = _work(job, config, record, scorer)
    pending = work.pending
    _check_ids(config, pending)
    _log.info("%s: %d of %d documents to score", record.name, pending.to_score, pending.documents)
    metrics: dict[str, float] = {
        "scored": 0,
        "errors": 0,
        "compared": pending.documents if work.is_whole else 0,
    }
    if pending.is_done and job.exists(config.target):
        job.record_output(config.target, job.input_version(config.target))
    else:
        metrics |= _write(job, config, (record, scorer.source), work)
    written = job.tables.read(config.target, job.outputs[config.target]).where(slice_of(**_own(job, record)))
    # Counted from what the table holds now, not from what was asked of the model.
    account = written.agg(
        F.count_if(F.col("error").isNull()).alias("good"), F.count("error").alias("bad")
    ).collect()[0]
    return RunReport(
        rows_in=pending.documents if config.query else job.input_rows(config.source),
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


def _work(job: StageRun, config: ScoreConfig, record: ModelRecord, scorer: Answering) -> Work:
    """What is to do, from what has changed since the last run of the step where that is known, else from all."""
    documents, scored = _documents(job, config), _scores_of(job, config, record)
    kept = _as_read(documents, config, scorer)
    leftovers = _has_leftovers(job, config, record)
    last = None if scored is None or leftovers or config.query else _last_of_same_rows(job, config, record)
    changes = None if last is None else job.changes(config.source, last, "doc_id")
    if scored is not None and changes is not None:
        rows = _as_read(changes.rows, config, scorer, CHANGED_ID)
        work = changed_work(kept, scored, rows, job.input_rows(config.source))
        if work is not None:
            return work
    whole = whole_work(kept, scored)
    return replace(whole, pending=replace(whole.pending, leftovers=leftovers))


def _documents(job: StageRun, config: ScoreConfig) -> DataFrame:
    """The table, or what the query makes of it; InputError where it cannot be asked."""
    source = job.read(config.source)
    if config.query is None:
        return source
    return asked(job.spark, config.query, {"source": source})


def _as_read(documents: DataFrame, config: ScoreConfig, scorer: Answering, *also: str) -> DataFrame:
    where = f"table `{config.source}`"
    examples = examples_of(documents, scorer.task, config.columns, where=where, labelled=False, also=also)
    return with_hash(examples.select("doc_id", *scorer.columns, *also), scorer.columns, scorer.source.asked)


def _last_of_same_rows(job: StageRun, config: ScoreConfig, record: ModelRecord) -> Run | None:
    """The step's last successful run, where it scored the same columns of the same table with the same model."""
    last = job.ledger.last_succeeded(job.step)
    if last is None or last.inputs.get(model_ref(record.model_id)) != record.version:
        return None
    return last if job.exists(config.target) and config.same_rows(json.loads(last.config)) else None


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


def _scores_of(job: StageRun, config: ScoreConfig, record: ModelRecord) -> DataFrame | None:
    """What succeeded runs of this step have left of this model version; None where that is nothing."""
    own = _own(job, record)
    if not job.exists(config.target) or not job.tables.log(config.target).may_have(
        own, job.input_version(config.target)
    ):
        return None
    rows, dead = job.read(config.target).where(slice_of(**own)), _dead_runs(job)
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
    newest = job.tables.read(config.target).where(slice_of(**_own(job, record)))
    return not newest.where(F.col("run_id").isin(dead)).isEmpty()


def _dead_runs(job: StageRun) -> list[str]:
    """Earlier runs of this step that failed or died."""
    dead = job.ledger.unfinished() - {job.run_id}
    return sorted(run.run_id for run in job.ledger.runs() if run.step == job.step and run.run_id in dead)


def _own(job: StageRun, record: ModelRecord) -> dict[str, object]:
    return {"step": job.step, "model_id": record.model_id, "model_version": record.version}


def _write(
    job: StageRun, config: ScoreConfig, scorer: tuple[ModelRecord, ModelSource], work: Work
) -> dict[str, float]:
    started = time.monotonic()
    (record, model), pending = scorer, work.pending
    seen = Observation()
    answers = answered(
        work.to_score,
        model,
        chunk_documents=config.chunk_documents,
        top_labels=config.top_labels,
        n_buckets=config.n_buckets or suitable_buckets(pending.bytes_to_score),
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
        rows = fresh if work.staying is None else work.staying.unionByName(fresh)
        job.replace_slice(rows, config.target, _own(job, record), marked=True)
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
