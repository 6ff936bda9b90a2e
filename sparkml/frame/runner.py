"""Runs stages: pins inputs, skips what is up to date, keeps the ledger, checks the accounting."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.resources
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark.sql import Row, SparkSession

from sparkml import __version__
from sparkml.errors import SparkmlError
from sparkml.frame.config import ProjectConfig, StageConfig, digest
from sparkml.frame.pipeline import Stage
from sparkml.frame.progress import Progress
from sparkml.frame.runs import RunLedger, RunReport, StageRun, model_ref, resolved_config_json, utc_now
from sparkml.frame.session import watched
from sparkml.frame.tables import Tables
from sparkml.log import get_logger, run_id_in_logs

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

_log = get_logger(__name__)
_PACKAGES = (
    "pyspark",
    "delta-spark",
    "pyarrow",
    "numpy",
    "torch",
    "transformers",
    "petastorm",
    "horovod",
    "numba",
)


@dataclass(frozen=True)
class StageState:
    """Whether a stage would run, and why."""

    stage: Stage
    fingerprint: str
    inputs: Mapping[str, int]
    up_to_date: bool
    reason: str
    last: Row | None = None


@dataclass(frozen=True)
class StageOutcome:
    """What became of a stage in this call."""

    stage: Stage
    run_id: str
    skipped: bool
    seconds: float = 0.0
    report: RunReport = field(default_factory=lambda: RunReport(0, 0))


class Runner:
    """Runs stages on one lake with one session."""

    def __init__(self, spark: SparkSession, config: ProjectConfig, progress: Progress) -> None:
        self._spark = spark
        self._config = config
        self._progress = progress
        self.tables = Tables(spark, config.lake)
        self.ledger = RunLedger(spark, self.tables)

    def state(self, stage: Stage) -> StageState:
        """Would this stage run now? Compares with its last run that succeeded."""
        config = self._config.stages[stage.name]
        inputs = self._pin_inputs(stage, config)
        fingerprint = self._fingerprint(stage, config, inputs)
        last = self.ledger.last_succeeded(stage.name)
        reason = self._stale_because(stage, config, inputs, fingerprint, last)
        return StageState(stage, fingerprint, inputs, not reason, reason or "up to date", last)

    def run(self, stage: Stage, *, force: bool = False) -> StageOutcome:
        """Run a stage, or skip it where it is up to date; the ledger's `succeeded` row comes last."""
        state = self.state(stage)
        if state.up_to_date and not force and state.last is not None:
            _log.info("%s: up to date since run %s", stage.name, state.last["run_id"])
            return StageOutcome(stage, state.last["run_id"], True, 0.0, _report_of(state.last))
        config = self._config.stages[stage.name]
        job = self._job(stage, state)
        context = self._ledger_context(config)
        with run_id_in_logs(job.run_id):
            _log.info("%s: starts (%s)", stage.name, "forced" if state.up_to_date else state.reason)
            self.ledger.start(job, context)
            try:
                with watched(self._spark, self._progress, stage.name):
                    report = stage.entry()(job, config)
                report.check(stage.name)
            except BaseException as error:
                self._record_failure(job, context, error)
                raise
            self.ledger.finish(job, context, report)
            seconds = (utc_now() - job.started_at).total_seconds()
            _log.info(
                "%s: done in %.1f s: %d in, %d kept, %d rejected",
                stage.name,
                seconds,
                report.rows_in,
                report.rows_kept,
                report.rows_rejected,
            )
        return StageOutcome(stage, job.run_id, False, seconds, report)

    def _job(self, stage: Stage, state: StageState) -> StageRun:
        return StageRun(
            spark=self._spark,
            tables=self.tables,
            stage=stage.name,
            fingerprint=state.fingerprint,
            artifacts=self._config.artifacts,
            seed=self._config.seed,
            progress=self._progress,
            inputs=state.inputs,
        )

    def _record_failure(self, job: StageRun, context: Mapping[str, Any], error: BaseException) -> None:
        try:
            self.ledger.fail(job, context, error)
        except SparkmlError as second:
            # A lake that cannot be written is often why the stage failed: the first error is the one to show.
            _log.error("the ledger could not record the failure: %s", second)

    def _pin_inputs(self, stage: Stage, config: StageConfig) -> dict[str, int]:
        pinned = {}
        for ref in stage.refs(config, stage.reads):
            version = self.tables.version(ref)
            if version is not None:
                pinned[ref] = version
        for model in stage.refs(config, stage.models):
            found = self.ledger.model_version(model)
            if found is not None:
                pinned[model_ref(model)] = found
        return pinned

    def _fingerprint(self, stage: Stage, config: StageConfig, inputs: Mapping[str, int]) -> str:
        hook = stage.source_state()
        return digest(
            {
                "stage": stage.name,
                "code": code_version(stage),
                "config": config.semantic(),
                "seed": self._config.seed,
                "inputs": dict(inputs),
                "source": hook(config) if hook is not None else None,
            }
        )

    def _stale_because(
        self,
        stage: Stage,
        config: StageConfig,
        inputs: Mapping[str, int],
        fingerprint: str,
        last: Row | None,
    ) -> str:
        if stage.always:
            return "runs whenever asked"
        if last is None:
            return "never ran"
        if last["fingerprint"] != fingerprint:
            return _what_changed(last, inputs, resolved_config_json(config.model_dump(mode="json")), stage)
        outputs = {row["table"]: row["version"] for row in last["outputs"] or []}
        for ref in stage.refs(config, stage.writes):
            if self.tables.version(ref) != outputs.get(ref):
                return f"table `{ref}` is not as this stage left it"
        if stage.makes:
            model = str(getattr(config, stage.makes))
            if self.ledger.model_version(model) != outputs.get(model_ref(model)):
                return f"model `{model}` is not as this stage left it"
        return ""

    def _ledger_context(self, config: StageConfig) -> dict[str, Any]:
        return {
            "config": resolved_config_json(config.model_dump(mode="json")),
            "code_version": __version__,
            "git_commit": git_commit(),
            "packages": package_versions(),
        }


def _what_changed(last: Row, inputs: Mapping[str, int], config_json: str, stage: Stage) -> str:
    before = {row["table"]: row["version"] for row in last["inputs"] or []}
    moved = [ref for ref, version in inputs.items() if before.get(ref) != version]
    if moved:
        return f"new version of {', '.join(f'`{ref}`' for ref in moved)}"
    if last["config"] != config_json:
        return "its configuration changed"
    return (
        "its code, the seed or the source changed" if stage.source_state() else "its code or the seed changed"
    )


def _report_of(row: Row) -> RunReport:
    return RunReport(
        row["rows_in"] or 0,
        row["rows_kept"] or 0,
        row["rows_rejected"] or 0,
        row["reasons"] or {},
        row["bytes_in"] or 0,
        row["metrics"] or {},
    )


def code_version(stage: Stage) -> str:
    """Hash over the sources of a stage and of the packages that decide its result."""
    hashed = hashlib.sha256(__version__.encode())
    root = importlib.resources.files("sparkml")
    for package in ("stages", *stage.code):
        for name, content in _sources(root.joinpath(package), package):
            hashed.update(name.encode())
            hashed.update(content)
    return hashed.hexdigest()[:16]


def _sources(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    if not folder.is_dir():
        return
    for entry in sorted(folder.iterdir(), key=lambda item: item.name):
        if entry.is_dir():
            yield from _sources(entry, f"{prefix}/{entry.name}")
        elif entry.name.endswith(".py"):
            yield f"{prefix}/{entry.name}", entry.read_bytes()


def git_commit() -> str | None:
    """The commit of the checkout that runs; None outside a checkout."""
    root = importlib.resources.files("sparkml")
    if not isinstance(root, Path) or not (root.parent / ".git").exists():
        return None
    shown = subprocess.run(
        ["git", "rev-parse", "HEAD"],
        cwd=root.parent,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
    )
    return shown.stdout.strip() or None


def package_versions() -> dict[str, str]:
    """Versions of the packages that decide results."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
