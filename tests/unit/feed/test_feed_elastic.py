"""A training that is stopped, killed and goes on with other numbers of ranks sees what an undisturbed one sees."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pytest

from sparkml.feed.batches import LENGTH_COLUMN, MicroBatch, micro_batches
from sparkml.feed.groups import Rows
from sparkml.feed.manifest import FILE_TYPE, Manifest, ShardFiles
from sparkml.feed.plan import EpochPlan, RowGroup, epoch_plan

TRIALS = 1000
Step = list[int]


class KilledError(Exception):
    """A reader was killed."""


class NumberReader:
    """Gives each row its number in the manifest, and a length; dies after so many row groups."""

    def __init__(self, manifest: Manifest, dies_after: int | None = None) -> None:
        self._first = np.cumsum(manifest.files.group_rows) - manifest.files.group_rows
        self._dies_after = dies_after
        self.groups = 0

    def read(self, groups: Iterable[RowGroup]) -> Iterator[Rows]:
        for group in groups:
            if self.groups == self._dies_after:
                raise KilledError
            self.groups += 1
            numbers = self._first[group.number] + np.arange(group.rows)
            yield {"sample_id": numbers, LENGTH_COLUMN: numbers * 7919 % 101}


def manifest_of(rng: np.random.Generator, n_groups: int, most_rows: int) -> Manifest:
    rows = rng.integers(0, most_rows + 1, n_groups)
    rows[rng.integers(n_groups)] = most_rows
    edges = np.unique(np.r_[0, rng.integers(0, n_groups, min(n_groups // 8, 1000)), n_groups]).astype(
        np.int32
    )
    lists = pa.ListArray.from_arrays(pa.array(edges), pa.array(rows))
    n_files = len(edges) - 1
    names = pa.array([f"/part-{number}" for number in range(n_files)])
    columns = [names, lists, pa.array(np.ones(n_files, np.int64)), pa.array([""] * n_files)]
    files = ShardFiles(pa.StructArray.from_arrays(columns, fields=list(FILE_TYPE)))
    return Manifest("m", "samples", 0, "train", files, int(rows.sum()), "", 0, 0)


def undisturbed(manifest: Manifest, plan: EpochPlan, pool_steps: int, first: int, stop: int) -> list[Step]:
    """The members of every step, in order, as one rank reads them."""
    feed = micro_batches(
        NumberReader(manifest), plan, first_step=first, stop_step=stop, pool_steps=pool_steps
    )
    return [batch.columns["sample_id"].tolist() for batch in feed]


def until_killed(feed: Iterator[MicroBatch]) -> Iterator[Step]:
    try:
        for batch in feed:
            yield batch.columns["sample_id"].tolist() if batch.rows else []
    except KilledError:
        return


def check_share(shares: list[Step], whole: Step) -> None:
    """The ranks' rows are those of the step, each once; each rank has its own in the order of the step."""
    assert sorted(row for share in shares for row in share) == sorted(whole)
    for share in shares:
        mine = set(share)
        assert [row for row in whole if row in mine] == share


def disturbed(
    manifest: Manifest, plan: EpochPlan, pool_steps: int, rng: np.random.Generator, first: int, stop: int
) -> tuple[list[list[Step]], int]:
    """The ranks' shares of every step of a training that is stopped, killed and goes on, each time on other ranks.

    And how often it was started.
    """
    done: list[list[Step]] = []
    starts = 0
    while first + len(done) < stop:
        world_size = int(rng.integers(1, plan.n_streams + 1))
        begin, until = first + len(done), int(rng.integers(first + len(done) + 1, stop + 1))
        # One rank in three is killed on its way; sooner or later all must live, or nothing would get done.
        deaths = [
            int(rng.integers(1, 9)) if rng.random() < 0.33 and starts < 9 else None for _ in range(world_size)
        ]
        feeds = [
            until_killed(
                micro_batches(
                    NumberReader(manifest, deaths[rank]),
                    plan,
                    rank=rank,
                    world_size=world_size,
                    first_step=begin,
                    stop_step=until,
                    pool_steps=pool_steps,
                )
            )
            for rank in range(world_size)
        ]
        done += zip(*feeds, strict=False)  # a step is done when every rank has done its part
        starts += 1
    return done, starts


def trial(seed: int, n_groups: int, most_rows: int, most_steps: int) -> int:
    """One training of an epoch, or of some steps in it; returns how often it was started."""
    rng = np.random.default_rng(seed)
    manifest = manifest_of(rng, n_groups, most_rows)
    plan = epoch_plan(
        manifest,
        epoch=int(rng.integers(3)),
        seed=seed,
        batch_size=int(rng.integers(1, 40)),
        n_streams=int(rng.integers(1, 17)),
    )
    pool_steps = int(rng.choice([1, 1, 2, 5, 32]))
    first = int(rng.integers(max(plan.steps - most_steps, 0) + 1))
    stop = min(first + most_steps, plan.steps)
    whole = undisturbed(manifest, plan, pool_steps, first, stop)
    assert len(whole) == stop - first
    if (first, stop) == (0, plan.steps):
        assert sorted(row for step in whole for row in step) == list(range(manifest.rows))
    done, starts = disturbed(manifest, plan, pool_steps, rng, first, stop)
    for shares, members in zip(done, whole, strict=True):
        check_share(shares, members)
    return starts


def test_stopped_killed_and_gone_on_with_other_ranks_nothing_is_repeated_or_lost() -> None:
    starts = [
        trial(seed, n_groups=int(2 ** np.random.default_rng(seed).uniform(0, 7)), most_rows=9, most_steps=60)
        for seed in range(TRIALS)
    ]
    assert sum(starts) > 3 * TRIALS  # most were stopped more than once


@pytest.mark.parametrize("n_groups", [10_000, 1_000_000])
def test_the_same_in_the_midst_of_a_large_manifest(n_groups) -> None:
    for seed in range(3):
        trial(seed, n_groups=n_groups, most_rows=300, most_steps=20)


@pytest.mark.parametrize("world_size", [1, 2, 4, 8])
def test_where_ranks_divide_the_streams_every_rank_has_its_share_to_one_row(world_size) -> None:
    manifest = manifest_of(np.random.default_rng(0), 20, 30)
    plan = epoch_plan(manifest, epoch=0, seed=1, batch_size=13, n_streams=8)
    for step in range(plan.steps):
        shares = []
        for rank in range(world_size):
            feed = micro_batches(
                NumberReader(manifest), plan, rank=rank, world_size=world_size, first_step=step
            )
            shares.append(next(feed).rows)
        assert max(shares) - min(shares) <= 1
        assert sum(shares) == plan.position(step + 1) - plan.position(step)
