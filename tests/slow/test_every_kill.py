"""Every effect on storage that a pipeline has: stopped behind each, it comes out equal."""

from __future__ import annotations

import random
import re
from pathlib import Path

from tests.kills import die_behind_effects, is_tokenizer
from tests.processes import killed_at_random, orphans
from tests.way import Way, assert_equal_lakes


def test_behind_every_effect_and_between_the_files_and_the_commit_of_every_table(
    way: Way, tmp_path: Path
) -> None:
    deaths = die_behind_effects(way, tmp_path / "lake", 1.0, random.Random(0))
    assert_equal_lakes(tmp_path / "lake", way.lake)
    kinds = {re.sub(r"[/\d].*", "", death) for death in deaths}
    by_spark = ("bronze", "clean", "kept", "duplicates", "samples", "scores", "rejects")
    tables = [f"table committed: {name}" for name in by_spark]
    for table in (*tables, "rows committed: manifests", "rows committed: models"):
        assert {table, f"{table} (taken back)"} <= kinds
    once = ("rows committed: _runs", "artifact written: ", "artifact published: ", "report written")
    assert set(once) <= kinds
    assert any(is_tokenizer(death) for death in deaths)


def test_a_driver_killed_at_five_random_moments(way: Way, tmp_path: Path) -> None:
    moments = killed_at_random(way, tmp_path / "lake", kills=5)
    assert_equal_lakes(tmp_path / "lake", way.lake)
    assert not orphans(str(tmp_path / "lake")), moments
