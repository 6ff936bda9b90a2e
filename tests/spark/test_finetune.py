"""The stage finetune on a tiny corpus of three labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from chispa import assert_df_equality
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparkml.errors import InputError
from sparkml.frame.artifacts import check, checksums
from sparkml.frame.ledger import STARTED
from sparkml.frame.registry import TrainedOn, model_location
from sparkml.frame.run import StageRun, as_rejects
from sparkml.frame.schemas import DUPLICATES, spark_schema
from sparkml.frame.tables import Tables
from sparkml.inference.scorer import load_scorer
from sparkml.models.evaluation import read_held_out
from sparkml.models.folder import folder_bytes
from sparkml.stages.finetune.documents import Selection, rejected, with_reason
from sparkml.stages.finetune.stage import FinetuneConfig, run
from tests.runs import put_run
from tests.tiny import WORDS, tiny_encoder

MakeRun = Callable[..., StageRun]
KEPT = "doc_id string, text string, label string"
CONFIG = FinetuneConfig(
    model_id="classifier",
    n_labels=2,
    max_documents_per_label=40,
    max_held_out_per_label=20,
    validation_fraction=0.3,
    max_length=32,
    max_steps=40,
    batch_size=8,
    learning_rate=3e-3,
    threads=1,
)


def corpus() -> list[tuple[str, str | None, str | None]]:
    """60 documents each of `ham` and `spam`, and some of each kind that is not used."""
    random = np.random.default_rng(5)
    rows: list[tuple[str, str | None, str | None]] = []
    for number in range(120):
        words, label = (WORDS[0], "spam") if number % 2 else (WORDS[1], " ham")
        rows.append((f"d{number:03d}", " ".join(random.choice(words.split(), 8)), label))
    rows += [("n0", "no label", None), ("n1", "blank label", "  "), ("r0", "rare label", "rare")]
    return [*rows, ("t0", None, "spam")]


def as_kept(spark: SparkSession, rows: list[tuple[str, str | None, str | None]]) -> DataFrame:
    frame = spark.createDataFrame(rows, KEPT)
    empty = F.lit(None).cast("string")
    return frame.select(
        "doc_id",
        "text",
        empty.alias("lang"),
        F.lit(None).cast("float").alias("lang_score"),
        F.lit(None).cast("int").alias("n_words"),
        empty.alias("url"),
        empty.alias("title"),
        "label",
        F.struct(F.lit(0).alias("none")).alias("signals"),
        F.lit(None).cast("map<string,string>").alias("meta"),
    )


class Lab:
    """A lake with a corpus and an encoder, on which the stage can be run."""

    def __init__(self, spark: SparkSession, tables: Tables, make: MakeRun) -> None:
        self.spark, self.tables, self.make = spark, tables, make

    def put(self, kept: DataFrame) -> None:
        self.tables.overwrite(kept.withColumn("run_id", F.lit("r")), "kept")
        self.tables.log("duplicates").append(DUPLICATES.empty_table(), {})

    def prepare(self, kept: DataFrame) -> None:
        self.put(kept)
        job = self.make("train")
        with job.new_model("encoder") as staging:
            tiny_encoder(staging)
        trained_on = TrainedOn(manifest_id="m")
        job.register("encoder", kind="pretrained", parent=None, trained_on=trained_on, metrics={})

    def rejects(self, step: str = "finetune") -> DataFrame:
        mine = self.tables.read("rejects").where(F.col("step") == step)
        return mine.drop("run_id", "step").orderBy("doc_id")

    def folder(self, model_id: str, version: int) -> Path:
        return Path(model_location(self.make("x").artifacts, model_id, version))

    def weights(self, model_id: str, version: int) -> bytes:
        return (self.folder(model_id, version) / "model.safetensors").read_bytes()


@pytest.fixture
def lab(spark: SparkSession, tables: Tables, stage_run: MakeRun) -> Lab:
    return Lab(spark, tables, stage_run)


def test_golden_corpus_gives_a_model_a_report_and_rejects(lab: Lab, spark: SparkSession) -> None:
    lab.prepare(as_kept(spark, corpus()))
    job = lab.make("finetune", fingerprint="golden")
    report = run(job, CONFIG)
    assert report.rows_in == 124
    assert report.rows_kept + report.rows_rejected == 124
    assert {name: report.reasons[name] for name in report.reasons if name != "over_label_cap"} == {
        "label_missing": 2,
        "label_not_in_top_n": 1,
        "text_missing": 1,
    }
    assert report.metrics["accuracy"] > 0.95
    made = job.registry.require("classifier")
    assert (made.version, made.kind, made.parent) == (1, "finetuned", "encoder/v1")
    assert (made.trained_on, made.stage_run) == (TrainedOn(table="kept", version=0), job.run_id)
    assert made.metrics == dict(report.metrics)

    folder = Path(made.path)
    sums = checksums(str(folder))
    assert sums is not None
    assert {"model.safetensors", "held_out.parquet", "report.json"} <= set(sums)
    check(folder, sums)
    scorer = load_scorer(folder)
    assert scorer.labels == ["ham", "spam"]
    ham, spam = scorer.score(["friend lunch home book", "free cash prize claim"])
    assert ham[0] > 0.8
    assert spam[1] > 0.8
    written = json.loads((folder / "report.json").read_text())
    assert written["pretrained"]["confusion"]["labels"] == ["ham", "spam"]
    held_out = read_held_out(folder)
    assert len(held_out.doc_ids) == written["held_out_documents"]
    assert len(held_out.doc_ids) + written["train_documents"] == report.rows_kept
    assert len((folder / "curve.jsonl").read_text().splitlines()) == 80
    assert folder_bytes(folder) > 0
    assert not list((Path(job.artifacts) / "finetune").iterdir())


def test_reasons_of_every_kind(spark: SparkSession) -> None:
    duplicates = spark.createDataFrame([], spark_schema(DUPLICATES))
    selection = Selection(("ham", "spam"), 0.3, 17, 40, 20)
    chosen = with_reason(as_kept(spark, corpus()), duplicates, selection)
    shown = as_rejects(rejected(chosen)).where("drop_reason != 'over_label_cap'").orderBy("doc_id")
    rows = [
        ("n0", None, None, "label_missing", None, None, None),
        ("n1", None, None, "label_missing", None, None, None),
        ("r0", None, None, "label_not_in_top_n", None, None, "rare"),
        ("t0", None, None, "text_missing", None, None, "spam"),
    ]
    schema = (
        "doc_id string, source string, locator string, drop_reason string, value double, threshold double, "
        "detail string"
    )
    assert_df_equality(shown, spark.createDataFrame(rows, schema), ignore_nullable=True)
    capped = rejected(chosen).where("drop_reason = 'over_label_cap'").collect()
    assert all(row["value"] > row["threshold"] and row["threshold"] in (40.0, 20.0) for row in capped)
    used = {(row["label"], row["split"]): row["count"] for row in _used(chosen)}
    assert all(
        used[label, "train"] <= 40 and 1 <= used[label, "validation"] <= 20 for label in ("ham", "spam")
    )
    assert used["ham", "train"] + used["ham", "validation"] + _capped(capped, "ham") == 60


def _used(chosen: DataFrame) -> list[dict[str, object]]:
    counted = chosen.where("drop_reason IS NULL").groupBy("label", "split").count().collect()
    return [row.asDict() for row in counted]


def _capped(rows: list[object], label: str) -> int:
    return sum(row["detail"] == label for row in rows)  # type: ignore[index]


@pytest.mark.parametrize(
    "rows", [[], [("a", "some text", None), ("b", "more", None)]], ids=["empty", "unlabelled"]
)
def test_nothing_to_learn_says_what_to_do(
    lab: Lab, spark: SparkSession, rows: list[tuple[str, str | None, str | None]]
) -> None:
    lab.prepare(as_kept(spark, rows))
    with pytest.raises(InputError, match=r"ingest\.source\.label_field"):
        run(lab.make("finetune"), CONFIG)


def test_a_missing_encoder_and_an_altered_one_are_refused(lab: Lab, spark: SparkSession) -> None:
    lab.put(as_kept(spark, corpus()))
    with pytest.raises(InputError, match=r"no model `encoder`[\s\S]*sparkml plan"):
        run(lab.make("finetune"), CONFIG)
    lab.prepare(as_kept(spark, corpus()))
    weights = lab.folder("encoder", 1) / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match="a file of an artifact is not as it was written") as caught:
        run(lab.make("finetune"), CONFIG)
    assert (caught.value.where, caught.value.got) == (str(weights), f"{len(content)} bytes, altered")
    own = lab.folder("encoder", 2)  # a directory of the user's own
    tiny_encoder(own)
    (own / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"incomplete[\s\S]*tokenizer\.json"):
        run(lab.make("finetune"), CONFIG.model_copy(update={"model": str(own)}))
    assert not lab.tables.exists("rejects")


def test_twice_and_in_another_order_gives_equal_weights_and_rejects(lab: Lab, spark: SparkSession) -> None:
    config = CONFIG.model_copy(update={"max_steps": 6, "compare_with_random": False})
    lab.prepare(as_kept(spark, corpus()))
    run(lab.make("finetune", fingerprint="one"), config)
    rejects = lab.spark.createDataFrame(lab.rejects().collect(), lab.rejects().schema)
    died = put_run(lab.make("finetune"), STARTED)
    folders = [Path(died.artifacts, "finetune", name) for name in (died.run_id, "somebody's")]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "part-00000.parquet").write_bytes(b"tokens")
    # Another step of the stage: a model and rejects of its own.
    run(lab.make("finetune", step="second"), config.model_copy(update={"model_id": "second"}))
    shuffled = as_kept(spark, corpus()[::-1]).repartition(5, "text").withColumn("run_id", F.lit("r"))
    lab.tables.overwrite(shuffled, "kept")
    run(lab.make("finetune", fingerprint="three"), config)
    for step in ("finetune", "second"):
        assert_df_equality(lab.rejects(step), rejects, ignore_nullable=True)
    assert [folder.exists() for folder in folders] == [False, True]
    assert lab.weights("classifier", 1) == lab.weights("second", 1) == lab.weights("classifier", 2)
