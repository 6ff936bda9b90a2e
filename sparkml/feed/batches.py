"""Micro batches of one rank, in the order of the epoch's plan, or of similar length within pools of it."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import tee
from typing import Any

import numpy as np

from sparkml.feed.plan import EpochPlan, Slice
from sparkml.feed.reader import Reader, Rows

LENGTH_COLUMN = "n_tokens"
_POOL_ORDER = 3


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
    rank: int,
    first_step: int = 0,
    stop_step: int | None = None,
    pool_steps: int = 1,
) -> Generator[MicroBatch, None, None]:
    """The steps `first_step` up to `stop_step` of the epoch (default: to its end), as many on every rank.

    `pool_steps`: the rows of so many steps are sorted by `n_tokens` and cut into steps of similar length, whose order
    is drawn: little padding, and at large the order stays random. Nothing is read that the steps, or the pool of the
    first one, do not need.
    """
    stop = plan.steps if stop_step is None else min(stop_step, plan.steps)
    first_pool = first_step // pool_steps
    batches = _in_order(reader, plan, rank, first_pool * pool_steps, stop if pool_steps == 1 else plan.steps)
    for number, pool in enumerate(_pools(batches, pool_steps), start=first_pool):
        begin = number * pool_steps
        if begin >= stop:
            return
        ordered = pool if pool_steps == 1 else _by_length(pool, plan, rank, number)
        for step, columns in enumerate(ordered, start=begin):
            if first_step <= step < stop:
                yield MicroBatch(step, columns)


def _pools(batches: Iterator[Rows], size: int) -> Iterator[list[Rows]]:
    pool: list[Rows] = []
    for batch in batches:
        pool.append(batch)
        if len(pool) == size:
            yield pool
            pool = []
    if pool:
        yield pool


def _by_length(pool: list[Rows], plan: EpochPlan, rank: int, number: int) -> list[Rows]:
    """The same rows in as many batches, each of similar lengths, in a drawn order."""
    together = concatenate(pool)
    if not count(together):  # a rank without rows in the last step of an epoch
        return pool
    order = np.argsort(together[LENGTH_COLUMN], kind="stable")
    cuts = [
        order[start : start + plan.micro_batch]
        for start in range(0, len(pool) * plan.micro_batch, plan.micro_batch)
    ]
    rng = np.random.default_rng([_POOL_ORDER, plan.seed, plan.epoch, rank, number])
    return [take(together, cuts[place]) for place in rng.permutation(len(pool))]


def _in_order(reader: Reader, plan: EpochPlan, rank: int, first_step: int, stop: int) -> Iterator[Rows]:
    rows = _rows(reader, plan, plan.slices(rank, first_step, stop))
    held: list[Rows] = []
    n_held = 0
    empty: Rows | None = None
    for _ in range(first_step, stop):
        while n_held < plan.micro_batch and (more := next(rows, None)) is not None:
            held.append(more)
            n_held += count(more)
        together = concatenate(held) if held else (empty or {})
        empty = take(together, slice(0, 0))
        yield take(together, slice(0, plan.micro_batch))
        rest = take(together, slice(plan.micro_batch, None))
        held, n_held = ([rest], count(rest)) if count(rest) else ([], 0)


def _rows(reader: Reader, plan: EpochPlan, slices: Iterator[Slice]) -> Iterator[Rows]:
    pieces, ahead = tee(slices)  # the reader runs ahead by what it decodes in advance
    loaded = reader.read(piece.group for piece in ahead)
    for piece, rows in zip(pieces, loaded, strict=True):
        yield take(rows, plan.row_order(piece.group)[piece.start : piece.stop])


def concatenate(parts: list[Rows]) -> Rows:
    """The rows of several parts in order."""
    filled = [part for part in parts if part]
    if len(filled) == 1:
        return filled[0]
    return {name: np.concatenate([part[name] for part in filled]) for name in (filled[0] if filled else ())}


def take(rows: Rows, chosen: Any) -> Rows:
    """Some of the rows, by index or slice."""
    return {name: values[chosen] for name, values in rows.items()}


def parts_of(columns: Rows, token_budget: int) -> Iterator[Rows]:
    """The rows of a step, the longest first, in parts of at most `token_budget` tokens padded; one row at least."""
    n_rows = count(columns)
    if not n_rows:
        return
    lengths = _lengths(columns)
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
