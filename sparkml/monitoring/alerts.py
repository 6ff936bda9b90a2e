"""From verdicts to alerts: one is raised, repeated while its cause lasts, and recovers. Silence keeps it quiet."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Literal

from sparkml.monitoring.judging import Verdict

State = Literal["raised", "repeated", "silenced", "recovered"]


@dataclass(frozen=True)
class Silence:
    """Nobody is told of alerts like these patterns, in windows that begin before `until`."""

    signal: str = "*"
    slice: str = "*"
    until: datetime | None = None

    def covers(self, verdict: Verdict) -> bool:
        """Whether an alarm of this verdict is silenced."""
        is_meant = fnmatchcase(verdict.signal, self.signal) and fnmatchcase(verdict.slice, self.slice)
        return is_meant and (self.until is None or verdict.span.start < self.until)


@dataclass(frozen=True)
class Event:
    """A state of an alert in a window. Its id follows from what it is about, however often it is found."""

    event_id: str
    alert_id: str
    state: State
    verdict: Verdict


@dataclass(frozen=True)
class OpenAlert:
    """An alert whose cause lasts, as the table has it."""

    alert_id: str
    state: State


Key = tuple[str, str]  # slice, signal


def advance(
    step: str, verdicts: Iterable[Verdict], open_alerts: dict[Key, OpenAlert], silences: Sequence[Silence]
) -> list[Event]:
    """The events of verdicts that are new, in the order of their windows; `open_alerts` is brought up to date."""
    events: list[Event] = []
    for verdict in sorted(verdicts, key=lambda one: (one.span.start, one.slice, one.signal)):
        key = (verdict.slice, verdict.signal)
        before = open_alerts.get(key)
        if not verdict.is_alarm:
            if before is not None:
                events.append(_event(step, before.alert_id, "recovered", verdict))
                del open_alerts[key]
            continue
        if any(silence.covers(verdict) for silence in silences):
            state: State = "silenced"
        else:
            state = "raised" if before is None or before.state == "silenced" else "repeated"
        alert_id = before.alert_id if before else _hash(step, *key, verdict.span.start.isoformat())
        open_alerts[key] = OpenAlert(alert_id, state)
        events.append(_event(step, alert_id, state, verdict))
    return events


def _event(step: str, alert_id: str, state: State, verdict: Verdict) -> Event:
    parts = (step, verdict.slice, verdict.signal, verdict.span.start.isoformat(), state)
    return Event(_hash(*parts), alert_id, state, verdict)


def _hash(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]
