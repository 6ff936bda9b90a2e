"""One run at a time on a lake; a killed holder blocks nobody; a lake that cannot be written is told early."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections import namedtuple
from pathlib import Path

import obstore
import pytest
from obstore.store import MemoryStore

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


def test_a_store_without_conditional_writes_and_a_catalog_have_no_lock(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with locks.lake_lock("hdfs://host/lake", "x") as locked:
        assert not locked
    assert "the scheduler must keep runs apart" in caplog.text
    with locks.lake_lock("main.corpus", "x") as locked:
        assert not locked


@pytest.fixture
def store() -> MemoryStore:
    """Conditional writes as an object store has them."""
    return MemoryStore()


def lease(store: MemoryStore, seconds: float = 60.0) -> locks.Lease:
    return locks.Lease(store, "s3://bucket/lake", "sparkml run-all", seconds=seconds)


def taken(store: MemoryStore) -> str:
    try:
        with lease(store):
            return ""
    except LockedError as error:
        return error.message()


def test_a_lease_keeps_others_out_and_is_given_back(store: MemoryStore) -> None:
    with lease(store):
        assert f"process {os.getpid()}" in taken(store)
        assert "its lease runs out in" in taken(store)
    assert taken(store) == ""


def test_a_lease_is_renewed_while_it_is_held(store: MemoryStore) -> None:
    with lease(store, seconds=0.4):
        time.sleep(1.0)
        assert taken(store)


def test_a_lease_that_ran_out_or_whose_process_is_gone_is_taken_over(store: MemoryStore) -> None:
    old = {"pid": 1, "host": "elsewhere", "command": "x", "since": "then", "expires": time.time() - 1}
    obstore.put(store, locks.LOCK_FILE, json.dumps(old).encode())
    assert taken(store) == ""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    here = {**old, "pid": gone.pid, "host": socket.gethostname(), "expires": time.time() + 1000}
    obstore.put(store, locks.LOCK_FILE, json.dumps(here).encode())
    assert taken(store) == ""
    elsewhere = {**here, "host": "elsewhere"}
    obstore.put(store, locks.LOCK_FILE, json.dumps(elsewhere).encode())
    assert "process" in taken(store)


def test_of_many_at_once_one_gets_the_lease(store: MemoryStore) -> None:
    got: list[str] = []

    def take() -> None:
        try:
            with lease(store):
                got.append("held")
                time.sleep(0.5)
        except LockedError:
            got.append("refused")

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == ["held", *["refused"] * 7]


@pytest.mark.parametrize("ignored", [signal.SIG_IGN, signal.default_int_handler])
def test_who_loses_the_lease_stops(store: MemoryStore, ignored: object) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    def hold() -> None:
        with lease(store, seconds=0.2):
            obstore.put(store, locks.LOCK_FILE, b"{}")  # another one has it
            time.sleep(5)

    # A shell's background job ignores SIGINT: it is stopped by SIGTERM.
    before = {which: signal.getsignal(which) for which in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, ignored)  # type: ignore[arg-type]
    signal.signal(signal.SIGTERM, stop)
    try:
        with pytest.raises(KeyboardInterrupt):
            hold()
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
    assert bytes(obstore.get(store, locks.LOCK_FILE).bytes()) == b"{}"


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
