"""Micro batches of one rank, in the order of the epoch's plan."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np

from sparkml.feed.plan import EpochPlan, Slice
from sparkml.feed.reader import Reader, TokenIds


@dataclass(frozen=True)
class MicroBatch:
    """The rows of one step of one rank: int32 [rows, sequence_length]; fewer or none at an epoch's end."""

    step: int
    input_ids: TokenIds


def micro_batches(
    reader: Reader, plan: EpochPlan, *, rank: int, sequence_length: int, first_step: int = 0
) -> Generator[MicroBatch, None, None]:
    """Every step of the epoch from `first_step` on: as many on every rank."""
    pieces = list(plan.remaining(rank, first_step))
    rows = _rows(reader, plan, pieces)
    held = np.empty((0, sequence_length), dtype=np.int32)
    for step in range(first_step, plan.steps):
        while len(held) < plan.micro_batch and (more := next(rows, None)) is not None:
            held = np.concatenate([held, more])
        yield MicroBatch(step, held[: plan.micro_batch])
        held = held[plan.micro_batch :]


def _rows(reader: Reader, plan: EpochPlan, pieces: list[Slice]) -> Iterator[TokenIds]:
    loaded = reader.read([piece.group for piece in pieces])
    for piece, rows in zip(pieces, loaded, strict=True):
        yield rows[plan.row_order(piece.group)[piece.start : piece.stop]]
