"""A pretrained encoder scores texts as it is: by the stage score, and as a function of SQL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession

import sparkml
from sparkml.errors import InputError
from sparkml.frame.ledger import STARTED, SUCCEEDED, Ledger
from sparkml.frame.stage import RunReport
from sparkml.frame.tables import Tables
from sparkml.hosting.examples import Columns
from sparkml.inference.scorer import load_scorer
from sparkml.stages.evaluate import EvaluateConfig
from sparkml.stages.evaluate import run as evaluate
from sparkml.stages.score.config import ScoreConfig
from sparkml.stages.score.stage import run
from sparkml.tasks.task import TaskChoice
from tests.runs import new_run, put_run
from tests.tiny import DECIDED, tiny_model

PAIRS = [("a", "win the prize", "cash"), ("b", "late train", "tomorrow"), ("c", "lunch", None)]
RETRIEVE = TaskChoice(name="retrieve", query_prefix="win ", passage_prefix="late ")
PASSAGES = TaskChoice(name="retrieve", query_prefix="win ", passage_prefix="late ", side="passage")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory as transformers writes it, without a task."""
    return tiny_model(tmp_path_factory.mktemp("retrieve") / "encoder", "AutoModel", config=DECIDED)


@pytest.fixture
def pairs(write_table: Callable[..., int]) -> None:
    """The table `pairs`."""
    write_table("pairs", PAIRS, "doc_id string, text string, text_b string")


def scored(
    tables: Tables, folder: Path, encoder: Path, task: TaskChoice | None, column: str = "text"
) -> RunReport:
    job = put_run(new_run(tables, Ledger(tables), folder / "artifacts", "score"), STARTED)
    config = ScoreConfig(
        source="pairs", model=str(encoder), task=task, columns=Columns(text=column), max_error_fraction=1
    )
    report = run(job, config)
    put_run(job, SUCCEEDED, report)
    return report


def vectors(tables: Tables) -> dict[str, list[float] | None]:
    return {row["doc_id"]: row["embedding"] for row in tables.read("scores").collect()}


@pytest.mark.usefixtures("pairs")
def test_both_sides_are_scored_with_their_own_prefix(tables: Tables, tmp_path: Path, encoder: Path) -> None:
    report = scored(tables, tmp_path, encoder, RETRIEVE)
    scorer = load_scorer(encoder, task=TaskChoice(name="retrieve"))
    alone = [
        answer.embedding for answer in scorer.answer(["win win the prize", "win late train", "win lunch"])
    ]
    found = vectors(tables)
    assert [found[name] for name in "abc"] == [pytest.approx(one, abs=1e-5) for one in alone]
    assert (report.rows_kept, report.metrics["scored"]) == (3, 3)
    assert scored(tables, tmp_path, encoder, RETRIEVE).metrics["scored"] == 0
    # The same texts asked for as passages are other answers: none of those that are there will do.
    assert scored(tables, tmp_path, encoder, PASSAGES).metrics["scored_again"] == 3
    (as_passage,) = scorer.answer(["late late train"])
    assert vectors(tables)["b"] == pytest.approx(as_passage.embedding, abs=1e-5)
    report = scored(tables, tmp_path, encoder, PASSAGES, "text_b")
    assert (report.rows_kept, report.reasons) == (2, {"error": 1})
    assert vectors(tables)["c"] is None


@pytest.mark.usefixtures("pairs")
def test_a_directory_without_a_task_has_to_be_asked_for_one(
    tables: Tables, tmp_path: Path, encoder: Path
) -> None:
    with pytest.raises(InputError, match=r"task\.name=retrieve"):
        scored(tables, tmp_path, encoder, None)


@pytest.mark.usefixtures("pairs")
def test_it_is_measured_as_it_is(tables: Tables, tmp_path: Path, encoder: Path) -> None:
    job = put_run(new_run(tables, Ledger(tables), tmp_path / "artifacts", "evaluate"), STARTED)
    report = evaluate(
        job, EvaluateConfig(source="pairs", model=str(encoder), task=TaskChoice(name="retrieve"))
    )
    scorer = load_scorer(encoder, task=TaskChoice(name="retrieve"))
    both = [scorer.answer([row[side] for row in PAIRS[:2]]) for side in (1, 2)]
    queries, passages = (np.array([answer.embedding for answer in answers]) for answers in both)
    cosines = queries @ passages.T
    right = float(np.mean(cosines.argmax(axis=1) == np.arange(2)))
    assert (report.metrics["measured"], report.metrics["rejected"]) == (2, 1)
    assert report.metrics["recall_at_1"] == right
    assert report.metrics["recall_at_5"] == 1.0


def test_a_function_of_sql_gives_vectors(spark: SparkSession, encoder: Path) -> None:
    sparkml.register(spark, "embed", str(encoder), task="retrieve")
    rows = spark.sql("SELECT embed('lunch') AS said UNION ALL SELECT embed(NULL)").collect()
    found = sorted((row["said"] for row in rows), key=lambda said: said["error"] or "")
    (expected,) = load_scorer(encoder, task=TaskChoice(name="retrieve")).answer(["lunch"])
    assert found[0]["embedding"] == pytest.approx(expected.embedding, abs=1e-5)
    assert (found[1]["embedding"], found[1]["error"]) == (None, "text_missing null")
