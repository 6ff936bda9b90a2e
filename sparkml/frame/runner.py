"""Runs steps: pins inputs, skips what is up to date, keeps the ledger, checks the accounting."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sparkml import __version__
from sparkml.errors import NotApplicableError, SparkmlError, UsageError
from sparkml.frame import storage
from sparkml.frame.as_left import why_not_as_left
from sparkml.frame.config import ProjectConfig
from sparkml.frame.fingerprint import code_of, digest, git_commit, versions_of
from sparkml.frame.ledger import (
    FAILED,
    STARTED,
    SUCCEEDED,
    WHOLE_COMMITS,
    Ledger,
    Run,
    as_json,
    ended,
    error_text,
)
from sparkml.frame.pipeline import MODEL_MARK, Step, model_ref
from sparkml.frame.progress import Progress
from sparkml.frame.registry import Registry, model_identity
from sparkml.frame.run import StageRun
from sparkml.frame.stage import RunReport
from sparkml.frame.tables import Tables
from sparkml.log import get_logger, run_id_in_logs

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_log = get_logger(__name__)
# Code around every stage that affects its result too: how tables are read and written, what is pinned and recorded.
_FRAME = "sparkml.frame.run"


@dataclass(frozen=True)
class Inputs:
    """What goes into a run: versions by table and model, and an identity of each beyond its number."""

    versions: Mapping[str, int]
    identities: Mapping[str, str]


@dataclass(frozen=True)
class StepState:
    """Whether a step would run, and why."""

    step: Step
    fingerprint: str
    inputs: Inputs
    up_to_date: bool
    reason: str
    last: Run | None = None


@dataclass(frozen=True)
class StepOutcome:
    """What became of a step in this call."""

    step: Step
    run_id: str
    skipped: bool
    seconds: float = 0.0
    report: RunReport = field(default_factory=RunReport)


class Runner:
    """Runs the steps of a pipeline on one lake; asks for a session only when a step runs (or the lake is a catalog)."""

    def __init__(
        self,
        session: Callable[[], SparkSession],
        config: ProjectConfig,
        progress: Progress,
        *,
        expect: Callable[[int], None] = lambda input_bytes: None,
    ) -> None:
        self._config = config
        self._progress = progress
        self._expect = expect  # is told how many bytes will be read, before a session starts
        self.tables = Tables(config.lake, session)
        self.ledger = Ledger(self.tables)
        self.registry = Registry(self.tables, self.ledger)

    def state(self, step: Step) -> StepState:
        """Would this step run now? Compares with its last run that succeeded. Needs no session on a folder or URI."""
        inputs = self._pin(step)
        fingerprint = self._fingerprint(step, inputs)
        last = self.ledger.last_succeeded(step.name)
        reason = self._stale_because(step, inputs, fingerprint, last)
        return StepState(step, fingerprint, inputs, not reason, reason or "up to date", last)

    def run(self, step: Step, *, force: bool = False) -> StepOutcome:
        """Run a step, or skip it where it is up to date; the ledger's `succeeded` row comes last."""
        from sparkml.frame.session import PARTITIONS, shuffles_for, usage, watched

        state = self.state(step)
        if state.up_to_date and not force and state.last is not None:
            _log.info("%s: up to date since run %s", step.name, state.last.run_id)
            return StepOutcome(step, state.last.run_id, True, 0.0, state.last.report)
        job = self._job(step, state, None if force else self._earlier(step, state))
        with run_id_in_logs(job.run_id):
            _log.info("%s: starts (%s)", step.name, "forced" if state.up_to_date else state.reason)
            row = self._started(step, state, job)
            try:
                with ExitStack() as stack:
                    if PARTITIONS not in self._config.spark:  # else the user has chosen a number
                        stack.enter_context(
                            shuffles_for(self.tables.spark, self._input_bytes(step, state.inputs))
                        )
                    stack.enter_context(watched(self.tables.spark, self._progress, step.name))
                    used = stack.enter_context(usage(self.tables.spark))
                    report = step.stage.run(job, step.config)
                report.check(step.name)  # before the row that makes what was written count
            except BaseException as error:
                self._record_failure(row, job, error)
                raise
            done = ended(
                row,
                SUCCEEDED,
                report=replace(report, metrics={**report.metrics, **used}),
                inputs=job.inputs,
                outputs=job.outputs,
                parents=self._parents(job),
            )
            self.ledger.put(done)
            _log.info("%s: done in %.1f s: %s", step.name, done.seconds, in_words(report))
        return StepOutcome(step, job.run_id, False, done.seconds or 0.0, report)

    def run_steps(
        self,
        steps: Sequence[Step],
        *,
        force: bool = False,
        whole: bool = False,
        on_outcome: Callable[[StepOutcome], None] = lambda outcome: None,
        on_left_out: Callable[[Step, str], None] = lambda step, why: None,
    ) -> list[StepOutcome]:
        """Run steps in order. Of a `whole` pipeline, one that does not apply is left out, and what depends on it."""
        self._announce(steps)
        outcomes: list[StepOutcome] = []
        left_out: set[str] = set()
        for step in steps:
            missing = left_out.intersection(self._config.pipeline.upstream(step))
            if missing and not step.stage.last:
                left_out.add(step.name)
                on_left_out(step, f"needs {', '.join(sorted(missing))}")
                continue
            try:
                outcomes.append(self.run(step, force=force))
            except NotApplicableError as error:
                if not whole:
                    raise
                left_out.add(step.name)
                on_left_out(step, f"{error.what}; {error.next_action}")
                continue
            on_outcome(outcomes[-1])
            if whole and not self.has_made(step):
                left_out.add(step.name)  # it is done, but what depends on it has nothing to work with
        return outcomes

    def has_made(self, step: Step) -> bool:
        """False where a step that makes a model has prepared it only: with `ranks=0` it is trained elsewhere."""
        return not step.makes or self.registry.find(step.makes) is not None

    def verify(self, step: Step) -> Mapping[str, float]:
        """Read again what the step's last run that succeeded has written; an error names what is damaged."""
        if step.stage.verify is None:
            raise UsageError(
                f"stage `{step.stage.name}` has nothing that is verified",
                next_action="name steps that write manifests: stages shard, finetune",
            )
        state = self.state(step)
        if state.last is None:
            raise UsageError(f"step `{step.name}` never ran", next_action=f"sparkml run {step.name}")
        return step.stage.verify(self._job(step, state), step.config, state.last)

    def _announce(self, steps: Sequence[Step]) -> None:
        """Tell how much the steps will read, where that is known: tables which are there already."""
        if storage.is_catalog(self._config.lake) or any(step.stage.source_state for step in steps):
            return
        inputs = [(step, self._pin(step)) for step in steps]
        if all(step.stage.last or set(step.reads) <= pinned.versions.keys() for step, pinned in inputs):
            self._expect(sum(self._input_bytes(step, pinned) for step, pinned in inputs))

    def _input_bytes(self, step: Step, inputs: Inputs) -> int:
        known = set(step.reads) & inputs.versions.keys()
        return sum(self.tables.log(ref).size(inputs.versions[ref]) for ref in known)

    def _job(self, step: Step, state: StepState, earlier: Run | None = None) -> StageRun:
        return StageRun(
            tables=self.tables,
            ledger=self.ledger,
            step=step.name,
            stage=step.stage.name,
            fingerprint=state.fingerprint,
            artifacts=self._config.artifacts,
            seed=self._config.seed,
            progress=self._progress,
            inputs=state.inputs.versions,
            earlier=earlier,
            intact=lambda run: not self._not_as_left(step, run),
        )

    def _started(self, step: Step, state: StepState, job: StageRun) -> Run:
        """Write the `started` row, before any work."""
        row = Run(
            run_id=job.run_id,
            step=step.name,
            stage=step.stage.name,
            pipeline=self._config.pipeline.name,
            fingerprint=state.fingerprint,
            status=STARTED,
            started_at=job.started_at,
            inputs=dict(job.inputs),
            config=_recorded_config(step),
            code_version=__version__,
            git_commit=git_commit(),
            packages=versions_of(_packages(step)),
            metrics={WHOLE_COMMITS: 1.0} if step.stage.whole_commits else {},
        )
        self.ledger.put(row)
        return row

    def _record_failure(self, row: Run, job: StageRun, error: BaseException) -> None:
        try:
            failed = ended(
                row,
                FAILED,
                error=error_text(error),
                inputs=job.inputs,
                outputs=job.outputs,
                parents=self._parents(job),
            )
            self.ledger.put(failed)
        except SparkmlError as second:
            # A lake that cannot be written is often why the step failed: the first error is the one to show.
            _log.error("the ledger could not record the failure: %s", second)

    def _parents(self, job: StageRun) -> list[str]:
        writers = (self.ledger.writer_of(ref, version) for ref, version in job.inputs.items())
        return sorted({run.run_id for run in writers if run is not None})

    def _pin(self, step: Step) -> Inputs:
        """The versions that successful runs (and other programs) left; never those of a run that failed or died."""
        versions: dict[str, int] = {}
        identities: dict[str, str] = {}
        unfinished = self.ledger.unfinished()
        for ref in step.reads:
            version = self.tables.published(ref, unfinished)
            if version is not None:
                versions[ref], identities[ref] = version, self.tables.log(ref).table_id()
        for model in step.uses:
            record = self.registry.find(model)
            if record is not None:
                ref = model_ref(record.model_id)
                versions[ref], identities[ref] = record.version, model_identity(record)
        return Inputs(versions, identities)

    def _fingerprint(self, step: Step, inputs: Inputs) -> str:
        code = [code_of(step.stage.module), code_of(_FRAME)]
        hook = step.stage.source_state
        models = {ref for ref in inputs.versions if ref.startswith(MODEL_MARK)}
        work = {
            "stage": step.stage.name,
            "code": [part.digest for part in code],
            "packages": versions_of(_packages(step)),
            "config": step.config.semantic(),
            "seed": self._config.seed,
            "lookups": step.stage.lookups(step.config) if step.stage.lookups is not None else None,
            # Another model answers otherwise for every row, not for those alone that have come.
            "models": {ref: [inputs.versions[ref], inputs.identities[ref]] for ref in models},
        }
        given = {
            "inputs": {ref: version for ref, version in inputs.versions.items() if ref not in models},
            "identities": {ref: found for ref, found in inputs.identities.items() if ref not in models},
            "source": hook(step.config) if hook is not None else None,
        }
        return f"{digest(work)}-{digest(given)}"

    def _stale_because(self, step: Step, inputs: Inputs, fingerprint: str, last: Run | None) -> str:
        if step.stage.last:
            return "runs whenever asked"
        if last is None:
            return "never ran"
        if last.fingerprint != fingerprint:
            return _what_changed(step, inputs, last)
        if step.stage.again is not None and (why := step.stage.again(last.report)):
            return why
        if why := self._not_as_left(step, last):
            return why
        if (
            step.makes and model_ref(step.makes) in last.outputs
        ):  # a step may find that there is nothing to make
            record = self.registry.find(step.makes)
            if record is None or record.stage_run != last.run_id:
                return f"model `{step.makes}` is not as this step left it"
            if model_identity(record) == "missing":
                return f"files of model `{step.makes}` are missing or cut off"
        return ""

    def _not_as_left(self, step: Step, last: Run) -> str:
        """Which of its tables is not as a run of the step has left it, and why; empty where all are."""
        for ref in step.writes:
            shared = ref in step.refs("shares").values()
            if why := why_not_as_left(ref, self.tables.log(ref), self.ledger, last, shared=shared):
                return why
        return ""

    def _earlier(self, step: Step, state: StepState) -> Run | None:
        """The step's last run, where it did the same work."""
        last = state.last
        return last if last is not None and work_of(last.fingerprint) == work_of(state.fingerprint) else None


def work_of(fingerprint: str) -> str:
    """The part of a fingerprint that says what is done (code, configuration, seed, models), not with which rows."""
    return fingerprint.partition("-")[0]


def _recorded_config(step: Step) -> str:
    """The configuration as the ledger keeps it: without credentials that somebody wrote into a URI."""
    return as_json(storage.redacted_tree(step.config.model_dump(mode="json")))


def _packages(step: Step) -> tuple[str, ...]:
    """What the code of a step imports, and Delta, which is in the JVM."""
    return tuple(sorted({*code_of(step.stage.module).packages, *code_of(_FRAME).packages, "delta-spark"}))


def _what_changed(step: Step, inputs: Inputs, last: Run) -> str:
    moved = [ref for ref, version in inputs.versions.items() if last.inputs.get(ref) != version]
    if moved:
        return f"new version of {', '.join(_named(ref) for ref in moved)}"
    if last.config != _recorded_config(step):
        return "its configuration changed"
    what = "its code, its packages, the seed or the identity of an input changed"
    return f"the source changed, or {what}" if step.stage.source_state else what


def _named(ref: str) -> str:
    return f"model `{ref.removeprefix(MODEL_MARK)}`" if ref.startswith(MODEL_MARK) else f"`{ref}`"


def in_words(report: RunReport) -> str:
    """A report in a few words."""
    if report.rows_in is None:
        return ", ".join(f"{name} {value:.4g}" for name, value in list(report.metrics.items())[:4]) or "done"
    return f"{report.rows_in} in, {report.rows_kept} kept, {report.rows_rejected or 0} rejected"
