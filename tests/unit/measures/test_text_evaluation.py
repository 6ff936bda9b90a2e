"""The evaluation of written text: all figures, their intervals, slices and the worst rows."""

from __future__ import annotations

import numpy as np
import pytest

from sparkml.measures.evaluation import Evaluation, Settings
from sparkml.measures.text_evaluation import evaluate_texts, judged_texts

OUTPUTS = ["the cat sat", "a dog barked", "nothing alike", "quite wrong"]
REFERENCES = [["the cat sat"], ["the dog barked"], ["xyz"], ["jkl"]]
IDS = ["d0", "d1", "d2", "d3"]


def test_all_figures_of_some_texts() -> None:
    settings = Settings(resamples=200, small_slice_rows=1)
    found = evaluate_texts(OUTPUTS, REFERENCES, IDS, confidences=np.full(4, 0.5), settings=settings)
    assert list(found.metrics) == [
        "chrf",
        "bleu",
        "rouge1",
        "rouge2",
        "rougeL",
        "exact_match",
        "words_ratio",
    ]
    assert found.metrics["exact_match"] == 0.5  # without articles `a dog barked` is right
    assert found.metrics["rouge1"] == pytest.approx((1 + 4 / 6 + 0 + 0) / 4)
    assert found.metrics["rougeL"] == pytest.approx((1 + 4 / 6 + 0 + 0) / 4)
    assert found.metrics["rouge2"] == pytest.approx((1 + 2 / 4 + 0 + 0) / 4)
    assert found.metrics["words_ratio"] == pytest.approx(10 / 8)
    for name, value in found.metrics.items():
        assert found.intervals[name].low <= value <= found.intervals[name].high
    assert found.intervals["exact_match"].low < found.intervals["exact_match"].high
    assert Evaluation.from_json(found.to_json()) == found


def test_slices_are_measured_on_their_own() -> None:
    halves = {"lang": ["en", "en", "fr", "fr"]}
    settings = Settings(resamples=0, small_slice_rows=1)
    found = {
        one.slice: one
        for one in evaluate_texts(OUTPUTS, REFERENCES, IDS, slices=halves, settings=settings).slices
    }
    alone = evaluate_texts(OUTPUTS[:2], REFERENCES[:2], IDS[:2], settings=settings)
    assert found["lang=en"].metrics == alone.metrics
    assert found["lang=fr"].metrics["chrf"] == 0


def test_the_worst_rows_are_far_from_right_and_sure_of_it() -> None:
    sure = np.array([0.99, 0.9, 0.3, 0.8])
    found = evaluate_texts(OUTPUTS, REFERENCES, IDS, confidences=sure)
    assert found.worst[0].id == "d3"
    assert "d0" not in [one.id for one in found.worst]
    assert (found.worst[0].gold, found.worst[0].predicted, found.worst[0].confidence) == (
        "jkl",
        "quite wrong",
        0.8,
    )
    without = evaluate_texts(OUTPUTS, REFERENCES, IDS)
    assert {one.id for one in without.worst[:2]} == {"d2", "d3"}


def test_two_models_are_compared_row_by_row() -> None:
    first = judged_texts(OUTPUTS, REFERENCES)
    second = judged_texts(["the cat sat", "the dog barked", "xyz", "quite wrong"], REFERENCES)
    assert first.flips(second).tolist() == [False, True, True, False]
    assert second.lead(first).value == pytest.approx(second.value - first.value)
    assert second.value > first.value
    assert judged_texts(["a"], [["a"]]).value == 1.0


def test_of_no_texts_there_are_no_figures() -> None:
    found = evaluate_texts([], [], [])
    assert found.n == 0
    assert set(found.metrics.values()) == {0.0}
    assert found.intervals == {}
