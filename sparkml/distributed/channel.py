"""The line between the supervisors and the driver: TCP, one JSON object a line, opened with a token.

Messages to the driver: hello, log, beat, progress, error, exit. To a supervisor: stop. No pickle crosses it.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

CONNECT_SECONDS = 20.0


class Line:
    """One end of a connection; sending is safe from several threads."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._file = connection.makefile("r", encoding="utf-8", errors="replace")

    def send(self, message: Mapping[str, Any]) -> bool:
        """Send one message; False where the other end is gone."""
        data = (json.dumps(message) + "\n").encode()
        try:
            with self._lock:
                self._connection.sendall(data)
        except OSError:
            return False
        return True

    def messages(self) -> Iterator[dict[str, Any]]:
        """What the other end says, until it closes or dies."""
        try:
            for line in self._file:
                message = json.loads(line)
                if isinstance(message, dict):
                    yield message
        except (OSError, ValueError):
            # The other end was killed in the middle of a line: the end of the conversation, like a close.
            return

    def close(self) -> None:
        """Close both directions; wakes a thread that reads."""
        with suppress(OSError):  # the other end closed first
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()


def connect(address: str, port: int) -> Line:
    """Open a line to the driver; OSError where it cannot be reached."""
    connection = socket.create_connection((address, port), timeout=CONNECT_SECONDS)
    connection.settimeout(None)
    keep_alive(connection)
    return Line(connection)


def keep_alive(connection: socket.socket) -> None:
    """Notice within a minute that the other end's machine is gone: it cannot say goodbye."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, seconds in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), seconds)


def own_address(peer: str) -> str:
    """The address of this host on the interface that leads to `peer`; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((peer, 9))
        return str(probe.getsockname()[0])
