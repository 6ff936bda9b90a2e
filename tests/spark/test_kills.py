"""A process may die at any instant: the same command, repeated, gives the tables of an undisturbed run."""

from __future__ import annotations

import logging
import random
from pathlib import Path

from tests import identities
from tests.kills import die_behind_effects
from tests.way import Way, assert_equal_lakes


def test_a_process_that_dies_behind_its_effects_leaves_the_same_tables(way: Way, tmp_path: Path) -> None:
    """Behind one effect in twenty, others in every run; `tests/slow` has them all, and SIGKILLs of the driver."""
    seed = random.SystemRandom().randrange(10**6)
    logging.getLogger(__name__).warning("seed %d", seed)  # shown where the test fails
    deaths = die_behind_effects(way, tmp_path / "lake", 0.05, random.Random(seed))
    assert deaths, seed
    assert_equal_lakes(tmp_path / "lake", way.lake)
    assert "started" not in identities.column(tmp_path / "lake", "_runs", "status"), seed
