"""One way of a bench in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

_SHOWN = 3000


def last_line(way: str, command: Sequence[str], **environment: str) -> str:
    """The last line that a command prints, with one thread unless told otherwise; the bench ends where it fails."""
    threads = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    given: Mapping[str, str] = {**os.environ, **threads, **environment}
    done = subprocess.run(command, capture_output=True, text=True, env=given, check=False)
    if done.returncode:
        raise SystemExit(f"{way} failed:\n{done.stderr[-_SHOWN:]}")
    print(way, done.stdout.splitlines()[-1], *done.stderr.splitlines()[-1:], file=sys.stderr, flush=True)
    return done.stdout.splitlines()[-1]
