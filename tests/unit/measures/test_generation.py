"""Figures of generated text that need no further package, and what is said where one is missing."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import pytest

from sparkml.errors import InputError, MissingToolError
from sparkml.measures import generation


def test_answers_are_compared_without_case_articles_and_punctuation() -> None:
    outputs = ["The  Eiffel Tower.", "eiffel", "a an the", ""]
    references = [["eiffel tower"], ["the tower", "Eiffel!"], ["x"], ["the"]]
    assert generation.exact_match(outputs, references) == [1, 1, 0, 1]


def test_token_f1_is_that_of_the_best_reference() -> None:
    outputs = ["the cat sat", "cat cat", "nothing", "", "a dog"]
    references = [["a cat sat down", "cat"], ["cat cat cat"], ["other"], ["cat"], []]
    assert generation.token_f1(outputs, references) == pytest.approx([2 * 2 / 5, 2 * 2 / 5, 0, 0, 0])


def test_perplexity_is_of_the_mean_loss() -> None:
    assert generation.perplexity(10 * math.log(7), 10) == pytest.approx(7)
    assert math.isnan(generation.perplexity(0.0, 0))
    assert generation.perplexity(1e6, 10) == math.inf


def test_outputs_of_other_rows_are_told() -> None:
    with pytest.raises(InputError, match="outputs 2, references 1"):
        generation.exact_match(["a", "b"], [["a"]])


@pytest.mark.parametrize(
    ("measure", "package", "module"),
    [
        (generation.chrf_sums, "sacrebleu", "sacrebleu.metrics.chrf"),
        (generation.bleu_sums, "sacrebleu", "sacrebleu.metrics.bleu"),
    ],
)
def test_a_missing_package_is_named(
    measure: Callable[..., object], package: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # what Python itself puts there to block an import
    with pytest.raises(MissingToolError, match=rf"pip install {package}$"):
        measure(["a"], [["a"]])
