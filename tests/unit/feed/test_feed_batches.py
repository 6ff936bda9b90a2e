"""Steps of similar length: every row once over all ranks, and the same steps from wherever one begins."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparkml.feed.batches import MicroBatch, micro_batches
from sparkml.feed.manifest import Manifest, ShardFile, ShardFiles
from sparkml.feed.plan import epoch_plan
from sparkml.feed.reader import open_reader

COLUMNS = {"sample_id": 0, "n_tokens": 0}


@pytest.fixture(params=[33, 64, 65, 70])
def manifest(request, tmp_path) -> Manifest:
    rows = request.param
    path = tmp_path / "samples.parquet"
    lengths = np.random.default_rng(1).integers(3, 100, rows)
    table = pa.table({"sample_id": np.arange(rows), "n_tokens": lengths.astype(np.int32)})
    pq.write_table(table, path, row_group_size=8)
    groups = tuple(min(8, rows - start) for start in range(0, rows, 8))
    files = ShardFiles.of([ShardFile(str(path), groups, path.stat().st_size, "")])
    return Manifest("m", "samples", 0, "train", files, rows, "t", 0, 17)


def steps(manifest: Manifest, rank: int, pool_steps: int, **part: int) -> list[MicroBatch]:
    plan = epoch_plan(manifest, epoch=0, seed=3, batch_size=16, n_streams=2)
    reader = open_reader("arrow", COLUMNS)
    found = micro_batches(reader, plan, rank=rank, world_size=2, pool_steps=pool_steps, **part)
    return list(found)


def ids(batches: list[MicroBatch]) -> list[tuple[int, list[int]]]:
    return [(one.step, one.columns["sample_id"].tolist() if one.rows else []) for one in batches]


@pytest.mark.parametrize("pool_steps", [1, 2, 3, 100])
def test_every_row_once_over_the_ranks_in_as_many_steps(manifest, pool_steps) -> None:
    ranks = [ids(steps(manifest, rank, pool_steps)) for rank in (0, 1)]
    assert sorted(row for batches in ranks for _, rows in batches for row in rows) == list(
        range(manifest.rows)
    )
    expected = {33: 3, 64: 4, 65: 5, 70: 5}[manifest.rows]
    assert [[step for step, _ in batches] for batches in ranks] == [list(range(expected))] * 2
    assert max(len(rows) for batches in ranks for _, rows in batches) == 8


@pytest.mark.parametrize("pool_steps", [1, 2, 3, 100])
def test_from_any_step_on_the_steps_are_the_same(manifest, pool_steps) -> None:
    for rank in (0, 1):
        whole = ids(steps(manifest, rank, pool_steps))
        for first in range(len(whole)):
            assert ids(steps(manifest, rank, pool_steps, first_step=first)) == whole[first:]
            some = steps(manifest, rank, pool_steps, first_step=first, stop_step=first + 2)
            assert ids(some) == whole[first : first + 2]


def test_steps_of_a_pool_hold_rows_of_similar_length(manifest) -> None:
    def spread(pool_steps: int) -> float:
        lengths = [one.columns["n_tokens"] for one in steps(manifest, 0, pool_steps) if one.rows > 1]
        return float(np.mean([values.max() - values.min() for values in lengths]))

    assert spread(100) < 0.6 * spread(1)
