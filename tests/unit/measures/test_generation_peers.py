"""chrF, BLEU and ROUGE beside sacrebleu and rouge-score."""

from __future__ import annotations

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import corpus_bleu, corpus_chrf

from sparkml.measures import generation

OUTPUTS = ["the cat sat on the mat today", "a dog barked", "nothing alike"]
REFERENCES = [["the cat sat on the mat"], ["the dog barked loudly", "a dog barked"], ["quite other words"]]


def figure(name: str, outputs: list[str], references: list[list[str]]) -> float:
    sums = getattr(generation, f"{name}_sums")(outputs, references)
    return float(getattr(generation, f"{name}_of")(sums.sum(axis=0)))


def drawn(seed: int, n_rows: int) -> tuple[list[str], list[str]]:
    """Pairs of texts of a small vocabulary: some n-grams are shared, of some orders none."""
    rng = np.random.default_rng(seed)
    words = ["the", "cat", "sat,", "on", "a", "mat.", "\u00e9t\u00e9", "42"]
    texts = [" ".join(rng.choice(words, rng.integers(0, 9))) for _ in range(2 * n_rows)]
    return texts[:n_rows], texts[n_rows:]


def test_bleu_worked_out_by_hand() -> None:
    # 7 + 3 + 2 = 12 words against 6 + 3 + 3: no brevity penalty; 9 of 12 words, 7 of 9 pairs, 5 of 6 triples, 3 of 4
    by_hand = (9 / 12 * 7 / 9 * 5 / 6 * 3 / 4) ** 0.25
    assert figure("bleu", OUTPUTS, REFERENCES) == pytest.approx(by_hand)
    assert figure("bleu", [], []) == 0


def test_chrf_knows_equal_texts_and_those_without_a_common_letter() -> None:
    assert figure("chrf", ["abcdef ghi"], [["abcdef ghi"]]) == pytest.approx(1)
    assert figure("chrf", ["abcdef"], [["xyzuvw"]]) == 0
    assert 0 < figure("chrf", OUTPUTS, REFERENCES) < 1


@pytest.mark.parametrize("n_rows", [1, 2, 3, 40])
def test_corpus_figures_are_those_of_sacrebleu(n_rows: int) -> None:
    for seed in range(12):
        outputs, references = drawn(seed, n_rows)
        rows = [[one] for one in references]
        assert 100 * figure("bleu", outputs, rows) == pytest.approx(corpus_bleu(outputs, [references]).score)
        assert 100 * figure("chrf", outputs, rows) == pytest.approx(corpus_chrf(outputs, [references]).score)


def test_rouge_is_that_of_rouge_score_without_stemming() -> None:
    scorer = RougeScorer(generation.ROUGE, use_stemmer=False)
    for seed in range(12):
        outputs, references = ([text.replace("\u00e9", "e") for text in texts] for texts in drawn(seed, 12))
        expected = [
            [scorer.score(gold, output)[name].fmeasure for name in generation.ROUGE]
            for output, gold in zip(outputs, references, strict=True)
        ]
        found = generation.rouge_rows(outputs, [[one] for one in references])
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_rouge_worked_out_by_hand() -> None:
    found = generation.rouge_rows(OUTPUTS, REFERENCES)
    np.testing.assert_allclose(found[0], [2 * 6 / 13, 2 * 5 / 11, 2 * 6 / 13])
    np.testing.assert_allclose(found[1:], [[1, 1, 1], [0, 0, 0]])
    # Letters with accents are letters.
    assert generation.rouge_rows(["\u00e9t\u00e9"], [["\u00c9T\u00c9!"]])[0, 0] == 1
