"""What a rank reports: a heartbeat every second, progress, its result or its error."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from sparkml.distributed.collective import Collective, Pending

if TYPE_CHECKING:
    from torch import Tensor

BEAT_SECONDS = 1.0
START, JOIN, WORK, COLLECTIVE = "start", "join", "work", "collective"


class Reporter:
    """Writes one JSON object a line to `channel`; None for a process that nobody watches."""

    def __init__(self, channel: IO[str] | None) -> None:
        self._channel = channel
        self._lock = threading.Lock()
        self._phase = START
        self._since = time.monotonic()
        self._step = -1
        self._has_joined = False
        if channel is not None:
            threading.Thread(target=self._beat_forever, daemon=True, name="heartbeat").start()

    @property
    def phase(self) -> str:
        """What the rank does now: starting, looking for the others, working, or waiting for them."""
        return self._phase

    def enter(self, phase: str) -> None:
        """The rank begins a phase: `START`, `JOIN`, `WORK` or `COLLECTIVE`."""
        is_told = START in (self._phase, phase) and phase != self._phase
        self._phase, self._since = phase, time.monotonic()
        if is_told:
            self.beat()  # a rank that starts may be silent for long, one that works may not

    @contextmanager
    def joining(self) -> Iterator[None]:
        """What runs inside finds the other ranks; the start goes on behind it."""
        self.enter(JOIN)
        yield
        self._has_joined = True
        self.enter(START)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """What runs inside waits for the other ranks, again and again."""
        self.enter(COLLECTIVE)
        yield
        self.enter(WORK)

    def progress(self, step: int, total: int, **values: float) -> None:
        """Step `step` of `total` is done; `values` such as loss and tokens_per_second."""
        self._step = step
        self.enter(WORK)
        self.send({"progress": {"step": step, "total": total, "values": values}})

    def send(self, message: Mapping[str, Any]) -> None:
        """Write one message."""
        if self._channel is None:
            return
        with self._lock:
            self._channel.write(json.dumps(message) + "\n")
            self._channel.flush()

    def beat(self) -> None:
        """Report what this rank does, and for how long it has done it."""
        seconds = time.monotonic() - self._since
        said = {"step": self._step, "phase": self._phase, "seconds": round(seconds, 1)}
        self.send({"beat": {**said, "joined": self._has_joined}})

    def _beat_forever(self) -> None:
        while True:
            self.beat()
            time.sleep(BEAT_SECONDS)


class _WatchedPending:
    """A sum on its way, for which the rank waits in phase `COLLECTIVE`."""

    def __init__(self, inner: Pending, reporter: Reporter) -> None:
        self._inner, self._reporter = inner, reporter

    def wait(self) -> None:
        """See `Pending.wait`."""
        with self._reporter.waiting():
            self._inner.wait()


class WatchedCollective:
    """Tells the reporter when the rank waits for the others: the rank that does not wait is the one that hangs."""

    def __init__(self, inner: Collective, reporter: Reporter) -> None:
        self._inner = inner
        self._reporter = reporter

    @property
    def rank(self) -> int:
        """The number of this rank."""
        return self._inner.rank

    @property
    def size(self) -> int:
        """The number of ranks."""
        return self._inner.size

    @property
    def local_rank(self) -> int:
        """The number of this rank among those of its host."""
        return self._inner.local_rank

    def allreduce_(self, tensor: Tensor) -> None:
        """See `Collective.allreduce_`."""
        with self._reporter.waiting():
            self._inner.allreduce_(tensor)

    def start_allreduce(self, tensor: Tensor, name: str) -> Pending:
        """See `Collective.start_allreduce`: the rank waits when it waits for the sum."""
        with self._reporter.waiting():  # where the group is gone already, it says so here
            pending = self._inner.start_allreduce(tensor, name)
        return _WatchedPending(pending, self._reporter)

    def broadcast_(self, tensor: Tensor, root: int = 0) -> None:
        """See `Collective.broadcast_`."""
        with self._reporter.waiting():
            self._inner.broadcast_(tensor, root)

    def barrier(self) -> None:
        """See `Collective.barrier`."""
        with self._reporter.waiting():
            self._inner.barrier()

    def shutdown(self) -> None:
        """See `Collective.shutdown`."""
        with self._reporter.waiting():
            self._inner.shutdown()
