"""The driver's ear: a line to every rank's supervisor; logs, progress, the verdict on who died."""

from __future__ import annotations

import hmac
import secrets
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sparkml import errors
from sparkml.distributed.channel import Line, keep_alive
from sparkml.distributed.rank import EXIT_PEER_FAILED
from sparkml.distributed.reporter import COLLECTIVE, START
from sparkml.errors import SparkmlError, TrainingError
from sparkml.log import get_logger

_log = get_logger(__name__)
_WATCH_SECONDS = 0.2
# After the first rank has ended badly its peers fail too; a moment later it is known who was first.
_VERDICT_SECONDS = 1.0
_TAIL_LINES = 20


class AttemptError(TrainingError):
    """A rank died or hung; the next attempt may fare better."""


@dataclass(frozen=True)
class Patience:
    """How long a rank may be silent, may work on one step, and may take to start, in seconds."""

    heartbeat_seconds: float
    step_seconds: float
    start_seconds: float


@dataclass(frozen=True)
class Progress:
    """A step that rank 0 has done, of how many, with its values (loss, tokens_per_second, ...)."""

    step: int
    total: int
    values: dict[str, float]


@dataclass
class RankState:
    """What the driver knows of one rank."""

    rank: int
    host: str = "?"
    line: Line | None = None
    heard: float = 0.0
    phase: str = START
    phase_seconds: float = 0.0
    step: int = -1
    exit_code: int | None = None
    lost: bool = False
    hung_up: bool = False
    error: dict[str, str] | None = None
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=_TAIL_LINES))

    @property
    def ended_badly(self) -> bool:
        """It is gone, and not by finishing."""
        return self.lost or self.exit_code not in (None, 0)

    @property
    def is_victim(self) -> bool:
        """It ended because another rank did: by its own account, or by Horovod's SIGABRT."""
        return self.exit_code in (EXIT_PEER_FAILED, -signal.SIGABRT)


class Hub:
    """Listens for the supervisors of one attempt.

    `failure` is set when the attempt cannot succeed any more, `finished` when it is over either way,
    `drained` when every supervisor has hung up.
    """

    def __init__(
        self, bind: str, ranks: int, patience: Patience, on_progress: Callable[[Progress], None]
    ) -> None:
        self.token = secrets.token_hex(16)
        self.failure: SparkmlError | None = None
        self._ranks = [RankState(rank) for rank in range(ranks)]
        self._patience = patience
        self._on_progress = on_progress
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self.finished = threading.Event()
        self.drained = threading.Event()
        self._listener = socket.create_server((bind, 0))
        self._opened = time.monotonic()
        for name, run in (("hub-accept", self._accept), ("hub-watch", self._watch)):
            threading.Thread(target=run, daemon=True, name=name).start()

    @property
    def port(self) -> int:
        """The port that supervisors connect to."""
        return int(self._listener.getsockname()[1])

    def close(self) -> None:
        """End the attempt: every supervisor that is still there ends its rank."""
        self._closed.set()
        self._listener.close()
        self._stop_all()
        self.finished.set()

    def wait_for_failure(self, seconds: float) -> SparkmlError | None:
        """The verdict, which may come a moment after Spark's own error."""
        deadline = time.monotonic() + seconds
        while self.failure is None and time.monotonic() < deadline:
            time.sleep(_WATCH_SECONDS / 2)
        return self.failure

    def _stop_all(self) -> None:
        for state in self._ranks:
            if state.line is not None:
                state.line.send({"stop": True})

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # closed
            keep_alive(connection)
            line = Line(connection)
            threading.Thread(target=self._hear, args=(line,), daemon=True, name="hub-rank").start()

    def _hear(self, line: Line) -> None:
        messages = line.messages()
        state = self._greet(next(messages, {}), line)
        if state is None:
            line.close()
            return
        for message in messages:
            with self._lock:
                self._take(state, message)
        with self._lock:
            state.lost = state.exit_code is None
            state.hung_up = True
            if all(other.hung_up for other in self._ranks):
                self.drained.set()
        line.close()

    def _greet(self, message: dict[str, Any], line: Line) -> RankState | None:
        hello = message.get("hello")
        if not isinstance(hello, dict) or not hmac.compare_digest(str(hello.get("token")), self.token):
            _log.warning("a connection without this attempt's token was refused")
            return None
        state = self._ranks[int(hello["rank"])]
        with self._lock:
            if state.line is not None:
                return None  # Spark started the stage a second time: attempts are ours to count
            state.line, state.host, state.heard = line, str(hello["host"]), time.monotonic()
        return state

    def _take(self, state: RankState, message: dict[str, Any]) -> None:
        state.heard = time.monotonic()
        if "log" in message:
            state.tail.append(message["log"])
            _log.info("[rank %d] %s", state.rank, message["log"])
        elif "beat" in message:
            beat = message["beat"]
            state.phase, state.phase_seconds = beat["phase"], beat["seconds"]
        elif "progress" in message:
            self._take_progress(state, message["progress"])
        elif "error" in message:
            state.error = message["error"]
        elif "exit" in message:
            state.exit_code = int(message["exit"]["code"])

    def _take_progress(self, state: RankState, progress: dict[str, Any]) -> None:
        state.step, state.phase, state.phase_seconds = progress["step"], "work", 0.0
        if state.rank == 0:
            self._on_progress(Progress(progress["step"], progress["total"], progress["values"]))

    def _watch(self) -> None:
        first_end = None
        while not self._closed.wait(_WATCH_SECONDS):
            with self._lock:
                now = time.monotonic()
                if all(state.exit_code == 0 for state in self._ranks):
                    break
                if any(state.ended_badly for state in self._ranks):
                    first_end = first_end or now
                ripe = first_end is not None and now - first_end >= _VERDICT_SECONDS
                self.failure = self._verdict_on_ended() if ripe else self._verdict_on_silent(now)
            if self.failure is not None:
                break
        self._stop_all()
        self.finished.set()

    def _verdict_on_ended(self) -> SparkmlError:
        ended = [state for state in self._ranks if state.ended_badly]
        culprit = min(ended, key=lambda state: (state.is_victim, state.rank))
        own = _own_error(culprit.error)
        return own if own is not None else _attempt_error(culprit, _how_it_ended(culprit))

    def _verdict_on_silent(self, now: float) -> SparkmlError | None:
        patience = self._patience
        for state in self._ranks:
            if state.exit_code is not None or state.lost:
                continue
            if state.line is None:
                if now - self._opened > patience.start_seconds:
                    return _attempt_error(state, f"did not start within {patience.start_seconds:g} s")
            elif now - state.heard > self._longest_silence(state):
                return _attempt_error(state, f"hangs: no heartbeat for {now - state.heard:.0f} s")
            elif state.phase != COLLECTIVE and state.phase_seconds > self._limit(state):
                return _attempt_error(state, f"hangs: no step done for {state.phase_seconds:.0f} s")
        waiting = [state for state in self._ranks if state.phase == COLLECTIVE and state.exit_code is None]
        if len(waiting) == len(self._ranks):
            longest = min(waiting, key=lambda state: state.phase_seconds)
            if longest.phase_seconds > patience.step_seconds:
                return _attempt_error(longest, "waits for the other ranks, as they all do: the network hangs")
        return None

    def _limit(self, state: RankState) -> float:
        return self._patience.start_seconds if state.phase == START else self._patience.step_seconds

    def _longest_silence(self, state: RankState) -> float:
        # Loading a large library keeps the heartbeat's thread from running.
        return self._patience.start_seconds if state.phase == START else self._patience.heartbeat_seconds


def _own_error(error: dict[str, str] | None) -> SparkmlError | None:
    """An error of ours that a rank reported, as if it had been raised here."""
    kind = getattr(errors, (error or {}).get("kind", ""), None)
    if error is None or not (isinstance(kind, type) and issubclass(kind, SparkmlError)):
        return None
    return kind(
        error["what"],
        where=error.get("where", ""),
        got=error.get("got", ""),
        expected=error.get("expected", ""),
        next_action=error.get("next_action", ""),
    )


def _how_it_ended(state: RankState) -> str:
    if state.error is not None:
        return f"failed with {state.error['kind']}: {state.error['what']}"
    if state.exit_code is not None and state.exit_code < 0:
        return f"was killed by {signal.Signals(-state.exit_code).name}"
    if state.exit_code is not None:
        return f"ended with exit code {state.exit_code}"
    return "is lost: its executor or Python worker died"


def _attempt_error(state: RankState, what: str) -> AttemptError:
    tail = "\n".join(f"    {text}" for text in list(state.tail)[-_TAIL_LINES:])
    return AttemptError(
        f"rank {state.rank} {what}",
        where=f"host {state.host}, after step {state.step}" if state.step >= 0 else f"host {state.host}",
        got=f"its last log lines:\n{tail}" if tail else "",
    )
