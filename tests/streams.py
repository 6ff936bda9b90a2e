"""What tests of streams share: files that come whole, and what a lake holds after them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests import identities


def put_file(folder: Path, name: str, lines: Iterable[str | Mapping[str, Any]]) -> Path:
    """A file of JSON lines that appears whole under its name; a `str` is written as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{name}.partial"
    text = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, folder / name)
    return folder / name


def answers(lake: str | Path, step: str = "stream") -> dict[str, dict[str, Any]]:
    """The published rows of a step by document, each once; rows of runs that do not count are left out."""
    runs = identities.table(lake, "_runs").to_pylist()
    hidden = {
        run["run_id"]
        for run in runs
        if run["status"] != "succeeded" and "whole_commits" not in dict(run["metrics"] or ())
    }
    rows = [row for row in identities.table(lake, "scores").to_pylist() if row["step"] == step]
    found = {row["doc_id"]: row for row in rows if row["run_id"] not in hidden}
    assert len(found) == len(rows), f"{len(rows)} rows, {len(found)} documents that count"
    return found
