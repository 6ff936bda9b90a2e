"""One run at a time on a lake, and an early error for a lake that cannot be written.

A folder is held by a lock of the kernel, which goes with the process, however it dies. An object store is held by an
object that only one writer can create (a conditional put): a lease that its holder renews, and that anyone may take
once it has run out. Open-source Delta commits on S3 are safe for one writing driver at a time: this lock keeps it so. A
catalog is not locked: its own commit service arbitrates, and its scheduler keeps runs apart.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from sparkml.errors import LockedError, StorageError
from sparkml.frame import storage
from sparkml.log import get_logger

_log = get_logger(__name__)

LOCK_FILE = "_sparkml.lock"
MIN_FREE_BYTES = 64 * 1024 * 1024
LEASE_SECONDS = 120.0
_CONDITIONAL = ("s3", "gs", "abfss")


@contextmanager
def lake_lock(lake: str, command: str) -> Iterator[bool]:
    """Hold the lake while the block runs; LockedError names who holds it. Yields False where there is no lock."""
    if storage.is_catalog(lake):
        yield False
    elif not storage.is_remote(lake):
        with _file_lock(Path(storage.local_path(lake)), command):
            yield True
    elif storage.scheme_of(lake) in _CONDITIONAL:
        with Lease(_store_of(lake), lake, command):
            yield True
    else:
        _log.warning(
            "%s has no conditional writes: the scheduler must keep runs apart", storage.redacted(lake)
        )
        yield False


@contextmanager
def _file_lock(folder: Path, command: str) -> Iterator[None]:
    check_writable(folder)
    with open(folder / LOCK_FILE, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise _locked(str(folder), _parsed(file.read())) from error
        file.truncate(0)
        file.write(json.dumps(_holder(command)))
        file.flush()
        yield


def _store_of(lake: str) -> Any:
    from obstore.store import from_url

    return from_url(
        lake, client_options={"allow_http": storage.delta_options(lake).get("AWS_ALLOW_HTTP") == "true"}
    )


class Lease:
    """A lock object on a store with conditional writes, held until it is given back or runs out."""

    def __init__(self, store: Any, lake: str, command: str, *, seconds: float = LEASE_SECONDS) -> None:
        self._store = store
        self._lake = lake
        self._seconds = seconds
        self._content = {**_holder(command), "owner": uuid.uuid4().hex}
        self._tag: str | None = None
        self._ended = threading.Event()

    def __enter__(self) -> Lease:
        from obstore.exceptions import AlreadyExistsError, BaseError

        try:
            self._write("create")
        except AlreadyExistsError:
            self._take_over()
        except BaseError as error:
            raise StorageError(
                "the lake cannot be locked",
                where=storage.redacted(self._lake),
                got=str(error).splitlines()[0],
                next_action="check the place, its rights and the credentials",
            ) from error
        threading.Thread(target=self._renew, daemon=True, name="lake-lease").start()
        return self

    def __exit__(self, *_: object) -> None:
        import obstore

        self._ended.set()
        if self._tag is not None:
            obstore.delete(self._store, LOCK_FILE)

    def _take_over(self) -> None:
        """Take a lease that has run out, or whose process on this machine is gone."""
        import obstore
        from obstore.exceptions import BaseError

        found = obstore.get(self._store, LOCK_FILE)
        held = _parsed(bytes(found.bytes()).decode("utf-8", "replace"))
        left = float(held.get("expires", 0)) - time.time()
        if left > 0 and not _is_dead(held):
            raise _locked(self._lake, held, f"; its lease runs out in {left:.0f} s unless it is renewed")
        try:
            self._write({"e_tag": found.meta["e_tag"]})
        except BaseError as error:  # another run was faster
            raise _locked(self._lake, held) from error

    def _write(self, mode: Any) -> None:
        import obstore

        content = {**self._content, "expires": time.time() + self._seconds}
        self._tag = obstore.put(self._store, LOCK_FILE, json.dumps(content).encode(), mode=mode)["e_tag"]

    def _renew(self) -> None:
        from obstore.exceptions import BaseError, PreconditionError

        renewed = time.monotonic()
        while not self._ended.wait(self._seconds / 4):
            try:
                self._write({"e_tag": self._tag})
                renewed = time.monotonic()
            except PreconditionError:
                self._lose("another run has taken the lake")
                return
            except BaseError as error:
                if time.monotonic() - renewed > self._seconds:
                    self._lose(f"the lease could not be renewed: {str(error).splitlines()[0]}")
                    return

    def _lose(self, why: str) -> None:
        # Writing on would be the second writer that the lock is there to prevent.
        _log.error("%s; this run stops", why)
        self._tag = None
        # A signal reaches a main thread that waits in a call, too. A job that a shell runs in the background ignores
        # SIGINT from its start.
        deaf = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        os.kill(os.getpid(), signal.SIGTERM if deaf else signal.SIGINT)


def _holder(command: str) -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "command": command,
        "since": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M:%S} UTC",
    }


def _is_dead(held: Mapping[str, Any]) -> bool:
    """True for a process of this machine that is gone."""
    if held.get("host") != socket.gethostname() or not isinstance(held.get("pid"), int):
        return False
    try:
        os.kill(held["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _locked(where: str, held: Mapping[str, Any], more: str = "") -> LockedError:
    who = (
        "process {pid} on {host} (`{command}`, since {since})".format(**held)
        if "pid" in held
        else "another process"
    )
    return LockedError(
        "another run holds this lake",
        where=storage.redacted(where),
        got=who + more,
        next_action="wait until it ends, or give another lake=",
    )


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


def _parsed(text: str) -> dict[str, Any]:
    try:
        held = json.loads(text)
    except json.JSONDecodeError:
        return {}
    return held if isinstance(held, dict) else {}
