"""Texts from texts on Spark: learnt by the stage finetune, measured, and written by the stages score and evaluate."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from sparkml.errors import InputError
from sparkml.frame.registry import TrainedOn
from sparkml.frame.run import StageRun
from sparkml.frame.schemas import DUPLICATES
from sparkml.frame.tables import Tables
from sparkml.models.directory import TASK_FILE
from sparkml.models.folder import write_json
from sparkml.stages import compress, evaluate
from sparkml.stages.finetune import stage as finetune
from sparkml.stages.score import stage as score
from sparkml.stages.score.config import ScoreConfig
from sparkml.tasks.causal_lm import CausalLM, CausalLMOptions
from sparkml.tasks.task import Targets, task_spec
from tests.tiny import tiny_model
from tests.writers import GPT2, T5, backwards

MakeRun = Callable[..., StageRun]
TEXTS, _ = backwards(60, seed=2)
TARGETS = [text.split()[0] for text in TEXTS]  # what a new network learns in some steps
DDL = "doc_id string, text string, text_b string"
LONG = "free cash " * 40


@pytest.fixture
def lab(spark: SparkSession, tables: Tables, stage_run: MakeRun) -> tuple[Tables, MakeRun]:
    """A lake with pairs, some of which cannot be used, and a new encoder-decoder."""
    rows: list[tuple[str, str | None, str | None]] = [
        (f"d{number:02d}", text, target)
        for number, (text, target) in enumerate(zip(TEXTS, TARGETS, strict=True))
    ]
    rows += [("null", None, "x"), ("empty", " ", "x"), ("long", LONG, "x"), ("untold", "win now", None)]
    tables.overwrite(spark.createDataFrame(rows, DDL).withColumn("run_id", F.lit("r")), "pairs")
    tables.log("duplicates").append(DUPLICATES.empty_table(), {})
    register(stage_run("train"), "base", T5, "AutoModelForSeq2SeqLM")
    return tables, stage_run


def register(job: StageRun, model_id: str, config: dict[str, Any], head: str) -> Path:
    """A tiny network with random weights in the registry."""
    with job.new_model(model_id) as staging:
        tiny_model(staging, head, config=config)
        if config is GPT2:
            task = CausalLM(CausalLMOptions(max_new_tokens=4), Targets(), CausalLM.read_inputs(str(staging)))
            write_json(staging / TASK_FILE, task_spec(task))
    made = job.register(
        model_id, kind="pretrained", parent=None, trained_on=TrainedOn(manifest_id="m"), metrics={}
    )
    return Path(made.path)


@pytest.mark.rare
def test_texts_are_learnt_measured_and_written(lab: tuple[Tables, MakeRun]) -> None:
    tables, make = lab
    config = finetune.FinetuneConfig(
        source="pairs",
        model="base",
        model_id="first",
        samples="finetune_samples",
        task={"name": "seq2seq", "max_length": 16, "max_target_length": 16, "long_texts": "reject"},
        validation_fraction=0.2,
        max_steps=100,
        decay="none",
        batch_size=48,
        max_epochs=None,
        learning_rate=5e-3,
        ranks=1,
        collective="torch",
    )
    job = make("finetune")
    report = finetune.run(job, config)
    assert report.reasons == {"text_missing": 2, "text_too_long": 1, "text_b_missing": 1}
    assert (report.rows_in, report.rows_kept) == (64, 60)
    assert (
        report.metrics["exact_match"] > 0.5
    )  # words that it has hardly seen in the first place are among them
    assert report.metrics["baseline_exact_match"] < report.metrics["exact_match"]
    rows = tables.read("evaluations").where(F.col("slice") == "all").collect()
    metrics = rows[0]["metrics"]
    assert {"chrf_low", "chrf_high", "bleu", "rouge1", "rougeL", "exact_match"} <= set(metrics)
    folder = Path(job.registry.require("first").path)
    kept = json.loads((folder / "evaluation.json").read_text())
    assert all(one["gold"] in TARGETS for one in kept["model"]["worst"])
    assert set(kept["baseline"]["metrics"]) == set(kept["model"]["metrics"])

    scored = make("score")
    found = score.run(scored, ScoreConfig(source="pairs", model="first", n_buckets=2, chunk_documents=7))
    assert (found.metrics["scored"], found.metrics["errors"]) == (64, 3)
    answers = {row["doc_id"]: row for row in tables.read("scores").collect()}
    right = [answers[f"d{number:02d}"]["output"] == target for number, target in enumerate(TARGETS)]
    assert sum(right) > 50
    assert all(0 < answers[f"d{number:02d}"]["score"] <= 1 for number in range(60))
    assert {row["prediction"] for row in answers.values()} == {None}
    assert answers["untold"]["output"]  # a target is not needed to be answered
    assert answers["null"]["error"] == "text_missing null"
    assert answers["long"]["error"] == "text_too_long more than 16 tokens"

    measured = evaluate.run(
        make("evaluate"), evaluate.EvaluateConfig(source="pairs", model="first", split="all")
    )
    assert measured.metrics["measured"] == 60
    assert measured.metrics["exact_match"] >= sum(right) / 60


def test_a_language_model_goes_on_with_texts_and_has_no_figures(lab: tuple[Tables, MakeRun]) -> None:
    tables, make = lab
    register(make("train"), "gpt", GPT2, "AutoModelForCausalLM")
    found = score.run(make("score"), ScoreConfig(source="pairs", model="gpt", n_buckets=1))
    assert (found.metrics["scored"], found.metrics["errors"]) == (64, 2)
    outputs = [row["output"] for row in tables.read("scores").where("error is null").collect()]
    assert len(outputs) == 62
    assert all(output is not None for output in outputs)
    with pytest.raises(InputError, match="no figures but its loss"):
        evaluate.run(make("evaluate"), evaluate.EvaluateConfig(source="pairs", model="gpt"))
    with pytest.raises(InputError, match="cannot be judged"):
        compress.run(
            make("compress"), compress.CompressConfig(model="gpt", model_id="small", evaluate_on="pairs")
        )
