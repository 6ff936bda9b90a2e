"""When a failed attempt is repeated: failures without progress are counted, lost slots are waited for."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, sleep
from typing import TypeVar

from sparkml.distributed.hub import StepDone
from sparkml.errors import SlotsError
from sparkml.log import get_logger

_log = get_logger(__name__)
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 15.0
T = TypeVar("T")


class Failures:
    """Counts failed attempts in a row. One that got further than all before it is the first of a new count.

    A cluster that loses a machine a day would otherwise end any training that takes longer than `limit` days. Since
    the highest step only rises, a training that gains nothing still ends after `limit` attempts.
    """

    def __init__(self, limit: int) -> None:
        self.in_a_row = 0
        self.limit = limit
        self._highest_step = -1

    def add(self, highest_step: int) -> None:
        """One more attempt has failed, after step `highest_step` (-1: before its first)."""
        if highest_step > self._highest_step:
            self._highest_step, self.in_a_row = highest_step, 0
        self.in_a_row += 1

    @property
    def are_too_many(self) -> bool:
        """No further attempt is made."""
        return self.in_a_row >= self.limit


class HighestStep:
    """Passes an attempt's progress on and keeps the highest step."""

    def __init__(self, on_progress: Callable[[StepDone], None]) -> None:
        self.step = -1
        self._on_progress = on_progress

    def __call__(self, done: StepDone) -> None:
        self.step = max(self.step, done.step)
        self._on_progress(done)


def retry_for_slots(start: Callable[[], T], seconds: float) -> T:
    """Call `start` again while it raises SlotsError, for `seconds` at most, with growing pauses.

    Cluster managers replace a lost executor within seconds to minutes.
    """
    deadline = monotonic() + seconds
    next_pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            return start()
        except SlotsError as error:
            left = deadline - monotonic()
            if left <= 0:
                raise _slots_did_not_return(error, seconds) from error
            _log.warning(
                "the cluster has too few task slots after a failed attempt; waiting up to %.0f s more for "
                "executors to be replaced",
                left,
            )
        sleep(min(next_pause, left))
        next_pause = min(2 * next_pause, _LONGEST_PAUSE_SECONDS)


def _slots_did_not_return(error: SlotsError, seconds: float) -> SlotsError:
    return SlotsError(
        "executors were lost, and the cluster did not replace them",
        where=error.where,
        got=f"{error.got}, for {seconds:g} s after a failed attempt",
        expected=error.expected,
        next_action="see why they died; the same command goes on from the last checkpoint",
    )
