"""The stage compress: an int8 model with its measurements."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sparkml.frame.runs import StageRun

from sparkml.errors import InputError
from sparkml.frame.registry import TrainedOn, model_folder, register
from sparkml.frame.tables import Tables
from sparkml.inference.scorer import load_scorer
from sparkml.models.classifier import FLOAT32, new_classifier, write_classifier
from sparkml.models.evaluation import HeldOut, write_held_out
from sparkml.models.folder import new_folder, read_json
from sparkml.stages.compress import CompressConfig, run
from tests.tiny import tiny_encoder

MakeRun = Callable[..., StageRun]
CONFIG = CompressConfig(latency_documents=3, rounds=2, batch_size=4, throughput_documents=8)


def put_classifier(job: StageRun, root: Path, kind: str = "finetuned") -> Path:
    encoder = tiny_encoder(root / "encoder")
    config = {**read_json(encoder / "config.json"), "pooling": "mean", "precision": FLOAT32}
    folder = Path(model_folder(job.artifacts, "classifier", 1))
    rows = [[2, *range(10, 10 + length), 3] for length in range(1, 21)]
    with new_folder(folder) as staging:
        model = new_classifier(encoder, 2, "mean", seed=1)
        write_classifier(staging, model, ["ham", "spam"], config, encoder / "tokenizer.json")
        write_held_out(staging, HeldOut([str(n) for n in range(20)], rows, np.arange(20) % 2))
    trained_on = TrainedOn(table="kept", version=7)
    register(
        job,
        model_id="classifier",
        kind=kind,
        folder=str(folder),
        parent="encoder/v1",
        trained_on=trained_on,
        metrics={},
    )
    return folder


def test_int8_model_with_report_and_row(stage_run: MakeRun, tables: Tables, tmp_path: Path) -> None:
    source = put_classifier(stage_run("finetune"), tmp_path)
    report = run(stage_run("compress", fingerprint="c"), CONFIG)
    assert (report.rows_in, report.rows_kept, report.rows_rejected) == (20, 20, 0)
    row = tables.read("models").where("model_id = 'classifier-int8'").collect()[0]
    assert (row["version"], row["kind"], row["parent"]) == (1, "int8", "classifier/v1")
    assert (row["trained_table"], row["trained_version"]) == ("kept", 7)
    folder = Path(row["path"])
    written = json.loads((folder / "report.json").read_text())
    assert written["parent"] == "classifier/v1"
    for precision, place in (("float32", source), ("int8", folder)):
        assert written[precision]["size_bytes"] == (place / "model.safetensors").stat().st_size
        assert written[precision]["documents_per_second"] > 0
    assert written["int8"]["size_bytes"] < 0.5 * written["float32"]["size_bytes"]
    assert row["metrics"]["float_accuracy"] == written["float32"]["accuracy"]
    assert row["metrics"]["flipped"] == written["flipped"] <= 2
    exact, quantised = (load_scorer(place).score(["win a prize"]) for place in (source, folder))
    np.testing.assert_allclose(quantised, exact, atol=0.05)
    names = sorted(entry.name for entry in folder.iterdir())
    assert names == ["config.json", "model.safetensors", "report.json", "tokenizer.json"]


def test_twice_gives_equal_weights(stage_run: MakeRun, tmp_path: Path) -> None:
    put_classifier(stage_run("finetune"), tmp_path)
    jobs = [stage_run("compress", fingerprint=name) for name in ("one", "two")]
    for job in jobs:
        run(job, CONFIG)
    folders = [Path(model_folder(jobs[0].artifacts, "classifier-int8", version)) for version in (1, 2)]
    first, second = ((folder / "model.safetensors").read_bytes() for folder in folders)
    assert first == second


def test_no_model_and_a_model_of_another_kind_are_refused(stage_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="sparkml run finetune"):
        run(stage_run("compress"), CONFIG)
    put_classifier(stage_run("finetune"), tmp_path, kind="distilled")
    with pytest.raises(InputError, match="kind distilled"):
        run(stage_run("compress"), CONFIG)
