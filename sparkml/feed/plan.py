"""Who reads what: a pure function of the manifest, the epoch, the seed and the number of ranks.

Every rank computes its part of the same plan, so nothing has to be agreed on at run time:

1. The row groups of the manifest are shuffled by (seed, epoch) and laid end to end: a stream of all the rows.
2. Rank `r` of `w` takes the rows `r * rows // w` up to `(r + 1) * rows // w` of the stream: no row is left
   out, none is taken twice, and two ranks differ by one row at most. Only the row groups at the borders are
   read by two ranks.
3. Inside a row group the rows are shuffled by (seed, epoch, row group).
4. An epoch has the same number of steps on every rank: `ceil(ceil(rows / w) / micro_batch)`. The tail is
   kept, not dropped and not padded: the last micro batch of a rank may be short or empty, and counts by
   the rows that it holds.

A step's rows follow from (epoch, step) alone; a reader that starts at a later step does not read what was consumed
before.

The whole stream is two arrays, the shuffled order and the sum of the rows so far. Where a rank or a step begins is
looked up by bisection, and only the row groups that are read become objects: a million row groups cost milliseconds,
however many ranks there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sparkml.errors import InputError
from sparkml.feed.manifest import Int64, Manifest, ShardFiles

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


@dataclass(frozen=True, eq=False)
class EpochPlan:
    """One epoch of all ranks; `slices` cuts one rank's part out of it.

    `order` int64 [row groups] numbers the row groups in the order of the stream, `ends` int64 [row groups] counts the
    stream's rows up to the end of each.
    """

    files: ShardFiles
    epoch: int
    seed: int
    world_size: int
    micro_batch: int
    steps: int
    order: Int64
    ends: Int64

    def slices(self, rank: int, first_step: int = 0, stop_step: int | None = None) -> Iterator[Slice]:
        """What a rank reads in the steps `first_step` up to `stop_step` (default: to the end), in order."""
        first_row, end = (part * int(self.ends[-1]) // self.world_size for part in (rank, rank + 1))
        begin = first_row + first_step * self.micro_batch
        if stop_step is not None:
            end = min(end, first_row + stop_step * self.micro_batch)
        if begin >= end:
            return
        first = int(np.searchsorted(self.ends, begin, side="right"))
        last = int(np.searchsorted(self.ends, end, side="left"))
        offset = int(self.ends[first - 1]) if first else 0
        for group in row_groups(self.files, self.order[first : last + 1]):
            yield Slice(group, max(begin - offset, 0), min(end - offset, group.rows))
            offset += group.rows

    def row_order(self, group: RowGroup) -> npt.NDArray[np.int64]:
        """The shuffled order of a row group's rows in this epoch."""
        rng = np.random.default_rng([_ROW_ORDER, self.seed, self.epoch, group.number])
        return rng.permutation(group.rows)


def row_groups(files: ShardFiles, numbers: Sequence[int] | Int64) -> Iterator[RowGroup]:
    """The row groups of these numbers in the manifest, in this order."""
    wanted = np.asarray(numbers, dtype=np.int64)
    holders = np.searchsorted(files.first_group, wanted, side="right") - 1
    indices, rows = wanted - files.first_group[holders], files.group_rows[wanted]
    for number, holder, index, count in zip(wanted, holders, indices, rows, strict=True):
        yield RowGroup(int(number), files.path(int(holder)), int(index), int(count))


def epoch_plan(manifest: Manifest, *, epoch: int, seed: int, world_size: int, micro_batch: int) -> EpochPlan:
    """The plan of one epoch; InputError where there are fewer rows than ranks."""
    if manifest.rows < world_size:
        raise InputError(
            f"split `{manifest.split}` has fewer rows than there are ranks",
            where=f"manifest {manifest.manifest_id}",
            got=f"{manifest.rows} rows",
            expected=f"at least {world_size}",
            next_action="put more documents through the shard stage, or take fewer ranks: train.ranks=1",
        )
    rows = manifest.files.group_rows
    numbers = np.flatnonzero(rows)  # an empty row group has no place in the stream
    order = numbers[np.random.default_rng([_GROUP_ORDER, seed, epoch]).permutation(len(numbers))]
    return EpochPlan(
        files=manifest.files,
        epoch=epoch,
        seed=seed,
        world_size=world_size,
        micro_batch=micro_batch,
        steps=steps_per_epoch(manifest, world_size, micro_batch),
        order=order,
        ends=np.cumsum(rows[order]),
    )


def steps_per_epoch(manifest: Manifest, world_size: int, micro_batch: int) -> int:
    """The steps of an epoch, the same on every rank."""
    rows_of_largest_rank = -(-manifest.rows // world_size)
    return -(-rows_of_largest_rank // micro_batch)
