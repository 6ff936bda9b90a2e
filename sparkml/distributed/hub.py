"""What the driver knows of the ranks of one attempt: logs, progress, heartbeats, and which rank failed first."""

from __future__ import annotations

import secrets
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sparkml import errors
from sparkml.distributed.channel import Connection, ProtocolError
from sparkml.distributed.listener import Hello, Listener
from sparkml.distributed.rank import EXIT_PEER_FAILED
from sparkml.distributed.reporter import COLLECTIVE, JOIN, START, WORK
from sparkml.errors import SparkmlError, TrainingError
from sparkml.log import get_logger

_log = get_logger(__name__)
_WATCH_SECONDS = 0.2
# After the first rank has failed its peers fail too; a moment later it is known who was first.
_VERDICT_SECONDS = 1.0
# A look that comes so much later than it should: this process was stopped, or had no processor.
_LATE_SECONDS = 1.0
_TAIL_LINES = 40
# A rank that hangs is asked where it stands; so long its answer may take.
_EXPLAIN_SECONDS = 1.0


class AttemptError(TrainingError):
    """A rank died or hung; the next attempt may succeed."""


@dataclass(frozen=True)
class Timeouts:
    """How long a rank may be silent, may work on one step, and may take to start, in seconds.

    `join_seconds` is how long ranks that are all there may take to find each other: now and then Gloo never gets there.
    `slots_seconds` is how long Spark may take besides to find a slot for every rank: a barrier stage starts as a whole.
    """

    heartbeat_seconds: float
    step_seconds: float
    start_seconds: float
    slots_seconds: float = 0.0
    join_seconds: float = 60.0


@dataclass(frozen=True)
class StepDone:
    """A step that rank 0 has done, of how many, with its values (loss, tokens_per_second, ...)."""

    step: int
    total: int
    values: dict[str, float]


@dataclass
class RankState:
    """What the driver knows of one rank."""

    rank: int
    host: str = "?"
    connection: Connection | None = None
    last_message: float = 0.0
    phase: str = START
    phase_seconds: float = 0.0
    joined: bool = False
    step: int = -1
    exit_code: int | None = None
    lost: bool = False
    disconnected: bool = False
    suspected: tuple[float, str] | None = None  # since when, and how, it hangs
    error: dict[str, str] | None = None
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=_TAIL_LINES))

    @property
    def has_failed(self) -> bool:
        """It ended without finishing its work."""
        return self.lost or self.exit_code not in (None, 0)

    @property
    def is_victim(self) -> bool:
        """It failed because another rank did: by its own account, or by Horovod's SIGABRT."""
        return self.exit_code in (EXIT_PEER_FAILED, -signal.SIGABRT)


class Hub:
    """Receives what the supervisors of one attempt report, and decides when the attempt has failed.

    `failure` is set when the attempt cannot succeed any more, `finished` when it is over either way,
    `drained` when every supervisor has disconnected.
    """

    def __init__(
        self, bind: str, ranks: int, timeouts: Timeouts, on_progress: Callable[[StepDone], None]
    ) -> None:
        self.token = secrets.token_hex(16)
        self.failure: SparkmlError | None = None
        self._ranks = [RankState(rank) for rank in range(ranks)]
        self._timeouts = timeouts
        self._on_progress = on_progress
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self.finished = threading.Event()
        self.drained = threading.Event()
        self._opened = time.monotonic()
        self._first_hello: float | None = None
        self._listener = Listener(bind, token=self.token, ranks=ranks, serve=self._serve)
        threading.Thread(target=self._watch, daemon=True, name="hub-watch").start()

    @property
    def port(self) -> int:
        """The port that supervisors connect to."""
        return self._listener.port

    def close(self) -> None:
        """End the attempt: every supervisor that is still there ends its rank."""
        self._closed.set()
        self._listener.close()
        self._stop_all()
        self.finished.set()

    def wait_for_failure(self, seconds: float) -> SparkmlError | None:
        """Why the attempt failed, which may be known a moment after Spark's own error."""
        deadline = time.monotonic() + seconds
        while self.failure is None and time.monotonic() < deadline:
            time.sleep(_WATCH_SECONDS / 2)
        return self.failure

    def _stop_all(self) -> None:
        for state in self._ranks:
            if state.connection is not None:
                state.connection.send({"stop": True})

    def _serve(self, hello: Hello, connection: Connection) -> None:
        """Take in what one supervisor reports, until it disconnects."""
        state = self._ranks[hello.rank]
        with self._lock:
            if state.connection is not None:
                return  # Spark started the stage a second time: attempts are ours to count
            state.connection, state.host, state.last_message = connection, hello.host, time.monotonic()
            self._first_hello = self._first_hello or state.last_message
        try:
            for message in connection.messages():
                done = self._note(state, message)
                if done is not None and state.rank == 0:
                    self._on_progress(done)
        except ProtocolError as error:
            _log.warning("the connection to rank %d is closed: %s", state.rank, error)
        finally:
            with self._lock:
                state.lost = state.exit_code is None
                state.disconnected = True
                if all(other.disconnected for other in self._ranks):
                    self.drained.set()

    def _note(self, state: RankState, message: dict[str, Any]) -> StepDone | None:
        try:
            with self._lock:
                return _note(state, message)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ProtocolError(f"it sent a message that cannot be read: {error!r}") from error

    def _watch(self) -> None:
        first_failure = None
        looked = time.monotonic()
        while not self._closed.wait(_WATCH_SECONDS):
            with self._lock:
                now = time.monotonic()
                if now - looked > _WATCH_SECONDS + _LATE_SECONDS:
                    self._excuse(now - looked, now)
                looked = now
                if all(state.exit_code == 0 for state in self._ranks):
                    break
                if any(state.has_failed for state in self._ranks):
                    first_failure = first_failure or now
                is_settled = first_failure is not None and now - first_failure >= _VERDICT_SECONDS
                self.failure = self._failure_of_ended() if is_settled else self._failure_of_silent(now)
            if self.failure is not None:
                break
        self._stop_all()
        self.finished.set()

    def _excuse(self, seconds: float, now: float) -> None:
        """While this process stood still nobody was silent: what they have sent is still to be read."""
        _log.warning("the driver stood still for %.0f s", seconds)
        self._opened += seconds
        if self._first_hello is not None:
            self._first_hello += seconds
        for state in self._ranks:
            state.last_message = min(state.last_message + seconds, now)

    def _failure_of_ended(self) -> SparkmlError:
        ended = [state for state in self._ranks if state.has_failed]
        first = min(ended, key=lambda state: (state.is_victim, state.rank))
        own = _own_error(first.error)
        return own if own is not None else _attempt_error(first, _how_it_ended(first))

    def _failure_of_silent(self, now: float) -> SparkmlError | None:
        for state in self._running():
            if state.connection is None:
                if error := self._failure_to_start(state, now):
                    return error
            elif error := _failure_to_go_on(state, self._how_it_hangs(state, now), now):
                return error
        return None

    def _running(self) -> list[RankState]:
        return [state for state in self._ranks if state.exit_code is None and not state.lost]

    def _how_it_hangs(self, state: RankState, now: float) -> str:
        """Empty where it does not."""
        silent, busy = now - state.last_message, state.phase_seconds
        if silent > self._longest_silence(state):
            return f"hangs: no heartbeat for {silent:.0f} s"
        if state.phase == JOIN:
            there = all(one.phase == JOIN or one.joined for one in self._running())
            if there and busy > self._timeouts.join_seconds:
                return f"hangs: it looks for the other ranks, which are there, since {busy:.0f} s"
        if busy <= self._limit(state):
            return ""
        if state.phase in (START, JOIN):
            return f"hangs: it starts since {busy:.0f} s"
        if state.phase != COLLECTIVE:
            return f"hangs: no step done for {busy:.0f} s"
        # It waits for the others: one that works may hang, and is looked at by itself.
        limit = self._timeouts.step_seconds
        if all(one.phase == COLLECTIVE and one.phase_seconds > limit for one in self._running()):
            return "waits for the other ranks, as they all do: the network hangs"
        return ""

    def _failure_to_start(self, state: RankState, now: float) -> SparkmlError | None:
        seconds = self._timeouts.start_seconds
        if self._first_hello is not None:
            late = now - self._first_hello > seconds
            return _attempt_error(state, f"did not start within {seconds:g} s of the first") if late else None
        seconds += self._timeouts.slots_seconds
        if now - self._opened <= seconds:
            return None
        return AttemptError(
            f"no rank has started within {seconds:g} s",
            got="Spark has found no slot for every one of them, or cannot start their Python workers",
        )

    def _limit(self, state: RankState) -> float:
        return self._timeouts.start_seconds if state.phase in (START, JOIN) else self._timeouts.step_seconds

    def _longest_silence(self, state: RankState) -> float:
        # Loading a large library keeps the heartbeat's thread from running.
        return (
            self._timeouts.start_seconds if state.phase in (START, JOIN) else self._timeouts.heartbeat_seconds
        )


def _failure_to_go_on(state: RankState, how: str, now: float) -> SparkmlError | None:
    """The error of a rank that hangs, once it had a moment to say where it stands."""
    if not how or state.connection is None:
        state.suspected = None
    elif state.suspected is None:
        state.suspected = now, how
        state.connection.send({"explain": True})
    elif now - state.suspected[0] >= _EXPLAIN_SECONDS:
        return _attempt_error(state, state.suspected[1])
    return None


def _note(state: RankState, message: dict[str, Any]) -> StepDone | None:
    """Note one message of a rank; returns the step where it reports one."""
    state.last_message = time.monotonic()
    if "log" in message:
        state.tail.append(str(message["log"]))
        _log.info("[rank %d] %s", state.rank, message["log"])
    elif "beat" in message:
        beat = message["beat"]
        state.phase, state.phase_seconds = str(beat["phase"]), float(beat["seconds"])
        state.joined = bool(beat.get("joined"))
    elif "progress" in message:
        progress = message["progress"]
        done = StepDone(int(progress["step"]), int(progress["total"]), dict(progress["values"]))
        state.step, state.phase, state.phase_seconds = done.step, WORK, 0.0
        return done
    elif "error" in message:
        state.error = {name: str(text) for name, text in message["error"].items()}
    elif "exit" in message:
        state.exit_code = int(message["exit"]["code"])
    return None


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
    tail = "\n".join(f"    {text}" for text in state.tail)
    return AttemptError(
        f"rank {state.rank} {what}",
        where=f"host {state.host}, after step {state.step}" if state.step >= 0 else f"host {state.host}",
        got=f"its last log lines:\n{tail}" if tail else "",
    )
