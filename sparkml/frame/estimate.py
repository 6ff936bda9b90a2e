"""What a step would take for a larger corpus on another cluster, from runs that the ledger has.

Every run notes what it used: seconds, seconds of its Spark tasks, slots, bytes of shuffles, memory. Two runs over
samples of different sizes tell what is fixed and what grows with the rows; one run alone cannot, and all of its tasks'
time then counts as growing. A step that takes `s` seconds, `t` of them in tasks on `k` slots, takes

    (s - t / k) + t / slots

with both terms, as the bytes of shuffles and tables, straight lines over the rows. Stages of which that is not so (a
training's steps) have an estimate of their own: `Stage.estimate`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sparkml.errors import UsageError
from sparkml.frame.ledger import SUCCEEDED, Ledger, Run
from sparkml.frame.pipeline import MODEL_MARK, Step
from sparkml.frame.stage import USED, Cluster, Estimate
from sparkml.frame.tables import Tables

_TASK_SECONDS, _SHUFFLE_BYTES, _SLOTS, _MEMORY_MB = (
    f"{USED}{name}" for name in ("task_seconds", "shuffle_bytes", "slots", "memory_mb")
)


@dataclass(frozen=True)
class Line:
    """fixed + slope * rows, neither below zero."""

    fixed: float
    slope: float

    def at(self, rows: float) -> float:
        """The value for so many rows."""
        return self.fixed + self.slope * rows


def line_through(rows: Sequence[float], values: Sequence[float], *, grows: bool = True) -> Line:
    """Least squares; `grows`: where there is only one size, all of the value does, else nothing of it."""
    count, mean_x, mean_y = len(rows), sum(rows) / len(rows), sum(values) / len(values)
    spread = sum((x - mean_x) ** 2 for x in rows)
    if not spread:
        return Line(0.0, mean_y / mean_x) if grows and mean_x else Line(mean_y, 0.0)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(rows, values, strict=True)) / spread
    if slope <= 0:
        return Line(sum(values) / count, 0.0)
    fixed = mean_y - slope * mean_x
    if fixed >= 0:
        return Line(fixed, slope)
    return Line(0.0, sum(x * y for x, y in zip(rows, values, strict=True)) / sum(x * x for x in rows))


def rows_of(run: Run, tables: Tables) -> float:
    """The size of what a run worked on: rows, or bytes of its inputs where it counts none."""
    rows = run.metrics.get("train_rows") or run.rows_in
    if rows:
        return float(rows)
    versions = {ref: version for ref, version in run.inputs.items() if not ref.startswith(MODEL_MARK)}
    return float(sum(tables.log(ref).size(version) for ref, version in versions.items()))


def usable_runs(ledger: Ledger, step: Step) -> list[Run]:
    """The runs of a step that succeeded and noted what they used; UsageError where there is none."""
    runs = [
        run
        for run in ledger.runs()
        if run.step == step.name and run.status == SUCCEEDED and _TASK_SECONDS in run.metrics and run.seconds
    ]
    if not runs:
        raise UsageError(
            f"no run of step `{step.name}` has noted what it used",
            next_action="run it on samples of two sizes: ingest.source.sample_fraction takes part of the files",
        )
    return runs


def estimate(ledger: Ledger, tables: Tables, step: Step, cluster: Cluster) -> Estimate:
    """What the step would take; `cluster` says how many times the rows of its last run, and on what."""
    runs = usable_runs(ledger, step)
    sizes = [rows_of(run, tables) for run in runs]
    written = [_written(run, tables) for run in runs]
    hook: Callable[..., Estimate] | None = step.stage.estimate
    if hook is not None:
        own = hook(runs, sizes, step.config, cluster)
        return own.with_storage(line_through(sizes, written).at(sizes[-1] * cluster.times))
    tasks = [run.metrics[_TASK_SECONDS] for run in runs]
    rest = [
        max((run.seconds or 0.0) - task / run.metrics[_SLOTS], 0.0)
        for run, task in zip(runs, tasks, strict=True)
    ]
    rows = sizes[-1] * cluster.times
    slots = cluster.slots or int(runs[-1].metrics[_SLOTS])
    return Estimate(
        step=step.name,
        runs=len(set(sizes)),
        rows=rows,
        slots=slots,
        seconds=line_through(sizes, rest, grows=False).at(rows) + line_through(sizes, tasks).at(rows) / slots,
        shuffle_bytes=line_through(sizes, _of(runs, _SHUFFLE_BYTES)).at(rows),
        written_bytes=line_through(sizes, written).at(rows),
        memory_mb=max(_of(runs, _MEMORY_MB)),
    )


def _of(runs: Sequence[Run], name: str) -> list[float]:
    return [run.metrics.get(name, 0.0) for run in runs]


def _written(run: Run, tables: Tables) -> float:
    """Bytes that a run added to its tables, as far as other runs have not changed them since."""
    outputs: Mapping[str, int] = {ref: v for ref, v in run.outputs.items() if not ref.startswith(MODEL_MARK)}
    return float(sum(tables.log(ref).size(version) for ref, version in outputs.items()))
