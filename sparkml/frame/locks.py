"""One run at a time on a lake, and an early word on a lake that cannot be written."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from sparkml.errors import LockedError, StorageError
from sparkml.frame.storage import is_remote

LOCK_FILE = "_sparkml.lock"
MIN_FREE_BYTES = 64 * 1024 * 1024


@contextmanager
def lake_lock(lake: str, command: str) -> Iterator[bool]:
    """Hold the lake while the block runs; yields False where a lake has no lock (URIs and catalogs).

    The kernel drops the lock when the process dies, however it dies, so a killed run blocks nobody. On object
    stores and catalogs Delta's own conflict checks keep every commit whole; there the scheduler keeps runs apart.
    """
    if is_remote(lake):
        yield False
        return
    folder = Path(lake)
    check_writable(folder)
    with open(folder / LOCK_FILE, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise LockedError(
                "another run holds this lake",
                where=lake,
                got=_holder(file.read()),
                next_action="wait until it ends, or give another lake=",
            ) from error
        file.truncate(0)
        file.write(
            json.dumps(
                {
                    "pid": os.getpid(),
                    "host": socket.gethostname(),
                    "command": command,
                    "since": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M:%S} UTC",
                }
            )
        )
        file.flush()
        yield True


def check_writable(folder: Path) -> None:
    """StorageError where the folder cannot be made or written, or its disk is nearly full."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f"_sparkml.probe.{os.getpid()}"
        probe.write_bytes(b"0" * 4096)
        probe.unlink()
    except OSError as error:
        raise StorageError(
            "the lake cannot be written",
            where=str(folder),
            got=error.strerror or str(error),
            next_action="check the path, its owner and rights, or choose another lake=",
        ) from error
    free = shutil.disk_usage(folder).free
    if free < MIN_FREE_BYTES:
        raise StorageError(
            "the disk under the lake is nearly full",
            where=str(folder),
            got=f"{free / 1e6:.0f} MB free",
            expected=f"at least {MIN_FREE_BYTES / 1e6:.0f} MB",
            next_action="free some space, or choose another lake=",
        )


def _holder(text: str) -> str:
    try:
        held = json.loads(text)
    except json.JSONDecodeError:
        return "another process"
    return f"process {held['pid']} on {held['host']} (`{held['command']}`, since {held['since']})"
