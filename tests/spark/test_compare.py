"""The stage compare: two versions of a model on the same documents."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from sparkml.errors import InputError
from sparkml.frame.ledger import STARTED, SUCCEEDED, Ledger
from sparkml.frame.registry import ModelRecord, Registry
from sparkml.frame.schemas import SCORES, without_run
from sparkml.frame.spark_schemas import spark_schema
from sparkml.frame.tables import Tables
from sparkml.measures.intervals import wilson_interval
from sparkml.report.comparison import gather
from sparkml.report.config import ReportConfig
from sparkml.report.lake import Lake
from sparkml.report.view import StepView
from sparkml.stages.compare import CompareConfig, run
from tests.runs import new_run, put_run

CONFIG = CompareConfig(first="tone/v1", second="tone/v2", source="answers", documents="kept_documents")
DOCUMENTS = [
    ("a", "short", "good", "en"),
    ("b", "x" * 150, "bad", "en"),
    ("c", "y" * 150, None, "de"),
    ("d", "z" * 20_000, "good", None),
    ("never scored", "text", "good", "fr"),
]
# doc_id, version, step, prediction, score, error
ANSWERS: list[tuple[Any, ...]] = [
    ("a", 1, "score", "good", 0.9, None),
    ("b", 1, "score", "good", 0.6, None),
    ("c", 1, "score", "bad", 0.8, None),
    ("d", 1, "score", "good", 0.7, None),
    ("a", 2, "score", "good", 0.8, None),
    ("a", 2, "by another step", "good", 0.9, None),
    ("b", 2, "score", "bad", 0.7, None),
    ("c", 2, "score", "bad", 0.8, None),
    ("d", 2, "score", None, None, "broken"),
    ("only here", 2, "score", "bad", 0.7, None),
]


@pytest.fixture
def tables(spark: SparkSession, tmp_path: Path) -> Tables:
    found = Tables(str(tmp_path / "lake"), lambda: spark)
    found.overwrite(
        spark.createDataFrame(DOCUMENTS, "doc_id string, text string, label string, lang string"),
        "kept_documents",
    )
    schema = spark_schema(without_run(SCORES))
    rows = [
        {"doc_id": doc_id, "model_id": "tone", "model_version": version, "step": step}
        | {"prediction": prediction, "score": score, "error": error}
        for doc_id, version, step, prediction, score, error in ANSWERS
    ]
    full = [tuple(row.get(name) for name in schema.names) for row in rows]
    found.overwrite(spark.createDataFrame(full, schema), "answers")
    for version in (1, 2):
        record = ModelRecord(
            "tone", version, str(tmp_path / f"v{version}"), "finetuned", stage_run=f"run-{version}"
        )
        Registry(found, Ledger(found)).register(record, record.stage_run)
    return found


def test_flips_by_slice_and_what_became_what(tables: Tables, tmp_path: Path, spark: SparkSession) -> None:
    job = new_run(tables, Ledger(tables), tmp_path / "artifacts", "compare")
    put_run(job, STARTED)
    report = run(job, CONFIG)
    rows = {row["slice"]: row for row in tables.read("evaluations").collect()}
    assert {(row["model_id"], row["model_version"], row["step"]) for row in rows.values()} == {
        ("tone", 2, "compare")
    }
    every = rows["all"]
    figures = every["metrics"]
    assert (every["n"], figures["flipped"], figures["flips"]) == (4, 2.0, 0.5)
    assert figures["flips_low"] == pytest.approx(wilson_interval(2, 4).low)
    # Of the two steps that asked version 2 about `a` the first by name counts; `d` has no second score.
    assert figures["score_change"] == pytest.approx((0.0 + 0.1 + 0.0) / 3)
    assert (figures["first_accuracy"], figures["second_accuracy"]) == (
        pytest.approx(2 / 3),
        pytest.approx(2 / 3),
    )
    assert (figures["first_errors"], figures["second_errors"]) == (0, 1)
    assert {name: (row["n"], row["metrics"]["flipped"]) for name, row in rows.items()} == {
        "all": (4, 2),
        "lang=en": (2, 1),
        "lang=de": (1, 0),
        "label=good": (2, 1),
        "label=bad": (1, 1),
        "characters=0 to 100": (1, 0),
        "characters=100 to 300": (2, 1),
        "characters=10000 and more": (1, 1),
        "change=good > bad": (1, 1),
        "change=good > (error)": (1, 1),
    }
    assert report.metrics["documents"] == 4
    put_run(job, SUCCEEDED, report)
    (done,) = Ledger(tables).runs()
    done = replace(done, config=CONFIG.model_dump_json())
    view = StepView(Lake(job, ReportConfig()), done)
    facts = gather(view)
    assert facts is not None
    assert facts.lead.startswith("tone/v2 answers 50.0 % of 4 documents otherwise than tone/v1 (")
    by_slice, changes = facts.tables
    assert by_slice.rows[0][:4] == ["all", 4, 2, "50.0 %"]
    assert sorted(map(tuple, changes.rows)) == [("good", "(error)", 1), ("good", "bad", 1)]


def test_models_that_no_document_has_answers_of_both(
    tables: Tables, tmp_path: Path, spark: SparkSession
) -> None:
    tables.overwrite(tables.read("answers").where("model_version = 1"), "answers")
    job = new_run(tables, Ledger(tables), tmp_path / "artifacts", "compare")
    put_run(job, STARTED)
    with pytest.raises(InputError, match=r"no document has answers of both[\s\S]*tone/v1 and of tone/v2"):
        run(job, CONFIG)
