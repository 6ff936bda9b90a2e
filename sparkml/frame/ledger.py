"""The ledger: table `_runs`, one row for each run of a step. It needs no JVM where the lake is a folder or URI."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from sparkml.errors import SparkmlError
from sparkml.frame import storage
from sparkml.frame.schemas import RUNS
from sparkml.frame.stage import USED, RunReport
from sparkml.frame.tables import Tables, arrow_rows
from sparkml.log import get_logger

_log = get_logger(__name__)

STARTED, SUCCEEDED, FAILED = "started", "succeeded", "failed"
LEDGER = "_runs"
# Among the metrics of a run from its start: each of its commits counts by itself (`Stage.whole_commits`).
WHOLE_COMMITS = "whole_commits"


@dataclass(frozen=True)
class Run:
    """One row of the ledger. `inputs` and `outputs` are tables, and models as `models:NAME`, with their versions."""

    run_id: str
    step: str
    stage: str
    fingerprint: str
    status: str
    started_at: datetime
    pipeline: str = ""
    parent_run_ids: tuple[str, ...] = ()
    ended_at: datetime | None = None
    inputs: Mapping[str, int] = field(default_factory=dict)
    outputs: Mapping[str, int] = field(default_factory=dict)
    rows_in: int | None = None
    rows_kept: int | None = None
    rows_rejected: int | None = None
    reasons: Mapping[str, int] = field(default_factory=dict)
    bytes_in: int | None = None
    seconds: float | None = None
    config: str = "{}"
    code_version: str = ""
    git_commit: str | None = None
    packages: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None

    @property
    def report(self) -> RunReport:
        """What the run reported when it ended: without what the runner has noted of its tasks."""
        metrics = {name: value for name, value in self.metrics.items() if not name.startswith(USED)}
        rows = self.rows_in, self.rows_kept, self.rows_rejected
        return RunReport(*rows, self.reasons, self.bytes_in or 0, metrics)

    @property
    def counts(self) -> bool:
        """Whether others use what it has committed: it succeeded, or each of its commits is whole by itself."""
        return self.status == SUCCEEDED or WHOLE_COMMITS in self.metrics

    def record(self) -> dict[str, Any]:
        """The columns of `_runs`."""
        columns: dict[str, Any] = {name: getattr(self, name) for name in RUNS.names}
        for name in ("inputs", "outputs"):
            columns[name] = [{"table": table, "version": v} for table, v in sorted(columns[name].items())]
        for name in ("reasons", "packages", "metrics"):
            columns[name] = list(columns[name].items())
        return {**columns, "parent_run_ids": list(self.parent_run_ids)}

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Run:
        """A row as Arrow gives it."""
        found: dict[str, Any] = {name: row.get(name) for name in RUNS.names}
        for name in ("inputs", "outputs"):
            found[name] = {pair["table"]: pair["version"] for pair in found[name] or ()}
        for name in ("reasons", "packages", "metrics"):
            found[name] = dict(found[name] or ())
        return cls(**{**found, "parent_run_ids": tuple(found["parent_run_ids"] or ())})


class Ledger:
    """The runs of a lake, oldest first."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._runs: dict[str, Run] | None = None

    def runs(self) -> list[Run]:
        """All runs. The ledger is small: one row for each run of a step."""
        if self._runs is None:
            log = self._tables.log(LEDGER)
            rows = log.read().to_pylist() if log.version() is not None else []
            found = sorted((Run.of(row) for row in rows), key=lambda run: (run.started_at, run.run_id))
            self._runs = {run.run_id: run for run in found}
        return list(self._runs.values())

    def run(self, run_id: str) -> Run | None:
        """The run of that id."""
        return next((run for run in self.runs() if run.run_id == run_id), None)

    def last_succeeded(self, step: str) -> Run | None:
        """The latest run of a step that succeeded."""
        done = [run for run in self.runs() if run.step == step and run.status == SUCCEEDED]
        return done[-1] if done else None

    def failed_since_success(self, step: str) -> list[str]:
        """The runs of a step that failed or died after the last one that succeeded, and that nobody counts."""
        mine = [run for run in self.runs() if run.step == step]
        done = max((at for at, run in enumerate(mine) if run.status == SUCCEEDED), default=-1)
        return [run.run_id for run in mine[done + 1 :] if run.status == FAILED and not run.counts]

    def unfinished(self) -> set[str]:
        """The runs that failed, died or are still at work, and whose commits count only together: nobody uses them."""
        return {run.run_id for run in self.runs() if not run.counts}

    def writer_of(self, ref: str, version: int) -> Run | None:
        """The successful run that wrote a version of a table or model."""
        found = (run for run in reversed(self.runs()) if run.outputs.get(ref) == version)
        return next((run for run in found if run.status == SUCCEEDED), None)

    def put(self, run: Run) -> None:
        """Add a run, or replace its row."""
        known = {other.run_id: other for other in self.runs()}
        rows, log, info = arrow_rows(RUNS, [run.record()]), self._tables.log(LEDGER), {"run_id": run.run_id}
        if run.run_id in known:
            log.replace(rows, [{"run_id": run.run_id}], info)
        else:
            log.append(rows, info)
        # The lake is ours while we run: what was just written need not be read again.
        self._runs = {**known, run.run_id: run}

    def abandon_started(self) -> list[str]:
        """Mark the runs that never ended as failed: we hold the lake, so their drivers are dead."""
        dead = [run for run in self.runs() if run.status == STARTED]
        for run in dead:
            self.put(ended(run, FAILED, error="the driver died"))
        if dead:
            _log.warning("runs that died half-way before: %s", ", ".join(run.run_id for run in dead))
        return [run.run_id for run in dead]


def ended(
    run: Run,
    status: str,
    *,
    report: RunReport | None = None,
    error: str | None = None,
    inputs: Mapping[str, int] | None = None,
    outputs: Mapping[str, int] | None = None,
    parents: Sequence[str] = (),
) -> Run:
    """The row of a run that has ended."""
    now = utc_now()
    values = {
        **vars(run),
        "status": status,
        "ended_at": now,
        "seconds": (now - run.started_at).total_seconds(),
        "error": error,
        "inputs": dict(inputs if inputs is not None else run.inputs),
        "outputs": dict(outputs if outputs is not None else run.outputs),
        "parent_run_ids": tuple(parents) or run.parent_run_ids,
    }
    if report is not None:
        values |= {
            "rows_in": report.rows_in,
            "rows_kept": report.rows_kept,
            "rows_rejected": report.rows_rejected,
            "reasons": dict(report.reasons),
            "bytes_in": report.bytes_in,
            "metrics": {name: float(value) for name, value in report.metrics.items()},
        }
    return Run(**values)


def error_text(error: BaseException) -> str:
    """An error as the ledger keeps it."""
    text = error.message() if isinstance(error, SparkmlError) else f"{type(error).__name__}: {error}"
    return storage.redacted(text[:4000])


def new_run_id(step: str) -> str:
    """Sorts by time; unique without a coordinator."""
    return f"{utc_now():%Y%m%dT%H%M%S}-{step}-{secrets.token_hex(3)}"


def utc_now() -> datetime:
    """Now, with its zone: naive datetimes take the session's zone when Spark reads them."""
    return datetime.now(timezone.utc)


def as_json(config: Mapping[str, Any]) -> str:
    """The configuration as the ledger keeps it."""
    return json.dumps(config, sort_keys=True, default=str)
