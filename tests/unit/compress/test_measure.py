"""Float and int8 side by side, without Spark."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from sparkml.compression.measure import Measured, SideBySide, TimingPlan, side_by_side
from sparkml.errors import InputError
from sparkml.inference.scorer import load_scorer
from sparkml.stages.compress import write_int8
from tests.tiny import WORDS, tiny_classifier


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("compress")
    exact, quantised = tiny_classifier(root / "float", ("a", "b")), root / "int8"
    quantised.mkdir()
    write_int8(exact, quantised)
    return exact, quantised


def test_both_models_see_the_same_examples(folders: tuple[Path, Path]) -> None:
    exact, quantised = (load_scorer(folder) for folder in folders)
    words = " ".join(WORDS).split()
    texts = [" ".join(words[n % 7 : n % 7 + 1 + n // 2]) for n in range(24)]
    truth = [answer.prediction for answer in exact.answer(texts)]
    held_out = pa.table({"doc_id": [str(n) for n in range(24)], "text": texts, "label": truth})
    result = side_by_side(exact, quantised, held_out, (100, 40), TimingPlan(4, 10, 4, 2), 17)
    said = [answer.prediction for answer in quantised.answer(texts)]
    flipped = sum(new != old for new, old in zip(said, truth, strict=True))
    assert (result.documents, result.flipped) == (24, flipped)
    assert result.before.metrics["accuracy"] == 1.0
    assert result.after.metrics["accuracy"] == pytest.approx(1 - flipped / 24)
    assert (result.before.size_bytes, result.after.size_bytes) == (100, 40)
    assert 0 < result.after.latency_p50_ms <= result.after.latency_p95_ms
    assert 0 < result.largest_score_difference < 0.05


def test_an_example_that_cannot_be_answered_is_named(folders: tuple[Path, Path]) -> None:
    exact, quantised = (load_scorer(folder) for folder in folders)
    held_out = pa.table({"doc_id": ["0", "1"], "text": ["win", " "], "label": ["a", "b"]})
    with pytest.raises(InputError, match=r"example 1[\s\S]*text_missing"):
        side_by_side(exact, quantised, held_out, (1, 1), TimingPlan(1, 1, 1, 1), 17)


def test_metrics_of_the_registry() -> None:
    before, after = {"accuracy": 0.9, "macro_f1": 0.8}, {"accuracy": 0.7, "macro_f1": 0.6}
    result = SideBySide(Measured(before, 10, 1, 2, 3), Measured(after, 5, 4, 5, 6), 2, 20, 0.1)
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
