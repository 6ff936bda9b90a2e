"""The commits of a Delta table, Spark's and delta-rs's alike: which run wrote which version, and what it did."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

# They arrange a table anew, and its rows stay: whoever runs them every night must not make every step run again.
_KEEPS_ROWS = {
    *("OPTIMIZE", "REORG", "VACUUM START", "VACUUM END"),
    *("SET TBLPROPERTIES", "UNSET TBLPROPERTIES", "UPGRADE PROTOCOL", "CLUSTER BY"),
}
# Rows that stay, written anew with those beside them: of an overwrite or delete, of a merge.
_COPIED = ("numCopiedRows", "numTargetRowsCopied")


@dataclass(frozen=True)
class Commit:
    """One version: the run that wrote it (None: not one of ours), its mark, and what it wrote."""

    version: int
    run_id: str | None
    mark: str
    rows: int
    bytes: int
    replaces_all: bool
    operation: str = ""
    at: datetime | None = None

    @property
    def keeps_rows(self) -> bool:
        """Another program has arranged the table anew, and every row is as it was."""
        return self.run_id is None and self.operation in _KEEPS_ROWS


def commit_of(entry: Mapping[str, Any]) -> Commit:
    """A commit from its `commitInfo`, Spark's or delta-rs's; the mark is JSON with our run id."""
    mark = str(entry.get("userMetadata") or "")
    try:
        info = json.loads(mark) if mark else {}
    except ValueError:
        info = {}
    metrics = entry.get("operationMetrics") or {}
    rows = int(metrics.get("numOutputRows", metrics.get("num_added_rows", 0)) or 0)
    parameters = entry.get("operationParameters") or {}
    overwrite = str(parameters.get("mode", "")).strip('"').lower() == "overwrite"
    replaced = "REPLACE TABLE" in str(entry.get("operation"))  # how an overwrite is called in a catalog
    return Commit(
        version=int(entry["version"]),
        run_id=info.get("run_id") if isinstance(info, dict) else None,
        mark=mark,
        rows=rows - sum(int(metrics.get(name, 0) or 0) for name in _COPIED),
        bytes=int(metrics.get("numOutputBytes", 0) or 0),
        replaces_all=replaced or (overwrite and parameters.get("predicate") in (None, "", "[]")),
        operation=str(entry.get("operation") or ""),
        at=_time_of(entry.get("timestamp")),
    )


def _time_of(said: Any) -> datetime | None:
    """When a commit was made: delta-rs gives milliseconds since 1970, Spark a time in the zone of the process."""
    if isinstance(said, datetime):
        return said.astimezone(timezone.utc)
    return None if said is None else datetime.fromtimestamp(said / 1000, timezone.utc)
