"""Every job file hands its stage and the words of the command line to the command line's `main`."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from sparkml.cli import main as cli
from sparkml.frame.pipeline import STAGES

JOBS = Path(__file__).resolve().parents[3] / "jobs"
EXPECTED = {stage.name: ["run", stage.name] for stage in STAGES} | {"run_all": ["run-all"]}


def test_there_is_a_job_for_every_stage_and_one_for_all() -> None:
    assert {path.stem for path in JOBS.glob("*.py")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_job_runs_its_stage_and_exits_with_its_code(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []
    monkeypatch.setattr(cli, "main", lambda words: called.append(words) or 3)
    monkeypatch.setattr(sys, "argv", ["job.py", "--env", "cluster", "lake=x"])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(JOBS / f"{name}.py"), run_name="__main__")
    assert left.value.code == 3
    assert called == [[*EXPECTED[name], "--env", "cluster", "lake=x"]]
