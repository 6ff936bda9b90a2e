"""One run at a time on a lake; a killed holder blocks nobody; a lake that cannot be written is told early."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections import namedtuple
from pathlib import Path

import pytest

from sparkml.errors import LockedError, StorageError
from sparkml.frame import locks

HOLDER = """
    import sys, time
    from sparkml.frame.locks import lake_lock
    with lake_lock(sys.argv[1], "sparkml run-all"):
        print("held", flush=True)
        time.sleep(60)
"""


def hold(lake: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(HOLDER), str(lake)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_second_run_is_told_who_holds_the_lake(tmp_path: Path) -> None:
    holder = hold(tmp_path)
    try:
        with (
            pytest.raises(LockedError, match=f"process {holder.pid}") as caught,
            locks.lake_lock(str(tmp_path), "x"),
        ):
            pass
        assert "sparkml run-all" in caught.value.got
    finally:
        holder.kill()
        holder.wait()


def test_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    holder = hold(tmp_path)
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with locks.lake_lock(str(tmp_path), "x") as locked:
        assert locked


def test_remote_lakes_have_no_lock() -> None:
    with locks.lake_lock("s3a://bucket/lake", "x") as locked:
        assert not locked


def test_a_lake_that_cannot_be_made_is_told_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written") as caught:
        locks.check_writable(tmp_path / "file" / "lake")
    assert str(tmp_path / "file" / "lake") in caught.value.where


def test_a_full_disk_is_told_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(locks.shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1_000_000))
    with pytest.raises(StorageError, match="nearly full"):
        locks.check_writable(tmp_path)
