"""Float and int8 side by side, without Spark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sparkml.compression.measure import Measured, SideBySide, TimingPlan, side_by_side
from sparkml.inference.scorer import load_scorer
from sparkml.models.classifier import FLOAT32, new_classifier, write_classifier
from sparkml.models.evaluation import HeldOut
from sparkml.models.folder import read_json
from sparkml.stages.compress import write_int8
from tests.tiny import tiny_encoder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("compress")
    encoder = tiny_encoder(root / "encoder")
    config = {**read_json(encoder / "config.json"), "pooling": "cls", "precision": FLOAT32}
    exact, quantised = root / "float", root / "int8"
    exact.mkdir()
    quantised.mkdir()
    model = new_classifier(encoder, 2, "cls", seed=1)
    write_classifier(exact, model, ["a", "b"], config, encoder / "tokenizer.json")
    write_int8(exact, quantised)
    return exact, quantised


def test_both_models_see_the_same_documents(folders: tuple[Path, Path]) -> None:
    exact, quantised = (load_scorer(folder) for folder in folders)
    input_ids = [[2, *range(10, 10 + length), 3] for length in range(1, 25)]
    truth = exact.score_ids(input_ids).argmax(axis=1)
    held_out = HeldOut([str(number) for number in range(24)], input_ids, truth)
    result = side_by_side(exact, quantised, held_out, (100, 40), TimingPlan(4, 10, 4, 2))
    flipped = int((quantised.score_ids(input_ids).argmax(axis=1) != truth).sum())
    assert (result.documents, result.flipped) == (24, flipped)
    assert result.float32.accuracy == 1.0
    assert result.int8.accuracy == pytest.approx(1 - flipped / 24)
    assert (result.float32.size_bytes, result.int8.size_bytes) == (100, 40)
    assert 0 < result.int8.latency_p50_ms <= result.int8.latency_p95_ms
    assert 0 < result.largest_score_difference < 0.05
    assert np.sum(result.confusion["counts"]) == 24


def test_metrics_of_the_registry() -> None:
    result = SideBySide(Measured(0.9, 0.8, 10, 1, 2, 3), Measured(0.7, 0.6, 5, 4, 5, 6), 2, 20, 0.1, {})
    assert result.metrics() == {
        "accuracy": 0.7,
        "macro_f1": 0.6,
        "size_bytes": 5.0,
        "latency_p50_ms": 4.0,
        "latency_p95_ms": 5.0,
        "documents_per_second": 6.0,
        "float_accuracy": 0.9,
        "float_macro_f1": 0.8,
        "float_size_bytes": 10.0,
        "float_latency_p50_ms": 1.0,
        "float_latency_p95_ms": 2.0,
        "float_documents_per_second": 3.0,
        "flipped": 2.0,
        "documents": 20.0,
    }
