"""A pytest plugin: petastorm as sparkml loads it, and a line of JSON about every test, written as it goes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from sparkml.compat.petastorm import load_petastorm

load_petastorm()
NOTES = Path(os.environ["OWN_TESTS_NOTES"])


def note(nodeid: str, outcome: str, message: str) -> None:
    """Add a line: the file stays readable where a test has to be killed."""
    with NOTES.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps([nodeid, outcome, message]) + "\n")


def pytest_runtest_logstart(nodeid: str, location: Any) -> None:
    """What stays so did not end."""
    note(nodeid, "hangs", "")


def pytest_runtest_logreport(report: Any) -> None:
    """The call of a test; its set-up and tear-down only where they did not pass."""
    if report.when == "call" or not report.passed:
        outcome = "error" if report.failed and report.when != "call" else report.outcome
        note(report.nodeid, outcome, report.longreprtext)


def pytest_collectreport(report: Any) -> None:
    """A file that cannot be imported: none of its tests is known."""
    if report.failed:
        note(report.nodeid, "error", report.longreprtext)
