"""Petastorm's own tests, which its wheel carries, with petastorm as `sparkml.compat.petastorm` loads it.

    uv pip install --target /tmp/testdeps --no-deps pytest-timeout pytest-logger opencv-python-headless
    uv pip install --target /tmp/testdeps "s3fs>=2025" "gcsfs>=2025"
    PYTHONPATH=/tmp/testdeps python -m tests.own_tests.petastorm_tests [--together] [FILE...]

Every file runs in a process of its own; with `--together` one process runs them all and makes their data sets only
once, which on a small machine saves most of the time. Prints counts by file, and by cause for what did not pass.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

Found = dict[str, tuple[str, str]]
OUTCOMES = ("passed", "failed", "error", "hangs", "skipped")
FINE = ("passed", "skipped")
# The first that a message has says why.
CAUSES = {
    "reads a folder, which the adapter refuses": r"reads planned row groups only",
    "needs TensorFlow": r"No module named 'tensorflow",
    "pyarrow's old file systems and partitions": r"pyarrow\.hdfs|PartitionSet|isinstance\([\w.()]+, LocalFileSystem\)",
    "a name that is gone from numpy": r"module 'numpy' has no attribute",
    "`pandas.util.testing`, gone from pandas": r"No module named 'pandas\.util\.testing'",
    "torch takes unsigned integers now": r"_sanitize_pytorch_types modified value",
    "pytest takes no None for a warning": r"exceptions must be derived from Warning, not <class 'NoneType'>",
    "its data are not in the wheel": r"No such file or directory: '\S+/tests/data/",
}
OTHER = "other"


def run_files(files: Sequence[Path], seconds: float, test_seconds: float, notes: Path) -> Found:
    """Outcome and message of every test of some files, in one process."""
    path = [str(Path(__file__).with_name("everywhere")), os.getcwd(), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "OWN_TESTS_NOTES": str(notes)}
    # Assertions as they are: else pytest reads the tests by a loader of its own, not by that of the adapter.
    options = ["-q", "--assert", "plain", "-c", os.devnull, "--rootdir", str(files[0].parent)]
    options += ["-p", "tests.own_tests.petastorm_plugin", "-p", "no:cacheprovider"]
    options += ["--timeout", str(test_seconds), "--continue-on-collection-errors"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, *map(str, files)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    with suppress(ProcessLookupError):
        # The whole session: some tests leave workers and a JVM behind.
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    lines = notes.read_text(encoding="utf-8").splitlines() if notes.exists() else []
    return {nodeid: (outcome, message) for nodeid, outcome, message in map(json.loads, lines)}


def cause_of(message: str) -> str:
    """Why a test did not pass."""
    return next((cause for cause, pattern in CAUSES.items() if re.search(pattern, message)), OTHER)


def tell(found: Found) -> None:
    """A row of a table for every file, and how often there is which cause."""
    files = sorted({nodeid.partition("::")[0] for nodeid in found})
    print(f"| file | {' | '.join(OUTCOMES)} | what did not pass |\n|{' --- |' * (len(OUTCOMES) + 2)}")
    for file in [*files, ""]:
        mine = [found[nodeid] for nodeid in found if nodeid.startswith(file)]
        counts = Counter(outcome for outcome, _ in mine)
        why = Counter(cause_of(said) for outcome, said in mine if outcome not in FINE)
        cells = [file or "all", *(str(counts[outcome] or "") for outcome in OUTCOMES)]
        print(f"| {' | '.join(cells)} | {'; '.join(f'{n} {cause}' for cause, n in why.most_common())} |")


def main() -> None:
    """Run, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", help="such as test_unischema; all of them by default")
    parser.add_argument("--together", action="store_true", help="all files in one process")
    parser.add_argument("--seconds", type=float, default=300, help="for one process")
    parser.add_argument("--test-seconds", type=float, default=120, help="for one test")
    parser.add_argument("--report", type=Path, help="keep the messages there, and add to what it has")
    options = parser.parse_args()
    package = find_spec("petastorm")
    if package is None or package.origin is None:
        raise SystemExit("petastorm is not installed")
    files = sorted((Path(package.origin).parent / "tests").glob("test_*.py"))
    chosen = [file for file in files if not options.files or file.stem in options.files]
    report: Path | None = options.report
    found: Found = json.loads(report.read_text(encoding="utf-8")) if report and report.exists() else {}
    with tempfile.TemporaryDirectory() as name:
        for number, group in enumerate([chosen] if options.together else [[file] for file in chosen]):
            found |= run_files(group, options.seconds, options.test_seconds, Path(name) / str(number))
    if report:
        report.write_text(json.dumps(found, indent=1), encoding="utf-8")
    tell(found)


if __name__ == "__main__":
    main()
