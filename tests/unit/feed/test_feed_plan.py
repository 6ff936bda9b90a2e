"""The plan: every row once, equal steps, resumable without reading what was consumed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkml.errors import InputError
from sparkml.feed.manifest import Manifest, ShardFile, ShardFiles
from sparkml.feed.plan import RowGroup, Slice, epoch_plan, row_groups

# Files of row groups; some row groups, and some files, are empty.
FILES = st.lists(st.lists(st.integers(0, 9), max_size=5), min_size=1, max_size=5)


def manifest_of(files: list[list[int]]) -> Manifest:
    shards = ShardFiles.of(ShardFile(f"/f{i}", tuple(groups), 1, "") for i, groups in enumerate(files))
    return Manifest("m", "samples", 0, "train", shards, sum(map(sum, files)), "", 4, 0)


def rows_of(slices: list[Slice]) -> list[tuple[str, int, int]]:
    """Every row that a list of slices reads: file, row group, place in the group's order."""
    return [(s.group.path, s.group.index, place) for s in slices for place in range(s.start, s.stop)]


def slow_slices(files: list[list[int]], epoch: int, seed: int, world_size: int, rank: int) -> list[Slice]:
    """The oracle: lay all row groups end to end in their shuffled order and look at every one of them."""
    pairs = [(f"/f{f}", g, rows) for f, groups in enumerate(files) for g, rows in enumerate(groups)]
    groups = [RowGroup(number, *pair) for number, pair in enumerate(pairs) if pair[2] > 0]
    order = np.random.default_rng([1, seed, epoch]).permutation(len(groups))
    total = sum(group.rows for group in groups)
    begin, end = rank * total // world_size, (rank + 1) * total // world_size

    def cut() -> Iterator[Slice]:
        offset = 0
        for index in order:
            group = groups[index]
            start, stop = max(begin - offset, 0), min(end - offset, group.rows)
            if start < stop:
                yield Slice(group, start, stop)
            offset += group.rows

    return list(cut())


@settings(max_examples=300, deadline=None)
@given(FILES, st.integers(0, 3), st.integers(0, 5), st.integers(1, 5), st.integers(1, 7))
def test_the_slices_are_those_of_a_slow_scan(files, epoch, seed, world_size, micro_batch):
    manifest = manifest_of(files)
    if manifest.rows < world_size:
        return
    plan = epoch_plan(manifest, epoch=epoch, seed=seed, world_size=world_size, micro_batch=micro_batch)
    for rank in range(world_size):
        assert list(plan.slices(rank)) == slow_slices(files, epoch, seed, world_size, rank)


@settings(max_examples=200, deadline=None)
@given(FILES, st.integers(0, 3), st.integers(0, 5), st.integers(1, 5), st.integers(1, 7))
def test_every_row_once_and_equal_steps(files, epoch, seed, world_size, micro_batch):
    manifest = manifest_of(files)
    if manifest.rows < world_size:
        return
    plan = epoch_plan(manifest, epoch=epoch, seed=seed, world_size=world_size, micro_batch=micro_batch)
    per_rank = [rows_of(list(plan.slices(rank))) for rank in range(world_size)]
    every_row = [
        (f"/f{f}", g, r) for f, groups in enumerate(files) for g, n in enumerate(groups) for r in range(n)
    ]
    assert sorted(row for rows in per_rank for row in rows) == sorted(every_row)
    counts = [len(rows) for rows in per_rank]
    assert max(counts) - min(counts) <= 1
    assert (plan.steps - 1) * micro_batch < max(counts) <= plan.steps * micro_batch


@settings(max_examples=200, deadline=None)
@given(FILES, st.integers(1, 3), st.integers(1, 5), st.data())
def test_steps_cut_a_rank_into_pieces_that_follow_one_another(files, world_size, micro_batch, data):
    manifest = manifest_of(files)
    if manifest.rows < world_size:
        return
    plan = epoch_plan(manifest, epoch=0, seed=1, world_size=world_size, micro_batch=micro_batch)
    first_step = data.draw(st.integers(0, plan.steps))
    stop_step = data.draw(st.integers(first_step, plan.steps + 2))
    for rank in range(world_size):
        whole = rows_of(list(plan.slices(rank)))
        rest, part = list(plan.slices(rank, first_step)), list(plan.slices(rank, first_step, stop_step))
        assert rows_of(rest) == whole[first_step * micro_batch :]
        assert rows_of(part) == whole[first_step * micro_batch : stop_step * micro_batch]
        assert all(piece.rows > 0 for piece in [*rest, *part])


def test_row_groups_and_rows_are_shuffled_anew_each_epoch():
    manifest = manifest_of([[8] * 6])
    plans = [epoch_plan(manifest, epoch=e, seed=1, world_size=1, micro_batch=4) for e in (0, 1, 0)]
    orders = [[piece.group.index for piece in plan.slices(0)] for plan in plans]
    assert orders[0] == orders[2] != orders[1]
    (group,) = row_groups(manifest.files, [3])
    row_orders = [plan.row_order(group).tolist() for plan in plans]
    assert row_orders[0] == row_orders[2] != row_orders[1]
    assert sorted(row_orders[0]) == list(range(8))


def test_a_known_plan():
    """A training that goes on from a checkpoint after an update must meet the same plan."""
    plan = epoch_plan(manifest_of([[4, 4], [], [0, 3]]), epoch=0, seed=3, world_size=2, micro_batch=2)
    found = [[(s.group.number, s.group.path, s.start, s.stop) for s in plan.slices(rank)] for rank in (0, 1)]
    assert found == [[(0, "/f0", 0, 4), (3, "/f2", 0, 1)], [(3, "/f2", 1, 3), (1, "/f0", 0, 4)]]
    row_orders = [plan.row_order(group).tolist() for group in row_groups(plan.files, [0, 3])]
    assert row_orders == [[2, 1, 0, 3], [2, 0, 1]]
    assert plan.steps == 3


def test_fewer_rows_than_ranks():
    with pytest.raises(InputError, match="got: 1 rows"):
        epoch_plan(manifest_of([[1]]), epoch=0, seed=0, world_size=2, micro_batch=2)
