"""chrF, BLEU and ROUGE as sacrebleu and rouge-score compute them."""

from __future__ import annotations

import pytest

from sparkml.measures import generation

OUTPUTS = ["the cat sat on the mat today", "a dog barked", "nothing alike"]
REFERENCES = [["the cat sat on the mat"], ["the dog barked loudly", "a dog barked"], ["quite other words"]]


def test_bleu_worked_out_by_hand() -> None:
    # 7 + 3 + 2 = 12 words against 6 + 3 + 3: no brevity penalty; 9 of 12 words, 7 of 9 pairs, 5 of 6 triples, 3 of 4
    by_hand = 100 * (9 / 12 * 7 / 9 * 5 / 6 * 3 / 4) ** 0.25
    assert generation.bleu(OUTPUTS, REFERENCES) == pytest.approx(by_hand)
    assert generation.bleu([], []) == 0


def test_chrf_knows_equal_texts_and_those_without_a_common_letter() -> None:
    assert generation.chrf(["abcdef ghi"], [["abcdef ghi"]]) == pytest.approx(100)
    assert generation.chrf(["abcdef"], [["xyzuvw"]]) == 0
    assert 0 < generation.chrf(OUTPUTS, REFERENCES) < 100


def test_rouge_worked_out_by_hand() -> None:
    found = generation.rouge(OUTPUTS, REFERENCES)
    assert found["rouge1"] == pytest.approx((2 * 6 / 13 + 1 + 0) / 3)
    assert found["rouge2"] == pytest.approx((2 * 5 / 11 + 1 + 0) / 3)
    assert found["rougeL"] == pytest.approx((2 * 6 / 13 + 1 + 0) / 3)
