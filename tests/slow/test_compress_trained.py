"""The stage compress with methods that train: real Spark, real ranks, a tiny model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from pyspark.sql import SparkSession

from sparkml.feed.manifest import Manifest
from sparkml.frame.run import StageRun
from sparkml.frame.tables import Tables
from sparkml.inference.scorer import load_scorer
from sparkml.models.folder import CONFIG_FILE, read_json
from sparkml.models.held_out import read_held_out
from sparkml.stages.compress import STAGE, CompressConfig, run
from sparkml.stages.finetune.stage import run as finetune
from tests.spark.test_finetune import CONFIG as FINETUNE
from tests.spark.test_finetune import Lab, corpus

MakeRun = Callable[..., StageRun]
PRUNE, DISTIL = {"name": "prune", "layers": 1, "retrain": False}, {"name": "distil", "learning_rate": 5e-3}
LOOP: dict[str, Any] = {
    "max_steps": 30,
    "batch_size": 8,
    "ranks": 2,
    "collective": "torch",
    "validation_every_steps": 10,
}
CONFIG = CompressConfig(
    model="classifier",
    model_id="small",
    source="labelled",
    samples="compress_samples",
    # Training would hold out others, but for those that the model keeps to be measured on.
    validation_fraction=0.05,
    method=[PRUNE, DISTIL, "int8_dynamic"],
    gate={"max_loss": 0.1, "max_flips": 0.1},
    prefer="size",
    latency_documents=3,
    rounds=2,
    throughput_documents=8,
    **LOOP,
)


@pytest.fixture
def lab(spark: SparkSession, tables: Tables, stage_run: MakeRun) -> Lab:
    """A lake with a classifier and the examples that it was trained on."""
    made = Lab(spark, tables, stage_run)
    made.prepare(corpus())
    finetune(stage_run("finetune"), FINETUNE.model_copy(update={"ranks": 1, "baseline": False}))
    return made


def test_a_recipe_prunes_distils_and_rounds(lab: Lab) -> None:
    job = lab.make("compress", fingerprint="one")
    report = run(job, CONFIG)
    report.check("compress")
    assert (report.rows_in, report.rows_kept, report.rows_rejected) == (125, 120, 5)
    made = job.registry.require("small")
    folder = Path(made.path)
    assert (made.kind, made.parent) == ("int8", "classifier/v1")
    assert read_json(folder / CONFIG_FILE)["num_hidden_layers"] == 1
    written = json.loads((folder / "report.json").read_text())
    assert [one["kind"] for one in written["forms"]] == ["finetuned", "pruned", "distilled", "int8"]
    assert made.metrics["accuracy"] > 0.9
    ham, spam = load_scorer(folder).answer(["friend lunch home book", "free cash prize claim"])
    assert (ham.prediction, spam.prediction) == ("ham", "spam")

    samples = lab.tables.read("compress_samples").toPandas()
    said = np.stack([np.frombuffer(one, np.float32) for one in samples["taught"]])
    assert said.shape == (120, 2)
    held_out = set(read_held_out(folder)["doc_id"].to_pylist())
    assert len(held_out) > 20
    assert held_out <= set(samples[samples["split"] == "validation"]["doc_id"])
    pinned = [
        one
        for one in Manifest.from_table(lab.tables.log("manifests").read())
        if one.table == "compress_samples"
    ]
    assert {one.split: one.rows for one in pinned} == dict(samples["split"].value_counts())

    other = lab.make("compress", fingerprint="two")
    run(other, CONFIG)
    versions = [Path(other.registry.require(f"small/v{n}").path) for n in (1, 2)]
    weights = [(place / "int8" / "model.safetensors").read_bytes() for place in versions]
    assert weights[0] == weights[1]


def test_channels_heads_and_rounding_are_trained_on_one_table_of_samples(lab: Lab) -> None:
    prune = {"name": "prune", "feed_forward": 0.5, "heads": 0.75, "max_steps": 4, "examples": 16}
    config = CompressConfig(**{**CONFIG.model_dump(), "method": [prune, {"name": "qat", "max_steps": 3}]})
    job = lab.make("compress")
    report = run(job, config)
    assert (report.metrics["trainings"], report.metrics["trained_steps"]) == (2, 7)
    assert "taught" not in lab.tables.read("compress_samples").columns
    folder = Path(job.registry.require("small").path)
    assert read_json(folder / CONFIG_FILE)["intermediate_size"] == 32
    assert [version for table, version in job.outputs.items() if table == "compress_samples"] == [0]
    assert report.metrics["accuracy"] > 0.9


def test_without_a_table_nothing_is_written_and_nothing_may_train() -> None:
    plain = CompressConfig(model_id="small")
    assert (plain.samples, plain.rejects, plain.manifests) == (None, None, None)
    assert "learning_rate" not in plain.semantic()
    assert STAGE.fields("reads") == ("evaluate_on", "source", "duplicates")
    with pytest.raises(ValidationError, match="distil trains: name a table"):
        CompressConfig(method=["distil"])
    with pytest.raises(ValidationError, match="needs ranks"):
        CompressConfig(method=["qat"], source="labelled", ranks=0)
    assert CompressConfig(method=[PRUNE]).source is None
