"""Every effect on storage passes here, so that a test can stop the process at each of them.

A process can die between any two effects. `effect(name)` is called after each, and before some; in production it does
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_WATCHER: ContextVar[Callable[[str], None] | None] = ContextVar("sparkml_effects", default=None)


def effect(name: str) -> None:
    """Something has just been written, renamed, committed or removed, or is about to be."""
    watcher = _WATCHER.get()
    if watcher is not None:
        watcher(name)


@contextmanager
def watched_effects(watcher: Callable[[str], None]) -> Iterator[None]:
    """Call `watcher` with the name of each effect of this thread while the block runs."""
    token = _WATCHER.set(watcher)
    try:
        yield
    finally:
        _WATCHER.reset(token)
