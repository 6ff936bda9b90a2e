"""The stages finetune and evaluate on a tiny corpus, with real ranks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chispa import assert_df_equality
from pydantic import ValidationError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparkml.errors import ConfigError, InputError
from sparkml.feed.manifest import Manifest
from sparkml.frame.artifacts import check, checksums, evaluation_location
from sparkml.frame.registry import TrainedOn, model_location
from sparkml.frame.run import StageRun
from sparkml.frame.schemas import DUPLICATES
from sparkml.frame.tables import Tables
from sparkml.hosting.examples import split_as_given
from sparkml.inference.scorer import load_scorer
from sparkml.models.held_out import read_held_out
from sparkml.stages import evaluate
from sparkml.stages.finetune.stage import FinetuneConfig, run
from tests.command_line import call
from tests.tiny import SHAPE, WORDS, tiny_model

MakeRun = Callable[..., StageRun]
Row = tuple[str, str | None, str | None]
LABELLED = "doc_id string, text string, label string"
CONFIG = FinetuneConfig(
    source="labelled",
    model_id="classifier",
    samples="finetune_samples",
    task={"name": "classify", "max_labels": 2, "max_length": 32, "pooling": "mean"},
    validation_fraction=0.3,
    max_steps=40,
    batch_size=8,
    learning_rate=3e-3,
    ranks=2,
    collective="torch",
)


def corpus() -> list[Row]:
    """60 documents each of `ham` and `spam`, and some of each kind that is not used."""
    random = np.random.default_rng(5)
    rows: list[Row] = []
    for number in range(120):
        words, label = (WORDS[0], "spam") if number % 2 else (WORDS[1], " ham")
        rows.append((f"d{number:03d}", " ".join(random.choice(words.split(), 8)), label))
    rows += [("n0", "no label", None), ("n1", "blank label", "  "), ("r0", "rare label", "rare")]
    return [*rows, ("t0", None, "spam"), ("t1", " ", "spam")]


class Lab:
    """A lake with a corpus and an encoder, on which the stages can be run."""

    def __init__(self, spark: SparkSession, tables: Tables, make: MakeRun) -> None:
        self.spark, self.tables, self.make = spark, tables, make

    def put(self, rows: list[Row]) -> None:
        self.put_frame(self.spark.createDataFrame(rows, LABELLED))

    def put_frame(self, frame: DataFrame) -> None:
        self.tables.overwrite(frame.withColumn("run_id", F.lit("r")), "labelled")
        if not self.tables.exists("duplicates"):
            self.tables.log("duplicates").append(DUPLICATES.empty_table(), {})

    def prepare(self, rows: list[Row], **config: float) -> None:
        self.put(rows)
        job = self.make("train")
        with job.new_model("encoder") as staging:
            tiny_model(staging, config={**SHAPE, **config})
        trained_on = TrainedOn(manifest_id="m")
        job.register("encoder", kind="pretrained", parent=None, trained_on=trained_on, metrics={})

    def rejects(self, step: str = "finetune") -> DataFrame:
        mine = self.tables.read("rejects").where(F.col("step") == step)
        return mine.drop("run_id", "step").orderBy("doc_id")

    def weights(self, model_id: str, version: int) -> bytes:
        folder = Path(model_location(self.make("x").artifacts, model_id, version))
        return b"".join((folder / name).read_bytes() for name in ("model.safetensors", "head.safetensors"))

    def evaluations(self, step: str) -> dict[str, dict[str, Any]]:
        rows = self.tables.read("evaluations").where(F.col("step") == step).collect()
        return {row["slice"]: row.asDict() for row in rows}


@pytest.fixture
def lab(spark: SparkSession, tables: Tables, stage_run: MakeRun) -> Lab:
    return Lab(spark, tables, stage_run)


def test_a_corpus_gives_a_model_figures_samples_and_rejects(lab: Lab) -> None:
    lab.prepare(corpus())
    job = lab.make("finetune", fingerprint="golden")
    report = run(job, CONFIG)
    assert (report.rows_in, report.rows_kept, report.rows_rejected) == (125, 120, 5)
    assert report.reasons == {"label_missing": 2, "label_not_learnt": 1, "text_missing": 2}
    assert report.metrics["accuracy"] > 0.95
    assert report.metrics["baseline_accuracy"] > 0.95
    assert report.metrics["ranks"] == 2
    made = job.registry.require("classifier")
    assert (made.version, made.kind, made.parent) == (1, "finetuned", "encoder/v1")
    assert (made.trained_on, made.stage_run) == (TrainedOn(table="labelled", version=0), job.run_id)

    folder = Path(made.path)
    sums = checksums(str(folder))
    assert sums is not None
    files = {"model.safetensors", "config.json", "tokenizer.json", "task.json", "lineage.json", "README.md"}
    assert files | {"evaluation.json", "held_out.parquet", "curve.jsonl"} <= set(sums)
    check(folder, sums)
    scorer = load_scorer(folder)
    assert scorer.labels == ("ham", "spam")
    ham, spam = scorer.answer(["friend lunch home book", "free cash prize claim"])
    assert (ham.prediction, spam.prediction) == ("ham", "spam")
    assert min(ham.score or 0, spam.score or 0) > 0.8

    samples = lab.tables.read("finetune_samples").toPandas()
    assert sorted(samples["sample_id"]) == list(range(120))
    manifests = list(Manifest.from_table(lab.tables.log("manifests").read()))
    assert {one.split: one.rows for one in manifests} == dict(samples["split"].value_counts())
    held_out = read_held_out(folder)
    assert set(held_out["doc_id"].to_pylist()) == set(samples[samples["split"] == "validation"]["doc_id"])

    every = lab.evaluations("finetune")
    assert every["all"]["n"] == held_out.num_rows
    assert dict(every["all"]["metrics"])["accuracy"] == pytest.approx(report.metrics["accuracy"])
    assert any(name.startswith("length=") for name in every)
    written = json.loads((folder / "evaluation.json").read_text())
    assert written["model"]["n"] == written["baseline"]["n"] == held_out.num_rows

    job = lab.make("evaluate")
    measured = evaluate.run(
        job,
        evaluate.EvaluateConfig(
            source="labelled", duplicates="duplicates", split="validation", validation_fraction=0.3
        ),
    )
    assert measured.metrics["measured"] == held_out.num_rows
    assert measured.metrics["accuracy"] == pytest.approx(report.metrics["accuracy"])
    everything = json.loads(Path(evaluation_location(job.artifacts, "evaluate", job.fingerprint)).read_text())
    assert everything["confusion"] == written["model"]["confusion"]


def test_in_another_order_and_with_other_ranks_tools_equal_weights(lab: Lab) -> None:
    config = CONFIG.model_copy(update={"max_steps": 6, "baseline": False})
    lab.prepare(corpus())
    run(lab.make("finetune", fingerprint="one"), config)
    rejects = lab.spark.createDataFrame(lab.rejects().collect(), lab.rejects().schema)
    # Another step of the stage has a model, samples and rejects of its own.
    own = {"model_id": "second", "samples": "second_samples", "collective": "horovod", "reader": "arrow"}
    lab.put_frame(lab.spark.createDataFrame(corpus()[::-1], LABELLED).repartition(5, "text"))
    run(lab.make("finetune", step="second"), config.model_copy(update=own))
    assert_df_equality(lab.rejects("second"), rejects, ignore_nullable=True)
    assert_df_equality(lab.rejects(), rejects, ignore_nullable=True)
    assert lab.weights("classifier", 1) == lab.weights("second", 1)


@pytest.mark.rare
def test_given_splits_are_kept_and_a_low_rank_update_is_merged(lab: Lab) -> None:
    lab.prepare(corpus())
    split = F.when(F.col("doc_id") < "d080", "train").when(F.col("doc_id") < "d100", "validation")
    # Without rows for validation some of those for training are held out, in both stages the same ones.
    no_validation = lab.spark.createDataFrame(
        [("a", "train"), ("b", "test"), ("c", None)], "doc_id string, split string"
    )
    hashed = split_as_given(no_validation, None, 0.999, 17).collect()
    assert {row["doc_id"]: row["split"] for row in hashed} == {
        "a": "validation",
        "b": "test",
        "c": "validation",
    }
    frame = lab.spark.createDataFrame(corpus()[:120], LABELLED).withColumn("split", split.otherwise("test"))
    lab.put_frame(frame)
    adapt = {"method": "lora", "rank": 4}
    changes = {"adapt": FinetuneConfig(max_epochs=1, adapt=adapt).adapt, "learning_rate": 1e-2}
    report = run(lab.make("finetune"), CONFIG.model_copy(update={**changes, "duplicates": None}))
    assert (report.rows_kept, report.metrics["set_aside_for_test"]) == (120, 20)
    samples = lab.tables.read("finetune_samples").groupBy("split").count().collect()
    assert {row["split"]: row["count"] for row in samples} == {"train": 80, "validation": 20}
    assert report.metrics["trainable_parameters"] < report.metrics["total_parameters"] / 2
    assert report.metrics["accuracy"] > 0.8
    job = lab.make("evaluate")
    measured = evaluate.run(job, evaluate.EvaluateConfig(source="labelled", split="test"))
    assert measured.metrics["measured"] == 20


@pytest.mark.rare
def test_pairs_and_numbers_are_learnt_and_an_update_is_kept_apart(lab: Lab) -> None:
    lab.prepare(corpus()[:120])
    spam = F.col("text").rlike("prize|cash|free|win|money|offer|claim|spam")
    frame = lab.spark.createDataFrame(corpus()[:120], LABELLED)
    frame = frame.withColumn("text_b", F.lit("late train")).withColumn(
        "grade", F.when(spam, "5").otherwise("1.5")
    )
    lab.put_frame(
        frame.where("doc_id <> 'd000'").unionByName(
            frame.where("doc_id = 'd000'").withColumn("grade", F.lit("?"))
        )
    )
    adapt = FinetuneConfig(max_epochs=1, adapt={"method": "lora", "rank": 4, "merge": False}).adapt
    shared = {"collective": "torch", "baseline": False, "ranks": 1, "learning_rate": 1e-2}

    pairs = FinetuneConfig(max_epochs=1, task={"name": "pairs", "max_length": 32, "pooling": "mean"}).task
    own = {"model_id": "pairs", "samples": "pairs_samples", "task": pairs, "adapt": adapt}
    report = run(lab.make("finetune", step="pairs"), CONFIG.model_copy(update={**shared, **own}))
    assert report.metrics["accuracy"] > 0.8
    folder = Path(model_location(lab.make("x").artifacts, "pairs", 1))
    assert (folder / "adapter_model.safetensors").stat().st_size < 40_000
    assert not (folder / "model.safetensors").exists()
    config = evaluate.EvaluateConfig(
        source="labelled", duplicates="duplicates", split="validation", model="pairs"
    )
    measured = evaluate.run(lab.make("evaluate"), config.model_copy(update={"validation_fraction": 0.3}))
    assert measured.metrics["accuracy"] == report.metrics["accuracy"]

    grades = FinetuneConfig(
        max_epochs=1,
        task={"name": "regress", "max_length": 32, "pooling": "mean"},
        columns={"label": "grade"},
    )
    own = {"model_id": "grades", "samples": "grade_samples", "task": grades.task, "columns": grades.columns}
    report = run(lab.make("finetune", step="grades"), CONFIG.model_copy(update={**shared, **own}))
    assert report.metrics["rmse"] < 1
    (reject,) = lab.rejects("grades").collect()
    assert (reject["doc_id"], reject["drop_reason"], reject["detail"]) == ("d000", "label_no_number", "?")


@pytest.mark.rare
def test_the_vectors_of_a_frozen_network_are_computed_once(lab: Lab) -> None:
    # Without dropout, which vectors that are computed once cannot have, both ways are the same training.
    lab.prepare(corpus(), hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    adapt = FinetuneConfig(max_epochs=1, adapt={"method": "frozen"}).adapt
    config = CONFIG.model_copy(update={"adapt": adapt, "ranks": 1, "max_steps": 60, "learning_rate": 0.05})
    report = run(lab.make("finetune"), config)
    assert report.metrics["accuracy"] > 0.9
    samples = lab.tables.read("finetune_samples")
    assert "features" in samples.columns
    assert "input_ids" not in samples.columns
    widths = {len(row["features"]) for row in samples.select("features").collect()}
    assert widths == {4 * 32}
    # The model that is written is whole: from texts it gives what its head gave from the vectors.
    scorer = load_scorer(model_location(lab.make("x").artifacts, "classifier", 1))
    held_out = read_held_out(Path(model_location(lab.make("x").artifacts, "classifier", 1)))
    outputs, rejects, _ = scorer.outputs_of(held_out.combine_chunks().to_batches()[0], "measure")
    assert not rejects
    found = scorer.task.evaluate(held_out, outputs, 17)
    assert found.metrics["log_loss"] == pytest.approx(report.metrics["log_loss"], abs=1e-5)
    every_step = config.model_copy(update={"adapt": adapt.model_copy(update={"features_once": False})})
    slow = run(lab.make("finetune", fingerprint="slow"), every_step)
    assert "input_ids" in lab.tables.read("finetune_samples").columns
    assert slow.metrics["validation_loss"] == pytest.approx(report.metrics["validation_loss"], abs=1e-5)


def test_held_out_examples_that_nobody_measures_are_no_samples(lab: Lab) -> None:
    lab.prepare(corpus())
    few = {"measured_rows": 10, "max_steps": 2, "ranks": 1, "baseline": False}
    report = run(lab.make("finetune"), CONFIG.model_copy(update=few))
    beyond = report.reasons["over_measured_rows"]
    splits = {
        row["split"]: row["count"]
        for row in lab.tables.read("finetune_samples").groupBy("split").count().collect()
    }
    assert sum(splits.values()) == report.rows_kept
    assert report.rows_kept + sum(report.reasons.values()) == report.rows_in
    assert 5 <= splits["validation"] <= 20 < beyond
    assert lab.evaluations("finetune")["all"]["n"] == min(10, splits["validation"])
    drawn = (
        lab.rejects()
        .where("drop_reason = 'over_measured_rows'")
        .agg(F.min("value"), F.max("threshold"))
        .first()
    )
    assert drawn is not None
    assert 0 < drawn[1] <= drawn[0]


# What a machine without Spark and Java has: importing either is an error.
ALONE = """
import sys
for name in ("pyspark", "py4j", "delta", "petastorm", "horovod"):
    sys.modules[name] = None
from sparkml.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_with_no_ranks_the_job_is_written_and_trained_where_no_spark_is(lab: Lab, tmp_path: Path) -> None:
    lab.prepare(corpus())
    job = lab.make("finetune", fingerprint="alone")
    report = run(job, CONFIG.model_copy(update={"ranks": 0}))
    assert report.rows_kept == 120
    assert job.registry.find("classifier") is None
    (place,) = Path(job.artifacts).glob("checkpoints/*/job.json")
    out = tmp_path / "made"
    words = ["train", str(place), "--out", str(out), "learning_rate=0.004"]
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *words], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"score.model={out}" in "".join(done.stdout.split("\n"))
    scorer = load_scorer(out)
    assert [one.prediction for one in scorer.answer(["friend lunch home", "free cash prize"])] == [
        "ham",
        "spam",
    ]
    assert json.loads((out / "lineage.json").read_text())["table"] == "finetune_samples"
    code, shown = call("train", str(place), "--out", str(out), "learning_rat=1")
    assert (code, "did you mean `learning_rate`" in shown) == (2, True)
    code, shown = call("train", str(tmp_path), "--out", str(out))
    assert (code, "not the job of a training" in shown) == (1, True)


@pytest.mark.parametrize(
    "rows", [[], [("a", "some text", None), ("b", "more", None)]], ids=["empty", "unlabelled"]
)
def test_nothing_to_learn_says_what_to_do(lab: Lab, rows: list[Row]) -> None:
    lab.prepare(rows)
    with pytest.raises(InputError, match=r"ingest\.source\.label_field"):
        run(lab.make("finetune"), CONFIG)


def test_a_missing_model_an_altered_one_and_a_missing_column_are_refused(lab: Lab) -> None:
    lab.put(corpus())
    with pytest.raises(InputError, match=r"no model `encoder`[\s\S]*sparkml plan"):
        run(lab.make("finetune"), CONFIG)
    lab.prepare(corpus())
    weights = Path(model_location(lab.make("x").artifacts, "encoder", 1)) / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match="a file of an artifact is not as it was written") as caught:
        run(lab.make("finetune"), CONFIG)
    assert (caught.value.where, caught.value.got) == (str(weights), f"{len(content)} bytes, altered")
    weights.write_bytes(content)
    other = FinetuneConfig(max_epochs=1, columns={"label": "stars"}).columns
    with pytest.raises(InputError, match=r"lacks columns[\s\S]*stars"):
        run(lab.make("finetune"), CONFIG.model_copy(update={"columns": other}))
    with pytest.raises(ValidationError, match="name a model to start from"):
        FinetuneConfig(model=None)
    with pytest.raises(ConfigError, match="task classify"):
        FinetuneConfig(max_epochs=1, task={"name": "classify", "max_lenght": 3})
    assert not lab.tables.exists("rejects")
