"""What a run writes without Spark."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparkml.frame.ledger import FAILED, STARTED, SUCCEEDED, Ledger
from sparkml.frame.schemas import EVALUATIONS
from sparkml.frame.tables import Tables
from tests.runs import new_run, put_run, without_spark


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    return Tables(str(tmp_path / "lake"), without_spark)


def test_a_run_takes_away_what_dead_runs_of_its_step_left_and_nothing_else(
    tables: Tables, tmp_path: Path
) -> None:
    ledger = Ledger(tables)

    def put(step: str, status: str) -> str:
        job = put_run(new_run(tables, ledger, tmp_path, "evaluate", step=step), STARTED)
        job.put_rows("evaluations", [{"run_id": job.run_id, "slice": "all"}], "run_id", EVALUATIONS)
        return put_run(job, status).run_id

    def left() -> set[str]:
        return set(tables.log("evaluations").read().column("run_id").to_pylist())

    first, other = put("measure", SUCCEEDED), put("another", FAILED)
    dead = {put("measure", FAILED), put("measure", FAILED)}
    assert left() & dead, "the second of them has taken away what the first one left"
    last = put("measure", SUCCEEDED)
    assert left() == {first, other, last}
