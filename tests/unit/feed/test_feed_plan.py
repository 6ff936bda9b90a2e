"""The plan: every row once, the same steps on any number of ranks, resumable without reading what was consumed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkml.errors import InputError
from sparkml.feed.manifest import Manifest, ShardFile, ShardFiles
from sparkml.feed.plan import EpochPlan, Slice, epoch_plan, row_groups

# Files of row groups; some row groups, and some files, are empty.
FILES = st.lists(st.lists(st.integers(0, 9), max_size=5), min_size=1, max_size=5)
STREAMS, BATCH = st.integers(1, 9), st.integers(1, 12)


def manifest_of(files: list[list[int]]) -> Manifest:
    shards = ShardFiles.of(ShardFile(f"/f{i}", tuple(groups), 1, "") for i, groups in enumerate(files))
    return Manifest("m", "samples", 0, "train", shards, sum(map(sum, files)), "", 4, 0)


def plan_of(files: list[list[int]], *, epoch: int = 0, seed: int = 1, batch: int, streams: int) -> EpochPlan:
    return epoch_plan(manifest_of(files), epoch=epoch, seed=seed, batch_size=batch, n_streams=streams)


def rows_of(slices: list[Slice]) -> list[tuple[int, int]]:
    """Every row that slices read: row group, place in the group's order."""
    return [(piece.group.number, place) for piece in slices for place in range(piece.start, piece.stop)]


def by_stream(slices: list[Slice]) -> dict[int, list[tuple[int, int]]]:
    found: dict[int, list[tuple[int, int]]] = {}
    for piece in slices:
        found.setdefault(piece.stream, []).extend(rows_of([piece]))
    return found


def slow_streams(
    files: list[list[int]], epoch: int, seed: int, n_streams: int
) -> list[list[tuple[int, int]]]:
    """The oracle: lay all row groups end to end in their shuffled order, and cut the line row by row."""
    counts = [rows for groups in files for rows in groups]
    filled = [number for number, rows in enumerate(counts) if rows]
    order = np.random.default_rng([1, seed, epoch]).permutation(len(filled))
    line = [(filled[place], row) for place in order for row in range(counts[filled[place]])]
    lengths = [len(range(stream, len(line), n_streams)) for stream in range(n_streams)]
    ends = np.cumsum(lengths)
    return [line[end - length : end] for end, length in zip(ends, lengths, strict=True)]


@settings(max_examples=300, deadline=None)
@given(FILES, st.integers(0, 3), st.integers(0, 5), STREAMS, BATCH)
def test_the_streams_are_those_of_a_slow_scan(files, epoch, seed, n_streams, batch):
    if not sum(map(sum, files)):
        return
    plan = plan_of(files, epoch=epoch, seed=seed, batch=batch, streams=n_streams)
    expected = slow_streams(files, epoch, seed, n_streams)
    found = by_stream(list(plan.slices(range(n_streams))))
    assert [found.get(stream, []) for stream in range(n_streams)] == expected
    assert max(map(len, expected)) - min(map(len, expected)) <= 1
    assert (plan.steps - 1) * batch < plan.rows <= plan.steps * batch


@settings(max_examples=300, deadline=None)
@given(FILES, STREAMS, BATCH, st.data())
def test_steps_cut_the_streams_into_pieces_that_follow_one_another(files, n_streams, batch, data):
    if not sum(map(sum, files)):
        return
    plan = plan_of(files, batch=batch, streams=n_streams)
    first = data.draw(st.integers(0, plan.steps))
    stop = data.draw(st.integers(first, plan.steps + 2))
    whole = by_stream(list(plan.slices(range(n_streams))))
    part = list(plan.slices(range(n_streams), first, stop))
    assert all(piece.rows > 0 for piece in part)
    found = by_stream(part)
    for stream in range(n_streams):
        begin, end = (plan.rows_before(stream, plan.position(step)) for step in (first, stop))
        assert found.get(stream, []) == whole.get(stream, [])[begin:end]


@settings(max_examples=200, deadline=None)
@given(FILES, STREAMS, BATCH)
def test_slices_come_when_their_first_row_is_needed(files, n_streams, batch):
    if not sum(map(sum, files)):
        return
    plan = plan_of(files, batch=batch, streams=n_streams)
    taken = dict.fromkeys(range(n_streams), 0)
    positions = []
    for piece in plan.slices(range(n_streams)):
        positions.append(taken[piece.stream] * n_streams + piece.stream)
        taken[piece.stream] += piece.rows
    assert positions == sorted(positions)


def test_row_groups_and_rows_are_shuffled_anew_each_epoch():
    plans = [plan_of([[8] * 6], epoch=epoch, batch=4, streams=1) for epoch in (0, 1, 0)]
    orders = [[piece.group.index for piece in plan.slices([0])] for plan in plans]
    assert orders[0] == orders[2] != orders[1]
    (group,) = row_groups(plans[0].files, [3])
    row_orders = [plan.row_order(group).tolist() for plan in plans]
    assert row_orders[0] == row_orders[2] != row_orders[1]
    assert sorted(row_orders[0]) == list(range(8))


def test_a_known_plan():
    """A training that goes on from a checkpoint after an update must meet the same plan."""
    plan = plan_of([[4, 4], [], [0, 3]], seed=3, batch=4, streams=2)
    found = [(s.stream, s.group.number, s.group.path, s.start, s.stop) for s in plan.slices([0, 1])]
    assert found == [(0, 0, "/f0", 0, 4), (1, 3, "/f2", 2, 3), (1, 1, "/f0", 0, 4), (0, 3, "/f2", 0, 2)]
    row_orders = [plan.row_order(group).tolist() for group in row_groups(plan.files, [0, 3])]
    assert row_orders == [[2, 1, 0, 3], [2, 0, 1]]
    assert plan.steps == 3


def test_no_rows():
    with pytest.raises(InputError, match="split `train` has no rows"):
        plan_of([[0], []], batch=2, streams=2)
