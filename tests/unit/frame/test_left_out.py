"""A stage that does not apply to the documents: what run-all leaves out, and what it still does."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from sparkml.cli.main import run_stages
from sparkml.errors import NotApplicableError
from sparkml.frame.config import load_config
from sparkml.frame.pipeline import STAGES, Stage, config_types
from sparkml.frame.runner import StageOutcome


class UnlabelledRunner:
    """Runs nothing; finetune finds no labels."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def run(self, stage: Stage, *, force: bool) -> StageOutcome:
        if stage.name == "finetune":
            raise NotApplicableError("there are no labels to learn", next_action="name the field")
        self.ran.append(stage.name)
        return StageOutcome(stage, f"run-{stage.name}", skipped=force)


def run(runner: UnlabelledRunner, lake: Path, *, whole: bool) -> str:
    shown = io.StringIO()
    config = load_config("local", [f"lake={lake}"], stages=config_types())
    run_stages(runner, Console(file=shown, width=120), STAGES, config, force=False, whole=whole)
    return shown.getvalue()


def test_the_whole_way_goes_on_without_it_and_what_depends_on_it(tmp_path: Path) -> None:
    runner = UnlabelledRunner()
    shown = run(runner, tmp_path, whole=True)
    assert runner.ran == ["ingest", "clean", "dedupe", "shard", "train", "report"]
    assert "finetune  left out: there are no labels to learn; name the field" in shown
    assert "compress  left out: needs finetune" in shown
    assert "score     left out: needs finetune" in shown


def test_a_stage_asked_for_by_name_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotApplicableError):
        run(UnlabelledRunner(), tmp_path, whole=False)
