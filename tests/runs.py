"""Runs of a step without the runner: what a stage's `run` gets, and the rows that the runner would write."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from sparkml.frame.ledger import STARTED, Ledger, Run, as_json, ended
from sparkml.frame.progress import Progress
from sparkml.frame.run import StageRun
from sparkml.frame.stage import RunReport, StageConfig
from sparkml.frame.tables import Tables


def without_spark() -> NoReturn:
    """The session of tables that must need none."""
    raise RuntimeError("a Spark session was asked for")


def new_run(
    tables: Tables,
    ledger: Ledger,
    artifacts: str | Path,
    stage: str,
    *,
    step: str | None = None,
    fingerprint: str = "test",
    seed: int = 17,
) -> StageRun:
    """A run of a step (by default named as its stage). It counts as finished until `put_run` says otherwise."""
    return StageRun(
        tables=tables,
        ledger=ledger,
        step=step or stage,
        stage=stage,
        fingerprint=fingerprint,
        artifacts=str(artifacts),
        seed=seed,
        progress=Progress(),
    )


def put_run(
    job: StageRun, status: str, report: RunReport | None = None, config: StageConfig | None = None
) -> StageRun:
    """Put the row of a run into the ledger as the runner does: `started` before its work, then how it ended."""
    row = Run(
        run_id=job.run_id,
        step=job.step,
        stage=job.stage,
        fingerprint=job.fingerprint,
        status=STARTED,
        started_at=job.started_at,
        inputs=dict(job.inputs),
        config="{}" if config is None else as_json(config.model_dump(mode="json")),
    )
    if status != STARTED:
        row = ended(row, status, report=report, inputs=job.inputs, outputs=job.outputs)
    job.ledger.put(row)
    return job
