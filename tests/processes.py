"""Pipelines as processes of their own, and what they leave behind when they are killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.way import ENVIRONMENT, Way, command


def killed_at_random(way: Way, lake: Path, *, kills: int) -> list[float]:
    """Kill the driver at random moments, then let the same command come to its end; returns the moments in seconds."""
    chance = random.SystemRandom()
    moments = [chance.uniform(8, 40) for _ in range(kills)]
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
    return moments


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
