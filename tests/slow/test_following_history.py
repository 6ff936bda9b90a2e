"""Sources with a long history, and ids that come and go: the tables are as if all had been read at once."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.spark.test_following import LINES, Lake, dies_behind, lake, metrics

__all__ = ["lake"]


def test_ids_of_the_source_that_come_twice_are_settled_as_in_one_reading(
    spark: SparkSession, tmp_path: Path
) -> None:
    lake = Lake(spark, tmp_path, "ingest.source.id_field=id")
    lake.put("b.jsonl", LINES[0] % ("x", 1), LINES[0] % ("y", 2))
    lake.run()
    lake.put("c.jsonl", LINES[0] % ("z", 3))
    assert metrics(lake.run()["ingest"])[0] == 1
    lake.put("a.jsonl", LINES[0] % ("x", 4))
    lake.run()
    lake.assert_as_read_at_once()
    (lake.source / "a.jsonl").unlink()
    lake.run()
    lake.assert_as_read_at_once()
    assert {row["doc_id"] for row in lake.table("bronze").collect()} == {"x", "y", "z"}


def test_any_history_of_a_folder_comes_out_as_one_reading(lake: Lake) -> None:
    chance = random.Random(11)
    for turn in range(5):
        for _ in range(chance.randint(1, 4)):
            name = f"{chance.choice('abcdefg')}.jsonl"
            if chance.random() < 0.3:
                (lake.source / name).unlink(missing_ok=True)
            else:
                lines = [
                    chance.choice(LINES) % (chance.randint(0, 9), turn) for _ in range(chance.randint(0, 4))
                ]
                lake.put(name, *lines)
        lake.put("stays.jsonl", json.dumps({"text": "What is here will stay here for all of them."}))
        lake.run()
        lake.assert_as_read_at_once()


@pytest.mark.parametrize("where", ["update_rejects", "put_rows"])
def test_a_run_that_dies_later(lake: Lake, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dies_behind(lake, where, monkeypatch)
