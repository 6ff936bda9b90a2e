"""The connection between a supervisor and the driver: TCP, one JSON object a line, opened with a token.

Messages to the driver: hello, log, beat, progress, error, exit. To a supervisor: stop. No pickle crosses it, and
nothing is encrypted: see the package's docstring for what must stay inside a trusted network. However much the other
end sends, this end holds one line of bounded length.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from sparkml.log import get_logger

_log = get_logger(__name__)
CONNECT_SECONDS = 20.0
# A supervisor cuts log lines and errors to a part of this.
MAX_MESSAGE_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 16


class ProtocolError(ConnectionError):
    """The other end sent something that is not in our protocol, or did not send in time."""


class Connection:
    """One end of a connection; sending is safe from several threads, receiving from one."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._lock = threading.Lock()
        self._received = bytearray()

    def send(self, message: Mapping[str, Any]) -> bool:
        """Send one message; False where the other end is gone."""
        data = (json.dumps(message) + "\n").encode()
        try:
            with self._lock:
                self._socket.sendall(data)
        except OSError:
            return False
        return True

    def receive(
        self, *, max_bytes: int = MAX_MESSAGE_BYTES, seconds: float | None = None
    ) -> dict[str, Any] | None:
        """The next message; None where the other end has closed, even in the middle of a line.

        ProtocolError where it takes more than `max_bytes` or longer than `seconds` in all, or is not a JSON
        object; OSError where the connection broke.
        """
        line = self._receive_line(max_bytes, seconds)
        if line is None:
            return None
        try:
            message = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ProtocolError("it sent a line that is not JSON") from error
        if not isinstance(message, dict):
            raise ProtocolError("it sent JSON that is not an object")
        return message

    def messages(self) -> Iterator[dict[str, Any]]:
        """What the other end says, until it closes, dies or breaks the protocol."""
        while True:
            try:
                message = self.receive()
            except ProtocolError as error:
                _log.warning("a connection is closed: %s", error)
                return
            except OSError:
                return  # the other end was killed: the end of the conversation, like a close
            if message is None:
                return
            yield message

    def keep_alive(self) -> None:
        """Notice within a minute that the other end's machine is gone: it cannot close its end."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, seconds in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
            if hasattr(socket, name):
                self._socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), seconds)

    def interrupt(self) -> None:
        """End both directions: a thread that receives sees the end, and closes."""
        with suppress(OSError):  # the other end closed first
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End both directions and give the socket back."""
        self.interrupt()
        self._socket.close()

    def _receive_line(self, max_bytes: int, seconds: float | None) -> bytes | None:
        deadline = None if seconds is None else time.monotonic() + seconds
        searched = 0
        while (end := self._received.find(b"\n", searched)) < 0:
            searched = len(self._received)
            if searched >= max_bytes:
                raise ProtocolError(f"it sent {max_bytes} bytes without the end of a line")
            chunk = self._receive_chunk(min(_CHUNK_BYTES, max_bytes - searched), deadline)
            if not chunk:
                return None
            self._received += chunk
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        return line

    def _receive_chunk(self, max_bytes: int, deadline: float | None) -> bytes:
        # The limit is on the whole line: a byte now and then does not extend it.
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise ProtocolError("it did not send a whole line in time")
        self._socket.settimeout(left)
        try:
            return self._socket.recv(max_bytes)
        except TimeoutError as error:
            if deadline is None:  # the kernel's own: keep-alive found the other end's machine gone
                raise
            raise ProtocolError("it did not send a whole line in time") from error


def connect(address: str, port: int) -> Connection:
    """Open a connection to the driver; OSError where it cannot be reached."""
    connected = socket.create_connection((address, port), timeout=CONNECT_SECONDS)
    connected.settimeout(None)
    connection = Connection(connected)
    connection.keep_alive()
    return connection


def own_address(peer: str) -> str:
    """The address of this host on the interface that leads to `peer`; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((peer, 9))
        return str(probe.getsockname()[0])
