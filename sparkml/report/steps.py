"""The steps: seconds and MB/s, run ids, versions, and what is out of date; from the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sparkml.frame import storage
from sparkml.frame.ledger import FAILED, SUCCEEDED
from sparkml.frame.pipeline import MODEL_MARK
from sparkml.report.formats import ratio
from sparkml.report.lake import Lake
from sparkml.report.view import StepView

_FAILURES_SHOWN = 8
_METRICS_SHOWN = 16


@dataclass(frozen=True)
class StepFacts:
    """The last successful run of a step; `run_id` None: none has succeeded."""

    name: str
    stage: str
    is_installed: bool
    pipeline: str = ""
    run_id: str | None = None
    started_at: datetime | None = None
    seconds: float | None = None
    rows_in: int | None = None
    rows_kept: int | None = None
    rows_rejected: int | None = None
    bytes_in: int | None = None
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    metrics: tuple[tuple[str, float], ...] = ()
    stale: tuple[str, ...] = ()
    share: float = 0.0  # of the seconds of the slowest step, for its bar

    @property
    def megabytes_per_second(self) -> float | None:
        """Megabytes of input a second."""
        return ratio((self.bytes_in or 0) / 1e6, self.seconds) if self.bytes_in else None

    @property
    def rows_per_second(self) -> float | None:
        """Rows of input a second."""
        return ratio(self.rows_in, self.seconds) if self.rows_in else None


@dataclass(frozen=True)
class FailedRun:
    """A run that failed, and the first line of why."""

    run_id: str
    step: str
    error: str


@dataclass(frozen=True)
class Steps:
    """All steps in order, then those without a successful run."""

    rows: tuple[StepFacts, ...]
    seconds: float
    failures: tuple[FailedRun, ...]
    n_failures: int


@dataclass(frozen=True)
class Provenance:
    """Which code made the lake."""

    code_version: str | None = None
    git_commit: str | None = None
    packages: tuple[tuple[str, str], ...] = ()
    first_started: datetime | None = None
    last_ended: datetime | None = None


def gather(lake: Lake, views: Sequence[StepView]) -> Steps | None:
    """None where the ledger has no run yet."""
    if not lake.runs:
        return None
    slowest = max((view.run.seconds or 0.0 for view in views), default=0.0)
    newest = _newest_versions(lake)
    rows = [_facts(view, newest, slowest) for view in views]
    done = {view.step for view in views}
    never = {run.step: run.stage for run in lake.runs if run.step not in done}
    rows += [StepFacts(step, stage, lake.stage(stage) is not None) for step, stage in never.items()]
    failed = [run for run in lake.runs if run.status == FAILED][::-1]
    shown = tuple(FailedRun(run.run_id, run.step, _first_line(run.error)) for run in failed[:_FAILURES_SHOWN])
    return Steps(tuple(rows), sum(row.seconds or 0.0 for row in rows), shown, len(failed))


def provenance(views: Sequence[StepView]) -> Provenance:
    """The code and the packages of the newest run that succeeded, and the time that the last runs span."""
    if not views:
        return Provenance()
    runs = [view.run for view in views]
    newest = max(runs, key=lambda run: run.started_at)
    return Provenance(
        newest.code_version,
        newest.git_commit,
        tuple(sorted(newest.packages.items())),
        min(run.started_at for run in runs),
        max((run.ended_at for run in runs if run.ended_at), default=None),
    )


def _facts(view: StepView, newest: Mapping[str, int], slowest: float) -> StepFacts:
    run = view.run
    return StepFacts(
        name=run.step,
        stage=run.stage,
        is_installed=view.stage is not None,
        pipeline=run.pipeline,
        run_id=run.run_id,
        started_at=run.started_at,
        seconds=run.seconds,
        rows_in=run.rows_in,
        rows_kept=run.rows_kept,
        rows_rejected=run.rows_rejected,
        bytes_in=run.bytes_in,
        inputs=_versions(run.inputs),
        outputs=_versions(run.outputs),
        metrics=tuple(run.report.metrics.items())[:_METRICS_SHOWN],
        stale=tuple(
            f"{_named(ref)} is now at version {newest[ref]}"
            for ref, version in view.takes.items()
            if newest.get(ref, version) > version
        ),
        share=ratio(run.seconds, slowest) or 0.0,
    )


def _newest_versions(lake: Lake) -> dict[str, int]:
    """What runs that succeeded have written as a whole. A table of many steps moves on with each of them."""
    newest: dict[str, int] = {}
    for run in lake.runs:
        if run.status == SUCCEEDED:
            view = StepView(lake, run)
            newest |= {ref: version for ref, version in run.outputs.items() if ref not in view.shared}
    return newest


def _versions(refs: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(f"{_named(ref)}@{version}" for ref, version in refs.items())


def _named(ref: str) -> str:
    return storage.redacted(ref.replace(MODEL_MARK, "model "))


def _first_line(error: str | None) -> str:
    return storage.redacted(error.splitlines()[0]) if error else ""
