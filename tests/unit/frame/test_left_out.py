"""A step that does not apply to the documents: what run-all leaves out, and what it still does."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from sparkml.cli.main import run_steps
from sparkml.errors import NotApplicableError
from sparkml.frame.config import load_config
from sparkml.frame.pipeline import Step
from sparkml.frame.runner import StepOutcome


class UnlabelledRunner:
    """Runs nothing; finetune finds no labels."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def run(self, step: Step, *, force: bool) -> StepOutcome:
        if step.stage.name == "finetune":
            raise NotApplicableError("there are no labels to learn", next_action="name the field")
        self.ran.append(step.name)
        return StepOutcome(step, f"run-{step.name}", skipped=force)


def run(runner: UnlabelledRunner, lake: Path, *, whole: bool, pipeline: str = "default") -> str:
    shown = io.StringIO()
    config = load_config("local", [f"lake={lake}"], pipeline=pipeline)
    steps = config.pipeline.steps
    run_steps(runner, Console(file=shown, width=120), steps, config, force=False, whole=whole)
    return shown.getvalue()


def test_a_whole_pipeline_goes_on_without_it_and_what_depends_on_it(tmp_path: Path) -> None:
    runner = UnlabelledRunner()
    shown = run(runner, tmp_path, whole=True)
    assert runner.ran == ["ingest", "clean", "dedupe", "shard", "train", "report"]
    assert "finetune  left out: there are no labels to learn; name the field" in shown
    assert "compress  left out: needs finetune" in shown
    assert "score     left out: needs finetune" in shown


def test_another_pipeline_leaves_out_its_own_steps(tmp_path: Path) -> None:
    runner = UnlabelledRunner()
    shown = run(runner, tmp_path, whole=True, pipeline="reviews")
    assert runner.ran == ["ingest", "clean", "dedupe", "shard", "encoder", "report"]
    assert "sentiment left out: there are no labels to learn" in shown
    assert "score     left out: needs sentiment" in shown


def test_a_step_asked_for_by_name_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotApplicableError):
        run(UnlabelledRunner(), tmp_path, whole=False)
