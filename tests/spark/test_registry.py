"""The registry of models: versions, repeats, what a run that died leaves."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pyspark.sql import SparkSession

from sparkml.errors import InputError
from sparkml.frame.registry import TrainedOn, latest, model_folder, next_version, register, require
from sparkml.frame.runs import RunLedger, RunReport, StageRun
from sparkml.frame.tables import Tables

MakeRun = Callable[..., StageRun]


def put(job: StageRun, accuracy: float, model_id: str = "classifier") -> int:
    return register(
        job,
        model_id=model_id,
        kind="finetuned",
        folder=model_folder(job.artifacts, model_id, next_version(job, model_id)),
        parent="encoder/v1",
        trained_on=TrainedOn(table="kept", version=4),
        metrics={"accuracy": accuracy},
    )


def rows(tables: Tables) -> list[tuple[str, int, float]]:
    found = tables.read("models").collect()
    return sorted((row["model_id"], row["version"], row["metrics"]["accuracy"]) for row in found)


def test_versions_count_up_and_repeats_of_dead_runs_replace(
    spark: SparkSession, tables: Tables, stage_run: MakeRun
) -> None:
    ledger = RunLedger(spark, tables)
    dead = stage_run("finetune", fingerprint="f1")
    ledger.start(dead, {})
    assert put(dead, 0.1) == 1

    repeated = stage_run("finetune", fingerprint="f1")
    ledger.start(repeated, {})
    assert latest(repeated, "classifier") is None
    assert put(repeated, 0.2) == 1
    assert put(repeated, 0.3) == 1
    assert repeated.outputs["models:classifier"] == 1
    assert rows(tables) == [("classifier", 1, 0.3)]
    ledger.finish(repeated, {}, RunReport(0, 0))

    forced = stage_run("finetune", fingerprint="f1")
    assert put(forced, 0.4) == 2
    assert put(stage_run("finetune", fingerprint="f2"), 0.5) == 3
    assert put(stage_run("compress", fingerprint="f3"), 0.6, model_id="classifier-int8") == 1
    expected = [
        ("classifier", 1, 0.3),
        ("classifier", 2, 0.4),
        ("classifier", 3, 0.5),
        ("classifier-int8", 1, 0.6),
    ]
    assert rows(tables) == expected

    reader = stage_run("score")
    found = require(reader, "classifier", stage="finetune")
    assert (found.name, found.kind, found.parent) == ("classifier/v3", "finetuned", "encoder/v1")
    assert found.trained_on == TrainedOn(table="kept", version=4)
    assert found.path == model_folder(reader.artifacts, "classifier", 3)
    assert reader.inputs["models:classifier"] == 3

    pinned = stage_run("score")
    pinned.inputs["models:classifier"] = 1
    assert require(pinned, "classifier", stage="finetune").version == 1


def test_a_model_that_is_not_there_names_its_stage(stage_run: MakeRun) -> None:
    with pytest.raises(InputError, match="sparkml run train"):
        require(stage_run("finetune"), "encoder", stage="train")


def test_a_folder_elsewhere_and_an_unknown_kind_are_refused(stage_run: MakeRun) -> None:
    job = stage_run("train")
    common = {"model_id": "encoder", "parent": None, "trained_on": TrainedOn(), "metrics": {}}
    with pytest.raises(InputError, match="not where its version belongs"):
        register(job, kind="pretrained", folder="/elsewhere", **common)
    with pytest.raises(InputError, match="pickled"):
        register(job, kind="pickled", folder=model_folder(job.artifacts, "encoder", 1), **common)
