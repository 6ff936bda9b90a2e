"""Horovod's own `test_torch.py` on ranks that `sparkml.distributed.run` starts.

    pip download --no-binary :all: --no-deps --no-build-isolation --dest /tmp horovod==0.19.5
    tar xzf /tmp/horovod-0.19.5.tar.gz -C /tmp
    python -m tests.own_tests.horovod_tests /tmp/horovod-0.19.5/test/test_torch.py

0.19.5 is the last version looked at whose source package carries its tests; 0.20.3, 0.22.1 and 0.28.1 do not. A test
that does not pass may leave tensors on their way, which would fail the next one: the ranks then end, and fresh ones
go on with the rest. Prints one line a test and the counts.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

COMMON = Path(__file__).with_name("common_of_horovod")
HANGS = "hangs"


class InStep:
    """A pytest plugin of one rank: notes every test in a folder that the ranks share, and ends with the others."""

    def __init__(self, folder: str, done: list[str], rank: int, ranks: int, seconds: float) -> None:
        self._folder, self._done = Path(folder), set(done)
        self._rank, self._ranks, self._seconds = rank, ranks, seconds
        self._session: Any = None
        self._alarm = threading.Timer(seconds, os._exit, [1])
        self._outcome: tuple[str, str] = (HANGS, "")

    def pytest_sessionstart(self, session: Any) -> None:
        """Keep what can be told to stop."""
        self._session = session

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """By their whole names; `--deselect` takes all that begin so."""
        items[:] = [item for item in items if item.nodeid not in self._done]

    def pytest_runtest_logstart(self, nodeid: str, location: Any) -> None:
        """A rank that hangs in a test ends its process, and the launcher the others."""
        self._outcome = (HANGS, f"no end within {self._seconds:g} s")
        self._write(nodeid)
        self._alarm = threading.Timer(self._seconds, os._exit, [1])
        self._alarm.start()

    def pytest_runtest_logreport(self, report: Any) -> None:
        """The call of a test; its set-up and tear-down only where they did not pass."""
        if report.when == "call" or not report.passed:
            message = str(report.longrepr[2]) if report.skipped else report.longreprtext
            self._outcome = (report.outcome, message)

    def pytest_runtest_logfinish(self, nodeid: str, location: Any) -> None:
        """Stop behind a test that failed on any rank."""
        self._alarm.cancel()
        self._write(nodeid)
        last = time.monotonic() + self._seconds
        while HANGS in (outcomes := self._of_all(nodeid)) and time.monotonic() < last:
            time.sleep(0.02)
        if not outcomes <= {"passed", "skipped"}:
            self._session.shouldstop = "a test failed"

    def _of_all(self, nodeid: str) -> set[str]:
        found = read_outcomes(self._folder, self._ranks).get(nodeid, {})
        return {found.get(rank, (HANGS, ""))[0] for rank in range(self._ranks)}

    def _write(self, nodeid: str) -> None:
        file = self._folder / f"{nodeid.rpartition('::')[2]}.{self._rank}"
        part = self._folder / f".part-{self._rank}"
        part.write_text(json.dumps([nodeid, *self._outcome]), encoding="utf-8")
        part.replace(file)


def read_outcomes(folder: Path, ranks: int) -> dict[str, dict[int, tuple[str, str]]]:
    """Of every test that was begun, by rank: `passed`, `failed`, `skipped` or `hangs`, and why."""
    found: dict[str, dict[int, tuple[str, str]]] = {}
    for rank in range(ranks):
        for file in folder.glob(f"*.{rank}"):
            nodeid, outcome, message = json.loads(file.read_text(encoding="utf-8"))
            found.setdefault(nodeid, {})[rank] = (outcome, message)
    return found


def run_rest(
    file: str, chosen: str, folders: list[str], done: list[str], folder: str, seconds: float
) -> None:
    """In one rank: all tests but those that are done; what became of them goes into the folder."""
    import pytest

    rank, ranks = int(os.environ["HOROVOD_RANK"]), int(os.environ["HOROVOD_SIZE"])
    sys.path[:0] = folders
    # Without capture: what it caught would be lost with a rank that is ended.
    options = ["-s", "-q", "-p", "no:cacheprovider", "--rootdir", str(Path(file).parent), "-c", os.devnull]
    options += ["-k", chosen]
    pytest.main([*options, file], plugins=[InStep(folder, done, rank, ranks, seconds)])


def run_all(
    file: str, chosen: str, ranks: int, seconds: float, folder: Path
) -> dict[str, dict[int, tuple[str, str]]]:
    """Ranks after ranks until every test has an outcome."""
    from sparkml import distributed
    from sparkml.errors import TrainingError
    from sparkml.frame.config import load_config
    from sparkml.frame.session import build_session

    spark = build_session(load_config("local", [f"spark.master=local[{ranks}]"]).spark, name="horovod-tests")
    before = -1
    while len(found := read_outcomes(folder, ranks)) > before:
        before = len(found)
        try:
            arguments = (file, chosen, [str(COMMON)], list(found), str(folder), seconds)
            distributed.run(run_rest, *arguments, ranks=ranks, spark=spark)
        except TrainingError as error:
            print(f"after {before} tests: {str(error).splitlines()[0]}", file=sys.stderr, flush=True)
    spark.stop()
    return found


def main() -> None:
    """Run, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", help="Horovod's test_torch.py")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60, help="for one test")
    parser.add_argument("-k", dest="chosen", default="", help="which tests, as pytest takes it")
    parser.add_argument("--report", help="write everything as JSON there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = run_all(options.file, options.chosen, options.ranks, options.seconds, Path(name))
    if options.report:
        Path(options.report).write_text(json.dumps(found, indent=1), encoding="utf-8")
    for nodeid, ranks in sorted(found.items()):
        reason = next((said.strip().splitlines()[-1] for _, said in ranks.values() if said), "")
        outcomes = " / ".join(ranks[rank][0] for rank in sorted(ranks))
        print(f"{outcomes:<20} {nodeid.rpartition('::')[2]}  {reason}")
    worst = [
        min(outcome for outcome, _ in ranks.values()) for ranks in found.values()
    ]  # failed < hangs < passed
    print(", ".join(f"{count} {outcome}" for outcome, count in sorted(Counter(worst).items())))


if __name__ == "__main__":
    main()
