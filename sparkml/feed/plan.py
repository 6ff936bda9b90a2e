"""Who reads what: a pure function of the manifest, the epoch, the seed, the batch size and a number of streams.

Every rank computes its part of the same plan, so nothing has to be agreed on at run time:

1. The row groups of the manifest are shuffled by (seed, epoch) and laid end to end; inside a row group the rows are
   shuffled by (seed, epoch, row group). That is a line of all the rows.
2. The line is cut into `n_streams` canonical streams, of equal length but for one row. Dealt out in turn they give the
   order of the epoch: position `p` is row `p // n_streams` of stream `p % n_streams`.
3. Step `t` takes the positions `t * batch_size` up to `(t + 1) * batch_size`. The tail is kept, not dropped and not
   padded: the last step of an epoch may be short.
4. Rank `r` of `w` reads the streams `r`, `r + w`, `r + 2 * w` ...: of every step it has its share, to one row where `w`
   divides the number of streams.

So the members of a step are the same on any number of ranks, and a training may go on with another one: nothing is left
out and nothing is taken twice. The rows of `n_streams` row groups are mixed at any time, which is the shuffle window.

A step's rows follow from (epoch, step) alone; a reader that starts at a later step does not read what was consumed
before. The whole plan is two arrays, the shuffled order and the sum of the rows so far. Where a stream or a step begins
is looked up by bisection, and only the row groups that are read become objects: a million row groups cost milliseconds.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sparkml.errors import InputError
from sparkml.feed.manifest import Int64, Manifest, ShardFiles

_GROUP_ORDER, _ROW_ORDER = 1, 2


@dataclass(frozen=True)
class RowGroup:
    """One row group: its number in the manifest, the file that holds it and its bytes, its index there, its rows."""

    number: int
    path: str
    file_bytes: int
    index: int
    rows: int


@dataclass(frozen=True)
class Slice:
    """The rows `start:stop` of a row group in its shuffled order, which are the next ones of a stream."""

    stream: int
    group: RowGroup
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """How many rows."""
        return self.stop - self.start


@dataclass(frozen=True, eq=False)
class EpochPlan:
    """One epoch; `slices` cuts some streams out of it.

    `order` int64 [row groups] numbers the row groups in the order of the line, `ends` int64 [row groups] counts the
    line's rows up to the end of each.
    """

    files: ShardFiles
    epoch: int
    seed: int
    batch_size: int
    n_streams: int
    order: Int64
    ends: Int64

    @property
    def rows(self) -> int:
        """The rows of the epoch."""
        return int(self.ends[-1])

    @property
    def steps(self) -> int:
        """The steps of the epoch, the last of which may be short."""
        return -(-self.rows // self.batch_size)

    def position(self, step: int) -> int:
        """The first position of a step; that of the step after the last is the end of the epoch."""
        return min(step * self.batch_size, self.rows)

    def rows_before(self, stream: int, position: int) -> int:
        """How many rows of a stream stand before a position of the epoch's order."""
        return max(-(-(position - stream) // self.n_streams), 0)

    def slices(
        self, streams: Iterable[int], first_step: int = 0, stop_step: int | None = None
    ) -> Iterator[Slice]:
        """What is read of the streams in the steps `first_step` up to `stop_step` (default: to the end).

        In the order in which the first row of each is needed.
        """
        begin = self.position(first_step)
        end = self.rows if stop_step is None else self.position(stop_step)
        parts = [self._placed(stream, begin, end) for stream in streams]
        return (piece for _, piece in heapq.merge(*parts, key=lambda placed: placed[0]))

    def _placed(self, stream: int, begin: int, end: int) -> Iterator[tuple[int, Slice]]:
        """The slices of one stream between two positions, each with the position of its first row."""
        row, stop = self.rows_before(stream, begin), self.rows_before(stream, end)
        if row >= stop:
            return
        length, longer = divmod(self.rows, self.n_streams)
        head = stream * length + min(stream, longer)  # where the stream begins on the line
        first = int(np.searchsorted(self.ends, head + row, side="right"))
        last = int(np.searchsorted(self.ends, head + stop, side="left"))
        offset = (int(self.ends[first - 1]) if first else 0) - head
        for group in row_groups(self.files, self.order[first : last + 1]):
            start, until = max(row - offset, 0), min(stop - offset, group.rows)
            yield (offset + start) * self.n_streams + stream, Slice(stream, group, start, until)
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
    sizes = files.sizes[holders]
    for number, holder, size, index, count in zip(wanted, holders, sizes, indices, rows, strict=True):
        yield RowGroup(int(number), files.path(int(holder)), int(size), int(index), int(count))


def epoch_plan(manifest: Manifest, *, epoch: int, seed: int, batch_size: int, n_streams: int) -> EpochPlan:
    """The plan of one epoch; InputError where there are no rows."""
    if not manifest.rows:
        raise InputError(
            f"split `{manifest.split}` has no rows",
            where=f"manifest {manifest.manifest_id}",
            next_action="put more documents through the step that made the samples",
        )
    rows = manifest.files.group_rows
    numbers = np.flatnonzero(rows)  # an empty row group has no place in the line
    order = numbers[np.random.default_rng([_GROUP_ORDER, seed, epoch]).permutation(len(numbers))]
    return EpochPlan(manifest.files, epoch, seed, batch_size, n_streams, order, np.cumsum(rows[order]))


def steps_per_epoch(manifest: Manifest, batch_size: int) -> int:
    """The steps of an epoch."""
    return -(-manifest.rows // batch_size)
