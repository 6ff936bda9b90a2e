"""When a failed attempt is made again."""

from __future__ import annotations

import pytest

from sparkml.distributed import launcher, retries
from sparkml.distributed.hub import AttemptError, StepDone
from sparkml.distributed.launcher import LaunchOptions, launch
from sparkml.errors import InputError, SlotsError, TrainingError
from sparkml.training.rank import train_rank


class Attempts:
    """Attempts that report steps and then fail, or succeed: in place of Spark's."""

    def __init__(self, *outcomes: tuple[list[int], Exception | None]) -> None:
        self.outcomes = list(outcomes)
        self.made = 0
        self.waits: list[float] = []

    def __call__(self, spark, entry, payload, options, on_progress):
        self.waits.append(options.timeouts.slots_seconds)
        steps, error = self.outcomes[self.made]
        self.made += 1
        for step in steps:
            on_progress(StepDone(step, 9, {}))
        if error is not None:
            raise error
        return ({"steps": 9},)


class _Session:
    conf = {"spark.master": "local[1]"}  # noqa: RUF012


def run(monkeypatch, attempts: Attempts, **options: object):
    monkeypatch.setattr(launcher, "_attempt", attempts)
    return launch(_Session(), train_rank, {}, LaunchOptions(1, **options))


def died(*steps: int) -> tuple[list[int], Exception]:
    return list(steps), AttemptError("rank 0 is lost")


SHORT = ([], SlotsError("too few", where="spark.master=x", got="1 slot", expected="2 slots"))
DONE = ([9], None)


def test_attempts_without_progress_are_counted(monkeypatch):
    attempts = Attempts(died(1, 2), died(2), died(), DONE)
    with pytest.raises(TrainingError, match="given up after 3 attempts; the same command") as caught:
        run(monkeypatch, attempts)
    assert not isinstance(caught.value, AttemptError)
    assert attempts.made == 3


def test_an_attempt_that_got_further_starts_the_count_anew(monkeypatch, caplog):
    attempts = Attempts(died(1), died(), died(1, 2), died(2), died(1, 2, 3), died(), DONE)
    assert run(monkeypatch, attempts).attempts == 7
    counted = [r.getMessage().partition("(")[2].partition(" in a row")[0] for r in caplog.records]
    assert counted == [f"failure {n} of 3" for n in (1, 2, 1, 2, 1, 2)]


def test_further_than_the_last_one_is_not_enough(monkeypatch):
    attempts = Attempts(died(5), died(3), died(4), DONE)
    with pytest.raises(TrainingError, match="given up after 3 attempts"):
        run(monkeypatch, attempts)


def test_what_was_gained_is_told_when_it_is_given_up(monkeypatch):
    attempts = Attempts(died(1), died(2), died(2), DONE)
    with pytest.raises(TrainingError, match="given up after 3 attempts, the last 2 without progress"):
        run(monkeypatch, attempts, max_attempts=2)


def test_an_error_of_ours_is_not_tried_again(monkeypatch):
    attempts = Attempts(([1], InputError("broken")), DONE)
    with pytest.raises(InputError, match="broken"):
        run(monkeypatch, attempts)
    assert attempts.made == 1


def test_the_first_attempt_does_not_wait_for_slots(monkeypatch):
    attempts = Attempts(SHORT, DONE)
    with pytest.raises(SlotsError, match="too few"):
        run(monkeypatch, attempts)
    assert attempts.made == 1


def test_the_ranks_of_later_attempts_may_wait_for_the_slots_of_a_machine_that_fell_silent(monkeypatch):
    attempts = Attempts(died(1), died(1), DONE)
    run(monkeypatch, attempts, slots_seconds=70)
    assert attempts.waits == [0, 70, 70]


@pytest.fixture
def pauses(monkeypatch) -> list[float]:
    """The pauses that were made, on a clock that nothing else moves."""
    made: list[float] = []
    monkeypatch.setattr(retries, "sleep", made.append)
    monkeypatch.setattr(retries, "monotonic", lambda: sum(made))
    return made


def test_later_attempts_wait_and_waiting_is_no_failure(monkeypatch, pauses, caplog):
    attempts = Attempts(died(1), *[SHORT] * 6, died(1), SHORT, DONE)
    assert run(monkeypatch, attempts).attempts == 3
    assert attempts.made == 10
    assert pauses == [1, 2, 4, 8, 15, 15, 1]
    assert "waiting up to 300 s more for executors to be replaced" in caplog.text
    assert "waiting up to 270 s more" in caplog.text


def test_slots_that_never_return_are_an_error_that_says_for_how_long(monkeypatch, pauses):
    attempts = Attempts(died(1), *[SHORT] * 100)
    with pytest.raises(SlotsError, match="the cluster did not replace them") as caught:
        run(monkeypatch, attempts, slots_seconds=20)
    assert pauses == [1, 2, 4, 8, 5]
    assert (caught.value.where, caught.value.expected) == ("spark.master=x", "2 slots")
    assert caught.value.got == "1 slot, for 20 s after a failed attempt"
