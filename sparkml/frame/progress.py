"""Progress of long work: one live line on a terminal, plain log records elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn
from rich.progress import Progress as RichProgress

from sparkml.log import get_logger

_log = get_logger(__name__)
_LOG_EVERY_SECONDS = 10.0


class ProgressTask:
    """One piece of work with a known or unknown total, in `unit`s."""

    def __init__(self, name: str, total: float | None, unit: str, line: RichProgress | None) -> None:
        self.name = name
        self.total = total
        self.unit = unit
        self.done = 0.0
        self.note = ""
        self._first: tuple[float, float] | None = None  # time and amount of the first report
        self._logged = time.monotonic()
        self._line = line
        self._bar = line.add_task(name, total=total, detail="") if line is not None else None

    def advance(self, n: float, note: str = "") -> None:
        """`n` more units are done."""
        self.update(self.done + n, note=note)

    def update(self, done: float, *, total: float | None = None, note: str = "") -> None:
        """`done` units in all are done; `total` where it has become known."""
        self.done = done
        self.total = total if total is not None else self.total
        self.note = note or self.note
        # What came before the first unit (starting ranks, compiling) says nothing about the rate.
        self._first = self._first or (time.monotonic(), done)
        if self._line is not None and self._bar is not None:
            self._line.update(self._bar, completed=done, total=self.total, detail=self.describe())
        elif time.monotonic() - self._logged >= _LOG_EVERY_SECONDS:
            self._logged = time.monotonic()
            _log.info("%s: %s", self.name, self.describe())

    def describe(self) -> str:
        """Done of total, rate, time left, note."""
        parts = [f"{self.done:,.0f}" + (f"/{self.total:,.0f}" if self.total else "") + f" {self.unit}"]
        started, before = self._first or (time.monotonic(), self.done)
        rate = (self.done - before) / max(time.monotonic() - started, 1e-9)
        if rate > 0:
            parts.append(f"{rate:,.1f} {self.unit}/s")
            if self.total and self.done < self.total:
                parts.append(f"{(self.total - self.done) / rate:,.0f} s left")
        if self.note:
            parts.append(self.note)
        return " · ".join(parts)

    def close(self) -> None:
        """Take the line off the terminal."""
        if self._line is not None and self._bar is not None:
            self._line.remove_task(self._bar)


class Progress:
    """Where stages report how far they are; safe to use from more than one thread."""

    def __init__(self, console: Console | None = None) -> None:
        self.open_tasks = 0
        live = console is not None and console.is_terminal
        self._line = (
            RichProgress(
                SpinnerColumn(),
                TextColumn("[bold]{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[detail]}"),
                console=console,
                transient=True,
            )
            if live
            else None
        )

    def __enter__(self) -> Progress:
        if self._line is not None:
            self._line.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._line is not None:
            self._line.stop()

    @contextmanager
    def task(self, name: str, total: float | None = None, unit: str = "rows") -> Iterator[ProgressTask]:
        """A piece of work, shown while the block runs."""
        task = ProgressTask(name, total, unit, self._line)
        self.open_tasks += 1
        try:
            yield task
        finally:
            self.open_tasks -= 1
            task.close()
