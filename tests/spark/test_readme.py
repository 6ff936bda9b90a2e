"""What README shows works: the Python, the pipeline, the commands' names."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import mlflow.pyfunc
import pytest
from pyspark.sql import SparkSession
from typer.main import get_command

import sparkml
from sparkml.cli.main import app
from sparkml.frame.config import load_config
from tests.way import Way

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()


def python_with(word: str) -> str:
    """The example in which a word stands."""
    (found,) = (one for one in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if word in one)
    return str(found)


@pytest.fixture
def beside(way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory in which the filled lake has the name that README gives it."""
    (tmp_path / "lake").symlink_to(way.lake)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("beside")
def test_the_python_example_runs(way: Way, capsys: pytest.CaptureFixture[str]) -> None:
    source = python_with("open_lake")
    names: dict[str, object] = {}
    exec(compile(source, "README.md", "exec"), names)
    shown = capsys.readouterr().out
    assert "'scores'" in shown
    assert f" {len(way.fates.kept)}\n" in shown
    for station in ("model classifier version 1", "manifest ", "bronze"):
        assert station in shown
    assert set(names["scorer"].labels) == {"sea", "kitchen", "court"}


def test_the_functions_of_a_model_run(beside: Path, spark: SparkSession) -> None:
    reviews = spark.createDataFrame([("waves and harbour",)], "text string")
    reviews.createOrReplaceTempView("reviews")
    names = {"sparkml": sparkml, "mlflow": mlflow, "spark": spark, "reviews": reviews}
    exec(compile(python_with("register"), "README.md", "exec"), names)
    (row,) = spark.sql("SELECT sentiment(text).prediction FROM reviews").collect()
    assert row[0] in {"sea", "kitchen", "court"}
    (written,) = (beside / "exported").glob("MLmodel")
    assert "sparkml" in written.read_text()


def test_the_function_on_ranks_runs(spark: SparkSession, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(python_with("distributed.run"), "README.md", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.splitlines()[-1] == "[(0, 0.1), (1, 0.1)]"


def test_the_pipeline_example_loads(tmp_path: Path) -> None:
    block = README[README.index("    # conf/pipelines/news.yaml") : README.index("| pipeline | for |")]
    (tmp_path / "news.yaml").write_text(textwrap.dedent(block))
    steps = load_config("local", pipeline=str(tmp_path / "news.yaml")).pipeline.steps
    order = [step.name for step in steps]
    assert order.index("encoder") < order.index("topics") < order.index("by_topic") < order.index("report")
    assert order.index("mood") < order.index("small") < order.index("by_mood")


def test_the_pipeline_of_good_text_loads(tmp_path: Path) -> None:
    block = README[README.index("    # conf/pipelines/good.yaml") : README.index("`clean.drop_when` is SQL")]
    (tmp_path / "good.yaml").write_text(textwrap.dedent(block))
    order = [step.name for step in load_config("local", pipeline=str(tmp_path / "good.yaml")).pipeline.steps]
    assert order.index("wiki") < order.index("taste") < order.index("clean") < order.index("select")


def test_every_command_that_is_named_is_there() -> None:
    named = set(re.findall(r"^ +sparkml ([a-z-]+)", README, re.MULTILINE))
    assert named
    assert named <= set(get_command(app).commands)


def test_every_make_target_that_is_named_is_there() -> None:
    makefile = (Path(__file__).resolve().parents[2] / "Makefile").read_text()
    named = set(re.findall(r"(?:`|^ {4})make ([a-z0-9-]+)", README, re.MULTILINE))
    assert {"demo", "test", "s3", "zip"} <= named
    assert named <= set(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE))
