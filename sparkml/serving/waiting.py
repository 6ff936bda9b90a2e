"""The queue: requests that wait for a worker, in turn, so that a long one holds up nobody for long."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

# Tokens that a request gives to a batch before it is another one's turn.
_TURN = 512


@dataclass(eq=False)
class Job:
    """The examples of one request, which may be answered in several batches, by one version of a model.

    `tokens`: about how many each example has. `answers`: a struct by example; the future is done when all are there.
    """

    model: str
    examples: pa.RecordBatch
    tokens: Sequence[int]
    done: asyncio.Future[None]
    answers: list[Any] = field(default_factory=list)
    taken: int = 0
    missing: int = 0
    alone: bool = False  # a worker died over it: it goes without company now
    deaths: int = 0
    arrived: float = field(default_factory=time.monotonic)
    computed: float = 0.0  # seconds of workers, its share of the batches

    def __post_init__(self) -> None:
        self.answers = [None] * self.examples.num_rows
        self.missing = self.examples.num_rows

    @property
    def waiting(self) -> int:
        """Examples that no batch has taken yet."""
        return int(self.examples.num_rows) - self.taken

    def put(self, start: int, answers: Sequence[Any]) -> None:
        """The answers to the examples from `start` on."""
        self.answers[start : start + len(answers)] = answers
        self.missing -= len(answers)
        if not self.missing and not self.done.done():
            self.done.set_result(None)

    def fail(self, error: Exception) -> None:
        """No answers will come."""
        if not self.done.done():
            self.done.set_exception(error)


@dataclass(frozen=True)
class Piece:
    """Examples of a job that go into a batch."""

    job: Job
    start: int
    stop: int

    @property
    def tokens(self) -> int:
        """About how many."""
        return int(sum(self.job.tokens[self.start : self.stop]))


class Waiting:
    """Jobs of one version of a model. Each in turn gives some tokens to a batch, the first one first."""

    def __init__(self) -> None:
        self._jobs: deque[Job] = deque()
        self._again: deque[Piece] = deque()
        self.tokens = 0

    def __len__(self) -> int:
        return len(self._jobs) + len(self._again)

    @property
    def oldest(self) -> float | None:
        """When the request that has waited longest arrived; None: nobody waits."""
        arrived = [piece.job.arrived for piece in self._again]
        arrived += [job.arrived for job in self._jobs]
        return min(arrived, default=None)

    def put(self, job: Job) -> None:
        """A request."""
        self._jobs.append(job)
        self.tokens += sum(job.tokens)

    def put_again(self, piece: Piece) -> None:
        """What a worker took and did not answer, before all others."""
        self._again.append(piece)
        self.tokens += piece.tokens

    def take(self, budget: int) -> list[Piece]:
        """What the next batch holds: about `budget` tokens, one example at least, nothing of cancelled requests."""
        while self._again:
            piece = self._again.popleft()
            self.tokens -= piece.tokens
            if not piece.job.done.done():
                return [piece]  # alone: what ends a worker is found so
        taken: list[Piece] = []
        left = budget
        while self._jobs and (left > 0 or not taken):
            job = self._jobs.popleft()
            if job.done.done():
                self.tokens -= int(sum(job.tokens[job.taken :]))
                continue
            piece = self._cut(job, min(left, _TURN))
            taken.append(piece)
            left -= piece.tokens
            self.tokens -= piece.tokens
            if job.waiting:
                self._jobs.append(job)
        return _joined(taken)

    def _cut(self, job: Job, tokens: int) -> Piece:
        start = job.taken
        ends = np.cumsum(job.tokens[start:])
        job.taken += max(1, int(np.searchsorted(ends, tokens, side="right")))
        return Piece(job, start, job.taken)


def _joined(pieces: list[Piece]) -> list[Piece]:
    """Pieces of one job that follow each other as one."""
    found: dict[int, Piece] = {}
    for piece in pieces:
        before = found.get(id(piece.job))
        found[id(piece.job)] = Piece(piece.job, before.start if before else piece.start, piece.stop)
    return list(found.values())
