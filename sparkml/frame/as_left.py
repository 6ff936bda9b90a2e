"""Is a table as a step's last run left it? Other programs, and other steps, may have written to it since.

A table of the step's own must be exactly what the run left. Of a shared table only the step's slice counts: what other
steps do to theirs, and what other programs do elsewhere in it, changes nothing. Commits that only arrange rows anew
(OPTIMIZE, VACUUM) never count.
"""

from __future__ import annotations

from dataclasses import dataclass

from sparkml.frame.commits import Commit
from sparkml.frame.delta import TableLog
from sparkml.frame.ledger import Ledger, Run


@dataclass(frozen=True)
class Left:
    """A table that a step's last run has written."""

    log: TableLog
    ledger: Ledger
    last: Run
    version: int
    shared: bool

    def why_not(self) -> str:
        """What has happened to it since; empty where it is as the run left it."""
        later: list[Commit] = []
        for commit in self.log.commits():
            if commit.version == self.version:
                return self._changed_by(later) if self._is_own(commit) else "it was made anew"
            if not commit.keeps_rows:
                later.append(commit)
        return f"version {self.version} is not there any more"

    def _is_own(self, commit: Commit) -> bool:
        # In a shared table a run with nothing to write records the version that it found there.
        if commit.run_id == self.last.run_id or (self.shared and commit.run_id is None):
            return True
        before = self.ledger.run(commit.run_id) if commit.run_id else None
        return (
            before is not None and self.last.ended_at is not None and before.started_at < self.last.ended_at
        )

    def _changed_by(self, later: list[Commit]) -> str:
        """What of the commits since, newest first, has touched the table (a shared one: the step's slice)."""
        foreign: Commit | None = None
        for commit in later:
            writer = self.ledger.run(commit.run_id) if commit.run_id else None
            if writer is None:
                foreign = foreign or commit
            elif not self.shared or writer.step == self.last.step:
                wrote = f"run {writer.run_id} of step `{writer.step}` ({writer.status})"
                return f"{wrote} wrote version {commit.version}"
        if foreign is None or (self.shared and self._has_slice_still(later[0].version)):
            return ""
        return f"another program wrote version {foreign.version} ({foreign.operation or 'unknown'})"

    def _has_slice_still(self, newest: int) -> bool:
        return self.log.has_same_slice(self.version, newest, {"step": self.last.step})


def why_not_as_left(ref: str, log: TableLog, ledger: Ledger, last: Run, *, shared: bool) -> str:
    """Why a table is not as a step's last run left it, in words that name it; empty where it is."""
    version = last.outputs.get(ref)
    if version is None:
        return "" if shared else f"its last run left no table `{ref}`"
    why = Left(log, ledger, last, version, shared).why_not()
    return f"table `{ref}` is not as this step left it: {why}" if why else ""
