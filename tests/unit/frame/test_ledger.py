"""Whose commits others use."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparkml.frame.ledger import STARTED, WHOLE_COMMITS, Ledger, Run, utc_now
from sparkml.frame.tables import Tables
from tests.runs import without_spark


@pytest.mark.parametrize(("metrics", "is_hidden"), [({}, True), ({WHOLE_COMMITS: 1.0}, False)])
def test_what_a_dead_run_has_committed_counts_where_each_commit_is_whole(
    tmp_path: Path, metrics: dict[str, float], is_hidden: bool
) -> None:
    ledger = Ledger(Tables(str(tmp_path / "lake"), without_spark))
    ledger.put(Run("run-1", "step", "stage", "f", STARTED, utc_now(), metrics=metrics))
    assert ledger.unfinished() == ({"run-1"} if is_hidden else set())
    again = Ledger(Tables(str(tmp_path / "lake"), without_spark))
    assert again.abandon_started() == ["run-1"]
    assert again.unfinished() == ({"run-1"} if is_hidden else set())
