"""The plan: every row once, equal steps, resumable without reading what was consumed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkml.errors import InputError
from sparkml.feed.manifest import Manifest, ShardFile
from sparkml.feed.plan import Slice, epoch_plan

FILES = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=5), min_size=1, max_size=5)


def manifest_of(files: list[list[int]]) -> Manifest:
    shards = tuple(ShardFile(f"/f{i}", tuple(groups), 1, "") for i, groups in enumerate(files))
    return Manifest("m", "samples", 0, "train", shards, sum(map(sum, files)), "", 4, 0)


def rows_of(slices: list[Slice]) -> list[tuple[str, int, int]]:
    """Every row that a list of slices reads: file, row group, place in the group's order."""
    return [(s.group.path, s.group.index, place) for s in slices for place in range(s.start, s.stop)]


@settings(max_examples=200, deadline=None)
@given(FILES, st.integers(0, 3), st.integers(0, 5), st.integers(1, 5), st.integers(1, 7))
def test_every_row_once_and_equal_steps(files, epoch, seed, world_size, micro_batch):
    manifest = manifest_of(files)
    if manifest.rows < world_size:
        return
    plan = epoch_plan(manifest, epoch=epoch, seed=seed, world_size=world_size, micro_batch=micro_batch)
    per_rank = [rows_of(list(plan.remaining(rank))) for rank in range(world_size)]
    every_row = [
        (f"/f{f}", g, r) for f, groups in enumerate(files) for g, n in enumerate(groups) for r in range(n)
    ]
    assert sorted(row for rows in per_rank for row in rows) == sorted(every_row)
    counts = [len(rows) for rows in per_rank]
    assert max(counts) - min(counts) <= 1
    assert (plan.steps - 1) * micro_batch < max(counts) <= plan.steps * micro_batch


@settings(max_examples=200, deadline=None)
@given(FILES, st.integers(1, 3), st.integers(1, 5), st.data())
def test_a_later_first_step_continues_where_the_earlier_ones_ended(files, world_size, micro_batch, data):
    manifest = manifest_of(files)
    if manifest.rows < world_size:
        return
    plan = epoch_plan(manifest, epoch=0, seed=1, world_size=world_size, micro_batch=micro_batch)
    first_step = data.draw(st.integers(0, plan.steps))
    for rank in range(world_size):
        whole = rows_of(list(plan.remaining(rank)))
        rest = list(plan.remaining(rank, first_step))
        assert rows_of(rest) == whole[first_step * micro_batch :]
        assert all(piece.rows > 0 for piece in rest)


def test_row_groups_and_rows_are_shuffled_anew_each_epoch():
    manifest = manifest_of([[8] * 6])
    plans = [epoch_plan(manifest, epoch=e, seed=1, world_size=1, micro_batch=4) for e in (0, 1, 0)]
    orders = [[piece.group.index for piece in plan.slices[0]] for plan in plans]
    assert orders[0] == orders[2] != orders[1]
    group = plans[0].slices[0][0].group
    row_orders = [plan.row_order(group).tolist() for plan in plans]
    assert row_orders[0] == row_orders[2] != row_orders[1]
    assert sorted(row_orders[0]) == list(range(8))


def test_a_known_plan():
    plan = epoch_plan(manifest_of([[4, 4], [3]]), epoch=0, seed=0, world_size=2, micro_batch=2)
    order = [
        piece.group.index if piece.group.path == "/f0" else 2 for piece in plan.slices[0] + plan.slices[1]
    ]
    assert sorted(set(order)) == [0, 1, 2]
    assert [sum(piece.rows for piece in slices) for slices in plan.slices] == [5, 6]
    assert plan.steps == 3


def test_fewer_rows_than_ranks():
    with pytest.raises(InputError, match="got: 1 rows"):
        epoch_plan(manifest_of([[1]]), epoch=0, seed=0, world_size=2, micro_batch=2)


def test_manifest_survives_json():
    manifest = manifest_of([[4, 4], [3]])
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_manifest_must_add_up():
    with pytest.raises(InputError, match="8 rows in row groups"):
        Manifest("m", "samples", 0, "train", (ShardFile("/f", (4, 4), 1, ""),), 9, "", 4, 0)


@pytest.mark.parametrize("text", ["{", "[]", '{"manifest_id": "m"}'])
def test_what_is_no_manifest_is_refused(text):
    with pytest.raises(InputError, match="manifest"):
        Manifest.from_json(text)
