"""Micro batches of one rank, in the order of the epoch's plan."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import tee

import numpy as np

from sparkml.feed.plan import EpochPlan, Slice
from sparkml.feed.reader import Reader, TokenIds


@dataclass(frozen=True)
class MicroBatch:
    """The rows of one step of one rank: int32 [rows, sequence_length]; fewer or none at an epoch's end."""

    step: int
    input_ids: TokenIds


def micro_batches(
    reader: Reader,
    plan: EpochPlan,
    *,
    rank: int,
    sequence_length: int,
    first_step: int = 0,
    stop_step: int | None = None,
) -> Generator[MicroBatch, None, None]:
    """The steps `first_step` up to `stop_step` of the epoch (default: to its end), as many on every rank.

    Nothing is read that these steps do not need.
    """
    stop = plan.steps if stop_step is None else min(stop_step, plan.steps)
    rows = _rows(reader, plan, plan.slices(rank, first_step, stop))
    held = np.empty((0, sequence_length), dtype=np.int32)
    for step in range(first_step, stop):
        while len(held) < plan.micro_batch and (more := next(rows, None)) is not None:
            held = np.concatenate([held, more])
        yield MicroBatch(step, held[: plan.micro_batch])
        held = held[plan.micro_batch :]


def _rows(reader: Reader, plan: EpochPlan, slices: Iterator[Slice]) -> Iterator[TokenIds]:
    pieces, ahead = tee(slices)  # the reader runs ahead by what it decodes in advance
    loaded = reader.read(piece.group for piece in ahead)
    for piece, rows in zip(pieces, loaded, strict=True):
        yield rows[plan.row_order(piece.group)[piece.start : piece.stop]]
