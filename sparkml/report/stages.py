"""Stages: seconds and MB/s, run ids, versions, and what is out of date; from the ledger."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sparkml.frame.runs import FAILED, SUCCEEDED
from sparkml.report.formats import ratio
from sparkml.report.lake import Lake

ORDER = ("ingest", "clean", "dedupe", "shard", "train", "finetune", "compress", "score")
_FAILURES_SHOWN = 8
_METRICS_SHOWN = 8


@dataclass(frozen=True)
class StageFacts:
    """The last run of a stage that succeeded; without a run id it never did."""

    name: str
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
    share: float = 0.0  # of the seconds of the slowest stage, for its bar

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
    stage: str
    error: str


@dataclass(frozen=True)
class Stages:
    """All stages in the order of the way."""

    rows: tuple[StageFacts, ...]
    seconds: float
    failures: tuple[FailedRun, ...]
    n_failures: int


@dataclass(frozen=True)
class Provenance:
    """Which code made the lake."""

    code_version: str | None
    git_commit: str | None
    packages: tuple[tuple[str, str], ...]
    first_started: datetime | None
    last_ended: datetime | None


def gather(lake: Lake) -> Stages | None:
    """None where the ledger has no run yet."""
    runs = [run for run in lake.runs if run["stage"] in ORDER]
    if not runs:
        return None
    slowest = max((_last(lake, name).get("seconds") or 0.0 for name in ORDER), default=0.0)
    rows = tuple(_facts(lake, name, slowest) for name in ORDER)
    failed = [run for run in runs if run["status"] == FAILED][::-1]
    shown = tuple(
        FailedRun(run["run_id"], run["stage"], (run["error"] or "").splitlines()[0] if run["error"] else "")
        for run in failed[:_FAILURES_SHOWN]
    )
    return Stages(rows, sum(row.seconds or 0.0 for row in rows), shown, len(failed))


def provenance(lake: Lake) -> Provenance:
    """The code and the packages of the newest run that succeeded, and the time that the last runs span."""
    last = [run for name in ORDER if (run := lake.last_succeeded(name)) is not None]
    newest: Mapping[str, Any] = max(last, key=lambda run: run["started_at"], default={})
    return Provenance(
        newest.get("code_version"),
        newest.get("git_commit"),
        tuple(sorted((newest.get("packages") or {}).items())),
        min((run["started_at"] for run in last), default=None),
        max((run["ended_at"] for run in last if run["ended_at"]), default=None),
    )


def _last(lake: Lake, name: str) -> Mapping[str, Any]:
    return lake.last_succeeded(name) or {}


def _facts(lake: Lake, name: str, slowest: float) -> StageFacts:
    run = _last(lake, name)
    if not run:
        return StageFacts(name)
    return StageFacts(
        name,
        run["run_id"],
        run["started_at"],
        run["seconds"],
        run["rows_in"],
        run["rows_kept"],
        run["rows_rejected"],
        run["bytes_in"],
        _versions(run["inputs"]),
        _versions(run["outputs"]),
        tuple((run["metrics"] or {}).items())[:_METRICS_SHOWN],
        _stale(lake, run),
        ratio(run["seconds"], slowest) or 0.0,
    )


def _versions(pairs: Sequence[Mapping[str, Any]] | None) -> tuple[str, ...]:
    return tuple(f"{pair['table']}@{pair['version']}" for pair in pairs or ())


def _stale(lake: Lake, run: Mapping[str, Any]) -> tuple[str, ...]:
    """Inputs that another stage has rewritten since: the stage's outputs no longer belong to them."""
    own = {pair["table"] for pair in run["outputs"] or ()}
    newest: dict[str, int] = {}
    for other in lake.runs:
        if other["status"] == SUCCEEDED:
            newest |= {pair["table"]: pair["version"] for pair in other["outputs"] or ()}
    return tuple(
        f"{pair['table']} is now at version {newest[pair['table']]}"
        for pair in run["inputs"] or ()
        if pair["table"] not in own and newest.get(pair["table"], pair["version"]) > pair["version"]
    )


def short_commit(commit: str | None) -> str | None:
    """The first digits of a git commit, if it looks like one."""
    return commit[:12] if commit and re.fullmatch(r"[0-9a-f]{12,64}", commit) else commit
