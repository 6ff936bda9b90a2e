"""Who reads what: a pure function of the manifest, the epoch, the seed and the number of ranks.

Every rank computes the plan of all ranks alike, so nothing has to be agreed on at run time:

1. The row groups of the manifest are shuffled by (seed, epoch) and laid end to end: a stream of all the rows.
2. Rank `r` of `w` takes the rows `r * rows // w` up to `(r + 1) * rows // w` of the stream: no row is left
   out, none is taken twice, and two ranks differ by one row at most. Only the row groups at the borders are
   read by two ranks.
3. Inside a row group the rows are shuffled by (seed, epoch, row group).
4. An epoch has the same number of steps on every rank: `ceil(ceil(rows / w) / micro_batch)`. The tail is
   kept, not dropped and not padded: the last micro batch of a rank may be short, at worst empty, and weighs
   what it holds.

A step's rows follow from (epoch, step) alone; whoever starts at a later step leaves what was consumed unread.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sparkml.errors import InputError
from sparkml.feed.manifest import Manifest

_GROUP_ORDER, _ROW_ORDER = 1, 2


@dataclass(frozen=True)
class RowGroup:
    """One row group: its number in the manifest, the file that holds it, its index there, its rows."""

    number: int
    path: str
    index: int
    rows: int


@dataclass(frozen=True)
class Slice:
    """The rows `start:stop` of a row group in its shuffled order."""

    group: RowGroup
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """How many rows."""
        return self.stop - self.start


@dataclass(frozen=True)
class EpochPlan:
    """The slices of every rank for one epoch, in the order in which they are read."""

    epoch: int
    seed: int
    micro_batch: int
    steps: int
    slices: tuple[tuple[Slice, ...], ...]

    @property
    def world_size(self) -> int:
        """The number of ranks."""
        return len(self.slices)

    def remaining(self, rank: int, first_step: int = 0) -> Iterator[Slice]:
        """The slices of a rank from `first_step` on; what earlier steps consumed is not among them."""
        consumed = first_step * self.micro_batch
        for piece in self.slices[rank]:
            if consumed >= piece.rows:
                consumed -= piece.rows
                continue
            yield Slice(piece.group, piece.start + consumed, piece.stop)
            consumed = 0

    def row_order(self, group: RowGroup) -> npt.NDArray[np.int64]:
        """The shuffled order of a row group's rows in this epoch."""
        rng = np.random.default_rng([_ROW_ORDER, self.seed, self.epoch, group.number])
        return rng.permutation(group.rows)


def row_groups(manifest: Manifest) -> tuple[RowGroup, ...]:
    """All row groups of a manifest in its order; empty ones are left out."""
    pairs = [
        (file.path, index, rows) for file in manifest.files for index, rows in enumerate(file.row_groups)
    ]
    return tuple(
        RowGroup(number, path, index, rows) for number, (path, index, rows) in enumerate(pairs) if rows > 0
    )


def epoch_plan(manifest: Manifest, *, epoch: int, seed: int, world_size: int, micro_batch: int) -> EpochPlan:
    """The plan of one epoch; InputError where there are fewer rows than ranks."""
    groups = row_groups(manifest)
    total = sum(group.rows for group in groups)
    if total < world_size:
        raise InputError(
            f"split `{manifest.split}` has fewer rows than there are ranks",
            where=f"manifest {manifest.manifest_id}",
            got=f"{total} rows",
            expected=f"at least {world_size}",
            next_action="put more documents through the shard stage, or take fewer ranks: train.ranks=1",
        )
    order = np.random.default_rng([_GROUP_ORDER, seed, epoch]).permutation(len(groups))
    stream = [groups[index] for index in order]
    bounds = [rank * total // world_size for rank in range(world_size + 1)]
    slices = tuple(tuple(_cut(stream, bounds[rank], bounds[rank + 1])) for rank in range(world_size))
    return EpochPlan(epoch, seed, micro_batch, steps_per_epoch(manifest, world_size, micro_batch), slices)


def steps_per_epoch(manifest: Manifest, world_size: int, micro_batch: int) -> int:
    """The steps of an epoch, the same on every rank."""
    rows_of_largest_rank = -(-manifest.rows // world_size)
    return -(-rows_of_largest_rank // micro_batch)


def _cut(stream: list[RowGroup], begin: int, end: int) -> Iterator[Slice]:
    """The rows `begin:end` of the row groups laid end to end."""
    offset = 0
    for group in stream:
        start, stop = max(begin - offset, 0), min(end - offset, group.rows)
        if start < stop:
            yield Slice(group, start, stop)
        offset += group.rows
