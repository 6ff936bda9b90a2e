"""Stops a pipeline behind its effects on storage, again and again, until it has come to its end."""

from __future__ import annotations

import json
import random
from pathlib import Path

from sparkml.frame.config import load_config
from sparkml.frame.effects import watched_effects
from tests import identities
from tests.command_line import call
from tests.way import Way, overrides

STEPS = [step.name for step in load_config("local").pipeline.steps]
_NEVER = 1_000_000
_FIRST = 30  # effects that a whole way has at least


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
    """A commit of a table other than the ledger."""
    return name.startswith(("table committed", "rows committed")) and not name.endswith("_runs")


def is_tokenizer(name: str) -> bool:
    """A tokenizer, which is written once and then found."""
    return name.startswith("artifact published") and "/tokenizers/" in name


def succeeded(lake: Path) -> int:
    """How many runs have succeeded."""
    if not (lake / "_runs" / "_delta_log").exists():
        return 0
    return identities.column(lake, "_runs", "status").count("succeeded")


def die_behind_effects(way: Way, lake: Path, share: float, chance: random.Random) -> list[str]:
    """Repeat one command, stopped behind each effect (of a `share` of them), until all is done; returns the deaths."""
    words = ["run-all", *overrides(lake, way.source)]
    deaths: list[str] = []
    n, uncommit = 1, False
    while True:
        done = succeeded(lake)
        # The first death comes early, whatever is drawn: a run without one would show nothing.
        most = _NEVER if deaths else _FIRST
        while chance.random() >= share and n < most:
            n, uncommit = n + 1, False
        killer = Killer(lake, n if done < len(STEPS) else _NEVER, uncommit=uncommit)
        try:
            with watched_effects(killer):
                code, shown = call(*words)
            assert code == 0, shown[-3000:]
            return deaths
        except Killed:
            deaths.append(f"{killer.died_at}{' (taken back)' if uncommit else ''}")
        if succeeded(lake) > done:
            n, uncommit = 2, False  # the first effect of a command is to mark the run that died before
        elif is_commit(killer.died_at) and not uncommit:
            uncommit = True
        elif is_tokenizer(killer.died_at):  # it is there now: what comes next takes the place of writing it
            n, uncommit = n - 1, False
        else:
            n, uncommit = n + 1, False
        assert len(deaths) < 200, deaths[-20:]
