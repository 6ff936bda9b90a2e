"""A step that does not apply to the documents: what run-all leaves out, and what it still does."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from rich.console import Console

from sparkml.cli.screens import show_left_out
from sparkml.errors import NotApplicableError
from sparkml.frame.config import load_config
from sparkml.frame.pipeline import Step
from sparkml.frame.progress import Progress
from sparkml.frame.runner import Runner, StepOutcome


def no_session() -> SparkSession:
    raise AssertionError("nothing here needs Spark")


class UnlabelledRunner(Runner):
    """Runs nothing; finetune finds no labels."""

    def __init__(self, lake: Path, pipeline: str = "default") -> None:
        super().__init__(no_session, load_config("local", [f"lake={lake}"], pipeline=pipeline), Progress())
        self.ran: list[str] = []
        self.prepared: set[str] = set()

    def run(self, step: Step, *, force: bool) -> StepOutcome:
        if step.stage.name == "finetune":
            raise NotApplicableError("there are no labels to learn", next_action="name the field")
        self.ran.append(step.name)
        return StepOutcome(step, f"run-{step.name}", skipped=force)

    def has_made(self, step: Step) -> bool:
        return step.name not in self.prepared


def run(runner: UnlabelledRunner, *, whole: bool) -> str:
    shown = io.StringIO()
    console = Console(file=shown, width=120)
    steps = runner._config.pipeline.steps
    runner.run_steps(steps, whole=whole, on_left_out=lambda step, why: show_left_out(console, step, why))
    return shown.getvalue()


def test_a_whole_pipeline_goes_on_without_it_and_what_depends_on_it(tmp_path: Path) -> None:
    runner = UnlabelledRunner(tmp_path)
    shown = run(runner, whole=True)
    assert runner.ran == ["ingest", "clean", "dedupe", "shard", "train", "report"]
    assert "finetune  left out: there are no labels to learn; name the field" in shown
    assert "compress  left out: needs finetune" in shown
    assert "score     left out: needs compress" in shown


def test_what_depends_on_a_model_that_is_trained_elsewhere_waits(tmp_path: Path) -> None:
    runner = UnlabelledRunner(tmp_path)
    runner.prepared = {"train"}
    shown = run(runner, whole=True)
    assert runner.ran == ["ingest", "clean", "dedupe", "shard", "train", "report"]
    assert "finetune  left out: needs train" in shown


def test_another_pipeline_leaves_out_its_own_steps(tmp_path: Path) -> None:
    runner = UnlabelledRunner(tmp_path, "reviews")
    shown = run(runner, whole=True)
    assert runner.ran == ["ingest", "clean", "dedupe", "shard", "encoder", "report"]
    assert "sentiment left out: there are no labels to learn" in shown
    assert "score     left out: needs sentiment" in shown


def test_a_step_asked_for_by_name_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotApplicableError):
        run(UnlabelledRunner(tmp_path), whole=False)
