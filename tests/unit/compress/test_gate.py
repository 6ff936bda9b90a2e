"""The gate: what a compressed model may lose and answer otherwise."""

from __future__ import annotations

import numpy as np
import pytest

from sparkml.compression.gate import GateSettings, Verdict, judge
from sparkml.measures.judged import Judged, share_right

ROWS = 1000


def judged(wrong: int, other: int = 0) -> Judged:
    """Answers of which the first `wrong` are wrong, and `other` further ones are others but as right."""
    said = np.full(ROWS, "a", object)
    said[:wrong] = "b"
    said[ROWS - other :] = "c"
    right = np.ones(ROWS, bool)
    right[:wrong] = False
    return share_right(right, said)


def verdict(wrong: int, other: int, **gate: object) -> Verdict:
    return judge(judged(0), judged(wrong, other), GateSettings.model_validate(gate))


def test_both_limits_count_as_measured() -> None:
    assert verdict(5, 5).holds
    assert verdict(0, 10).holds
    lost = verdict(6, 0)
    assert lost.reason == "loses 0.60 points of accuracy"
    assert (lost.metric, lost.value, lost.flips) == ("accuracy", 0.994, 0.006)
    assert lost.loss.interval.low < 0.006 < lost.loss.interval.high
    assert verdict(0, 11).reason == "answers 1.10 % of the examples otherwise"
    both = verdict(20, 0)
    assert both.reason == "loses 2.00 points of accuracy and answers 2.00 % of the examples otherwise"


def test_the_far_ends_of_the_intervals_are_stricter() -> None:
    assert "far end" in verdict(4, 0, judged_by="bound").reason
    assert verdict(0, 3, judged_by="bound").holds
    assert verdict(4, 0).holds


def test_a_better_model_passes_and_figures_that_are_none_do_not() -> None:
    better = judge(judged(9), judged(0), GateSettings())
    assert better.holds
    assert better.loss.value == pytest.approx(-0.009)
    nothing = Judged("accuracy", np.zeros((ROWS, 2)), judged(0).figure, judged(0).said)
    assert not judge(judged(0), nothing, GateSettings()).holds
