"""The steps of one rank, in the order of the epoch's plan, or of similar length within pools of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import tee
from typing import Any

import numpy as np
import numpy.typing as npt

from sparkml.feed.groups import Rows
from sparkml.feed.manifest import Int64
from sparkml.feed.plan import EpochPlan, Slice
from sparkml.feed.reader import Reader

LENGTH_COLUMN = "n_tokens"
_POOL_ORDER = 3
# Rows that are copied together where they are not sorted: what numpy takes for a call is shared by so many.
_WINDOW_ROWS = 512


@dataclass(frozen=True)
class MicroBatch:
    """The rows of one step of one rank, a column each; fewer or none at an epoch's end."""

    step: int
    columns: Rows

    @property
    def rows(self) -> int:
        """How many rows."""
        return count(self.columns)


def count(columns: Rows) -> int:
    """The rows of columns."""
    return len(next(iter(columns.values()), ()))


def micro_batches(
    reader: Reader,
    plan: EpochPlan,
    *,
    rank: int = 0,
    world_size: int = 1,
    first_step: int = 0,
    stop_step: int | None = None,
    pool_steps: int = 1,
) -> Generator[MicroBatch, None, None]:
    """The steps `first_step` up to `stop_step` of the epoch (default: to its end), as many on every rank.

    `pool_steps`: of so many steps the rows of each stream are sorted by `n_tokens` and dealt out to steps of similar
    length, whose order is drawn: little padding, and at large the order stays random. Each step has the same members on
    any number of ranks. Nothing is read that the steps, or the pools of the first and last one, do not need.
    """
    stop = plan.steps if stop_step is None else min(stop_step, plan.steps)
    window = pool_steps if pool_steps > 1 else max(_WINDOW_ROWS // plan.batch_size, 1)
    begin = first_step - first_step % pool_steps
    end = min(-(-stop // pool_steps) * pool_steps, plan.steps)
    streams = range(rank, plan.n_streams, world_size)
    held = _Held(reader, plan, plan.slices(streams, begin, end))
    for first in range(begin, end, window):
        steps = range(first, min(first + window, end))
        batches = _window(held, plan, streams, steps, by_length=pool_steps > 1)
        for step, columns in zip(steps, batches, strict=True):
            if first_step <= step < stop:
                yield MicroBatch(step, columns)


@dataclass
class _Part:
    """Rows of a row group that are next in their stream: the group's columns, and which of its rows, in order."""

    columns: Rows
    chosen: Int64


class _Held:
    """Row groups that were read and are not used up yet, by stream."""

    def __init__(self, reader: Reader, plan: EpochPlan, slices: Iterator[Slice]) -> None:
        pieces, ahead = tee(slices)  # the reader runs ahead by what it decodes in advance
        self._plan = plan
        self._loaded = zip(pieces, reader.read(piece.group for piece in ahead), strict=True)
        self._parts: dict[int, deque[_Part]] = {}
        self.empty: Rows = {}

    def take(self, stream: int, rows: int) -> list[_Part]:
        """The next rows of a stream."""
        waiting = self._parts.setdefault(stream, deque())
        taken: list[_Part] = []
        while rows:
            while not waiting:
                self._load()
            part = waiting[0]
            if len(part.chosen) > rows:
                taken.append(_Part(part.columns, part.chosen[:rows]))
                part.chosen = part.chosen[rows:]
                return taken
            taken.append(waiting.popleft())
            rows -= len(part.chosen)
        return taken

    def _load(self) -> None:
        piece, columns = next(self._loaded)
        self.empty = self.empty or take(columns, slice(0, 0))
        chosen = self._plan.row_order(piece.group)[piece.start : piece.stop]
        self._parts.setdefault(piece.stream, deque()).append(_Part(columns, chosen))


def _window(held: _Held, plan: EpochPlan, streams: range, steps: range, *, by_length: bool) -> Iterator[Rows]:
    """The rows of some steps: of each step stream after stream, each in its order or sorted over the steps."""
    edges = [
        [plan.rows_before(stream, plan.position(step)) for step in (*steps, steps.stop)] for stream in streams
    ]
    shares = np.diff(np.array(edges, dtype=np.int64), axis=1)  # [streams, steps]
    starts = np.zeros(shares.size + 1, dtype=np.int64)
    np.cumsum(shares.T, out=starts[1:])  # step after step, and of each its streams
    together: Rows = {}
    for nth, stream in enumerate(streams):
        share = shares[nth]
        parts = held.take(stream, int(share.sum()))
        together = together or _room(held.empty, int(starts[-1]))
        begins = starts[nth : -1 : len(streams)]
        within = np.arange(share.sum()) - np.repeat(np.cumsum(share) - share, share)
        places = np.repeat(begins, share) + within
        _copy(parts, places[_ranks_by_length(parts)] if by_length else places, together)
    cuts = starts[:: len(streams)]
    order = np.arange(len(steps))
    if by_length:
        order = np.random.default_rng([_POOL_ORDER, plan.seed, plan.epoch, steps.start]).permutation(order)
    return (take(together, slice(cuts[nth], cuts[nth + 1])) for nth in order)


def _room(like: Rows, rows: int) -> Rows:
    return {name: np.empty((rows, *column.shape[1:]), column.dtype) for name, column in like.items()}


def _copy(parts: list[_Part], places: Int64, into: Rows) -> None:
    """The rows of the parts, one after the other, to their places."""
    start = 0
    for part in parts:
        there = places[start : start + len(part.chosen)]
        for name, column in part.columns.items():
            into[name][there] = column[part.chosen]
        start += len(part.chosen)


def _ranks_by_length(parts: list[_Part]) -> npt.NDArray[np.int64]:
    """The place of each row among all of them, from the shortest to the longest."""
    lengths = [part.columns[LENGTH_COLUMN][part.chosen] for part in parts]
    order = np.argsort(np.concatenate(lengths) if lengths else np.array([]), kind="stable")
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(len(order))
    return ranks


def take(rows: Rows, chosen: Any) -> Rows:
    """Some of the rows, by index or slice."""
    return {name: values[chosen] for name, values in rows.items()}


def parts_of(columns: Rows, token_budget: int, lengths: Any = None) -> Iterator[Rows]:
    """The rows of a step, the longest first, in parts of at most `token_budget` tokens padded; one row at least.

    `lengths`: tokens of each row, where they are others than the columns say.
    """
    n_rows = count(columns)
    if not n_rows:
        return
    lengths = _lengths(columns) if lengths is None else lengths
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < n_rows:
        stop = start + max(1, int(token_budget // max(lengths[order[start]], 1)))
        yield take(columns, order[start:stop])
        start = stop


def _lengths(columns: Rows) -> Any:
    if LENGTH_COLUMN in columns:
        return columns[LENGTH_COLUMN]
    ids = columns["input_ids"]
    return np.full(len(ids), ids.shape[1])
