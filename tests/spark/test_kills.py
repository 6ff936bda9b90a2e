"""A process may die at any instant: the same command, repeated, gives the tables of an undisturbed run."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sparkml.frame.config import load_config
from sparkml.frame.effects import watched_effects
from tests import identities
from tests.command_line import call
from tests.way import ENVIRONMENT, Way, assert_equal_lakes, command, overrides

STEPS = [step.name for step in load_config("local").pipeline.steps]


class Killed(BaseException):
    """The process is gone. Nothing that it would do after this reaches the storage either."""


class Killer:
    """Stops the process behind its `n`-th effect on storage, and at every effect after that.

    `uncommit` takes the commit of a table away again: the process died after the files and before the commit.
    What stands before an effect ("about to") is the state behind the one before it, and is not counted.
    """

    def __init__(self, lake: Path, n: int, *, uncommit: bool) -> None:
        self._lake = lake
        self._left = n
        self._uncommit = uncommit
        self._newest: list[Path] = []
        self.died_at = ""

    def __call__(self, name: str) -> None:
        if self.died_at:
            raise Killed(name)
        if "about to" in name:
            self._newest = self._commits(name.rpartition(" ")[2])
            return
        self._left -= 1
        if self._left > 0:
            return
        self.died_at = name
        if self._uncommit and is_commit(name):
            self._take_back(name.rpartition(" ")[2])
        raise Killed(name)

    def _commits(self, table: str) -> list[Path]:
        return sorted((self._lake / table / "_delta_log").glob("*.json"))

    def _take_back(self, table: str) -> None:
        commits = self._commits(table)
        if commits == self._newest:  # there was nothing to write: the newest commit is another run's
            return
        log, newest = commits[-1].parent, commits[-1]
        for file in log.glob(f"*{newest.stem}*"):  # a checkpoint that came after the commit, too
            file.unlink()
        hint = log / "_last_checkpoint"
        if hint.exists() and json.loads(hint.read_text())["version"] == int(newest.stem):
            hint.unlink()


def is_commit(name: str) -> bool:
    return name.startswith(("table committed", "rows committed")) and not name.endswith("_runs")


def succeeded(lake: Path) -> int:
    if not (lake / "_runs" / "_delta_log").exists():
        return 0
    return identities.column(lake, "_runs", "status").count("succeeded")


def test_a_process_that_dies_behind_any_effect_leaves_the_same_tables(way: Way, tmp_path: Path) -> None:
    """Behind every effect of every step, and between the files and the commit of every table."""
    lake = tmp_path / "lake"
    words = ["run-all", *overrides(lake, way.source)]
    deaths: list[str] = []
    n, uncommit = 1, False
    while (before := succeeded(lake)) < len(STEPS):
        killer = Killer(lake, n, uncommit=uncommit)
        with watched_effects(killer), pytest.raises(Killed):
            call(*words)
        deaths.append(f"{killer.died_at}{' (taken back)' if uncommit else ''}")
        if succeeded(lake) > before:
            n, uncommit = 2, False  # the first effect of a command is to mark the run that died before
        elif is_commit(killer.died_at) and not uncommit:
            uncommit = True
        else:
            n, uncommit = n + 1, False
        assert len(deaths) < 200, deaths[-20:]
    code, shown = call(*words)
    assert code == 0, shown[-3000:]
    assert_equal_lakes(lake, way.lake)
    kinds = {re.sub(r"[/\d].*", "", death) for death in deaths}
    by_spark = ("bronze", "clean", "kept", "duplicates", "samples", "scores", "rejects")
    for table in (
        *(f"table committed: {name}" for name in by_spark),
        "rows committed: manifests",
        "rows committed: models",
    ):
        assert {table, f"{table} (taken back)"} <= kinds
    assert {"rows committed: _runs", "tokenizer written: ", "artifact published: ", "report written"} <= kinds
    assert "started" not in identities.column(lake, "_runs", "status")


def test_a_driver_killed_at_random_moments_leaves_the_same_tables(way: Way, tmp_path: Path) -> None:
    """Real SIGKILLs, JVM and ranks and all; the moments differ from run to run, and are told where it fails."""
    lake, chance = tmp_path / "lake", random.Random()
    moments = [chance.uniform(8, 40) for _ in range(2)]
    for seconds in moments:
        driver = subprocess.Popen(
            command(lake, way.source), env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            driver.wait(seconds)
        except subprocess.TimeoutExpired:
            os.kill(driver.pid, signal.SIGKILL)
            driver.wait()
    done = subprocess.run(
        command(lake, way.source), env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, (moments, done.stderr[-3000:])
    assert_equal_lakes(lake, way.lake)
    assert not orphans(str(lake)), moments


def orphans(mark: str) -> list[str]:
    """Processes other than this one whose command line names `mark`, after a moment to die."""
    for _ in range(20):
        left = [line for line in commands() if mark in line]
        if not left:
            break
        time.sleep(0.5)
    return left


def commands() -> Iterator[str]:
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                yield (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            except OSError:
                continue
