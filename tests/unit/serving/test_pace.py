"""How long batches take is learnt, and how many tokens fit into a time."""

import pytest

from sparkml.serving.pace import Pace


def test_the_line_behind_noiseless_batches_is_found():
    pace = Pace()
    for tokens in (50, 400, 90, 1000, 700) * 5:
        pace.learn(tokens, 0.004 + tokens * 5e-5)
    assert pace.seconds(500) == pytest.approx(0.029, rel=1e-3)
    assert pace.tokens_within(0.054) == pytest.approx(1000, rel=1e-2)


def test_batches_of_one_size_say_what_a_token_takes():
    pace = Pace()
    for _ in range(5):
        pace.learn(200, 0.02)
    assert pace.seconds(400) == pytest.approx(0.04)


def test_it_follows_a_machine_that_becomes_slower():
    pace = Pace()
    for _ in range(100):
        pace.learn(100, 0.01)
    for _ in range(200):
        pace.learn(100, 0.03)
    assert pace.seconds(100) == pytest.approx(0.03, rel=0.02)


@pytest.mark.parametrize("seconds", [1e-6, 0.001, 10.0])
def test_a_batch_has_a_token_at_least_and_a_bounded_number(seconds):
    pace = Pace()
    assert pace.tokens_within(seconds) >= 1
    for tokens in (10, 1000):
        pace.learn(tokens, 0.5)  # the size makes no difference
    assert 1 <= pace.tokens_within(seconds) < 10_000_000
