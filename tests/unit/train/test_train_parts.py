"""Learning rates, the clock of the steps, stragglers."""

from __future__ import annotations

import math
import time

import pytest
import torch
from torch import nn

from sparkml.training.measured import StepClock, operations_per_token
from sparkml.training.schedule import learning_rate
from sparkml.training.stragglers import stragglers


@pytest.mark.parametrize(
    ("decay", "expected"),
    [
        ("linear", [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]),
        ("cosine", [0.5, 1.0, 1.0, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]),
        ("none", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_learning_rates(decay, expected):
    rates = [learning_rate(s, peak=1.0, warmup_steps=2, max_steps=6, decay=decay) for s in range(6)]
    assert rates == pytest.approx(expected)


def test_the_slowest_rank_is_named_where_it_holds_the_others_up():
    def rank(forward: float, allreduce: float) -> dict[str, float]:
        return {"forward_ms": forward, "backward_ms": 2 * forward, "allreduce_ms": allreduce}

    found = stragglers([rank(10, 15), rank(15, 0), rank(10, 15)])
    assert found == {"slowest_rank": 1.0, "slowest_rank_ms": 45.0, "usual_rank_ms": 30.0}
    assert stragglers([rank(10, 3), rank(11, 0)]) == {}
    assert stragglers([rank(10, 0)]) == {}
    assert stragglers([{}, {}]) == {}  # nothing was measured


def test_the_parts_of_a_step_add_up_to_it_and_the_first_steps_do_not_count():
    clock = StepClock(torch.device("cpu"))
    for number in range(8):
        clock.begin(number)
        for name, seconds in (("feed", 0.001), ("forward", 0.002), ("forward", 0.002), ("backward", 0.004)):
            with clock.part(name):
                time.sleep(seconds * (10 if number < 5 else 1))
        clock.end(number, tokens=100, seconds=0.01)
    found = clock.summary(nn.Linear(2, 2), ranks=1)
    assert (found["step_ms"], found["tokens_per_second"]) == pytest.approx((10.0, 10_000.0))
    assert 1 <= found["feed_ms"] < 4 <= found["forward_ms"] < 9
    assert 4 <= found["backward_ms"] < 9
    assert found["allreduce_ms"] == found["optimizer_ms"] == 0.0
    assert found["peak_memory_mb"] > 50
    assert StepClock(torch.device("cpu")).summary(nn.Linear(2, 2), ranks=1) == {}


def test_operations_are_those_of_the_weights_that_multiply():
    class Tied(nn.Module):
        def __init__(self, tied: bool) -> None:
            super().__init__()
            self.tokens, self.middle, self.out = nn.Embedding(50, 4), nn.Linear(4, 4), nn.Linear(4, 50)
            if tied:
                self.out.weight = self.tokens.weight

    assert operations_per_token(Tied(tied=False)) == 6 * (4 * 4 + 4 * 50)
    assert operations_per_token(Tied(tied=True)) == 6 * (4 * 4 + 4 * 50)
