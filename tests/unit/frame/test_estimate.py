"""Estimates: lines through what runs have used, and the steps of a training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sparkml.errors import UsageError
from sparkml.frame.config import load_config
from sparkml.frame.estimate import estimate, line_through
from sparkml.frame.ledger import SUCCEEDED, Ledger, Run, ended
from sparkml.frame.run import StageRun
from sparkml.frame.stage import Cluster, RunReport
from sparkml.frame.tables import Tables
from sparkml.hosting.estimates import training_estimate
from sparkml.hosting.training import TrainingConfig
from tests.runs import new_run, put_run, without_spark


@pytest.mark.parametrize(
    ("rows", "values", "expected"),
    [
        ([100, 200], [7, 9], (5, 0.02)),
        ([100, 200, 300], [7, 9, 11], (5, 0.02)),
        ([100, 200], [9, 7], (8, 0)),  # the smaller one warmed the machine up: nothing grows
        ([100, 200], [1, 3], (0, 0.014)),  # more than in proportion: the line goes through nothing
        ([100, 100], [6, 8], (0, 0.07)),
    ],
)
def test_lines(rows, values, expected) -> None:
    line = line_through(rows, values)
    assert (line.fixed, line.slope) == pytest.approx(expected)


def test_of_one_size_what_does_not_grow_stays() -> None:
    line = line_through([100], [7], grows=False)
    assert (line.fixed, line.slope) == (7, 0)


@pytest.fixture
def lake(tmp_path: Path) -> tuple[Tables, Ledger]:
    tables = Tables(str(tmp_path / "lake"), without_spark)
    return tables, Ledger(tables)


def put(lake: tuple[Tables, Ledger], step: str, rows: int, seconds: float, **metrics: float) -> None:
    """A run of a step that succeeded."""
    job: StageRun = new_run(*lake, "/nowhere", step, fingerprint=f"{step}-{rows}")
    put_run(job, "started")
    row = next(run for run in job.ledger.runs() if run.run_id == job.run_id)
    done = ended(row, SUCCEEDED, report=RunReport(rows, rows, 0, metrics=metrics), inputs={}, outputs={})
    job.ledger.put(replace(done, seconds=seconds))


def used(
    task_seconds: float, slots: int = 2, shuffle: float = 0.0, memory: float = 100.0
) -> dict[str, float]:
    return {
        "used_task_seconds": task_seconds,
        "used_slots": slots,
        "used_shuffle_bytes": shuffle,
        "used_memory_mb": memory,
    }


def test_a_step_of_spark_is_estimated_from_two_samples(lake) -> None:
    step = load_config("local").pipeline.step("clean")
    # 4 s beside the tasks, 2 s in tasks before the first row, 10 ms a row; half a MB shuffled for a row.
    put(lake, "clean", 1000, 4 + 12 / 2, **used(12, shuffle=5e8))
    put(lake, "clean", 3000, 4 + 32 / 2, **used(32, shuffle=15e8, memory=140))
    found = estimate(lake[1], lake[0], step, Cluster(times=1000, slots=100))
    assert found.rows == 3_000_000
    assert found.seconds == pytest.approx(4 + (2 + 30_000) / 100)
    assert found.shuffle_bytes == pytest.approx(15e11)
    assert (found.runs, found.slots, found.memory_mb) == (2, 100, 140)
    same = estimate(lake[1], lake[0], step, Cluster())
    assert same.seconds == pytest.approx(20)


def test_runs_that_noted_nothing_are_no_basis(lake) -> None:
    step = load_config("local").pipeline.step("clean")
    put(lake, "clean", 1000, 10)
    with pytest.raises(UsageError, match="no run of step `clean` has noted what it used"):
        estimate(lake[1], lake[0], step, Cluster())


def trained(**changes: Any) -> Run:
    """1,000 rows in 100 steps of 20 on two ranks: 60 ms of work, 10 ms for the other rank, 10 for the optimiser."""
    metrics = {
        "steps": 100.0,
        "step_ms": 80.0,
        "feed_ms": 10.0,
        "forward_ms": 20.0,
        "backward_ms": 30.0,
        "allreduce_ms": 10.0,
        "optimizer_ms": 10.0,
        "ranks": 2.0,
        "trainable_parameters": 1e8,
        "tokens_per_second": 20 * 64 / 0.08,
        "peak_memory_mb": 900.0,
    }
    run = Run(run_id="r", step="train", stage="train", fingerprint="f", status=SUCCEEDED, started_at=None)  # type: ignore[arg-type]
    return replace(run, seconds=38.0, config=json.dumps({"batch_size": 20}), metrics={**metrics, **changes})


def test_steps_follow_rows_ranks_and_batch() -> None:
    config = TrainingConfig(max_epochs=2, batch_size=20, ranks=2)
    found = training_estimate([trained()], [1000], config, Cluster(times=10, gigabits=1000))
    # Two epochs of 500 steps of 80 ms, and 30 s of everything else.
    assert found.seconds == pytest.approx(30 + 1000 * 0.08)
    assert found.note == "1,000 steps of 80 ms, 1,280,000 tokens"
    wide = TrainingConfig(max_epochs=2, batch_size=400, ranks=40, canonical_streams=40)
    found = training_estimate([trained()], [1000], wide, Cluster(times=10, gigabits=1000))
    assert found.seconds == pytest.approx(30 + 50 * 0.08)
    half = TrainingConfig(max_epochs=2, batch_size=20, ranks=4)
    found = training_estimate([trained()], [1000], half, Cluster(times=10, gigabits=1000))
    assert found.seconds == pytest.approx(30 + 1000 * 0.05)


def test_a_slow_network_is_waited_for() -> None:
    config = TrainingConfig(max_steps=100, max_epochs=None, batch_size=20, ranks=2)
    found = training_estimate([trained()], [1000], config, Cluster(gigabits=10))
    # 400 MB go out of each rank, 320 ms; the backward pass hides 30 of them.
    assert found.seconds == pytest.approx(30 + 100 * (0.060 + 0.290 + 0.010))


def test_a_training_without_measured_steps_is_no_basis() -> None:
    with pytest.raises(UsageError, match="measured its steps"):
        training_estimate([trained(step_ms=0.0)], [1000], TrainingConfig(), Cluster())
