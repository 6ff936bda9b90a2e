"""An end for work of others that a file may keep busy for ever."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class _ExpiredError(BaseException):
    """Not one of those that a library takes for its own."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Ends the block after so long; it then ends as if it were done. Only in a process's main thread."""

    def expire(_: int, __: FrameType | None) -> None:
        raise _ExpiredError

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except _ExpiredError:
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
