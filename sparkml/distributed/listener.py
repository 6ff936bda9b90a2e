"""Where supervisors connect to the driver. A connection is a stranger's until its `hello` has carried the token.

Anyone who reaches the port can open one, so a stranger costs little: it may send `HELLO_BYTES` within
`HELLO_SECONDS`, and no more than `SPARE_STRANGERS` beside the attempt's own ranks are open at once. One more closes the
oldest: a supervisor says hello as soon as it is connected, so the one that has waited longest is not a supervisor.
"""

from __future__ import annotations

import hmac
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from sparkml.distributed.channel import Connection, ProtocolError
from sparkml.log import get_logger

_log = get_logger(__name__)
HELLO_BYTES = 4096
HELLO_SECONDS = 10.0
SPARE_STRANGERS = 64
_LOGGED_REFUSALS = 10
_ACCEPT_PAUSE_SECONDS = 0.2


@dataclass(frozen=True)
class Hello:
    """Who has connected: the supervisor of a rank, and its host."""

    rank: int
    host: str


class Listener:
    """Listens on one interface and calls `serve(hello, connection)`, in a thread of its own, for every supervisor.

    The connection is closed when `serve` returns. A connection without the token, or with a rank that the
    attempt does not have, is closed and logged.
    """

    def __init__(
        self, bind: str, *, token: str, ranks: int, serve: Callable[[Hello, Connection], None]
    ) -> None:
        self._token = token
        self._ranks = ranks
        self._serve = serve
        self._lock = threading.Lock()
        self._strangers: dict[Connection, None] = {}  # the oldest first
        self.max_strangers = ranks + SPARE_STRANGERS
        self._refused = 0
        self._closed = threading.Event()
        self._socket = socket.create_server((bind, 0))
        self.port = int(self._socket.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True, name="hub-accept").start()

    def close(self) -> None:
        """Accept nobody any more, and close what strangers have opened."""
        self._closed.set()
        with suppress(OSError):  # not every system ends a listening socket so
            self._socket.shutdown(socket.SHUT_RDWR)  # closing it alone would not wake the thread that accepts
        self._socket.close()
        with self._lock:
            for connection in self._strangers:
                connection.interrupt()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                accepted, (host, *_) = self._socket.accept()
            except OSError as error:
                if not self._closed.is_set():  # such as too many open files: it may pass
                    _log.warning("the driver could not accept a connection: %s", error)
                    self._closed.wait(_ACCEPT_PAUSE_SECONDS)
                continue
            self._admit(Connection(accepted), str(host))

    def _admit(self, connection: Connection, address: str) -> None:
        self._make_room_for(connection)
        thread = threading.Thread(
            target=self._receive, args=(connection, address), daemon=True, name="hub-rank"
        )
        try:
            thread.start()
        except RuntimeError as error:  # too many threads in this process: it may pass
            _log.warning("a connection from %s could not be served: %s", address, error)
            self._forget(connection)
            connection.close()

    def _make_room_for(self, connection: Connection) -> None:
        with self._lock:
            while len(self._strangers) >= self.max_strangers:
                oldest = next(iter(self._strangers))
                del self._strangers[oldest]
                oldest.interrupt()
            self._strangers[connection] = None

    def _receive(self, connection: Connection, address: str) -> None:
        try:
            hello = self._hello(connection, address)
            self._forget(connection)
            if hello is not None:
                self._serve(hello, connection)
        finally:
            self._forget(connection)
            connection.close()

    def _forget(self, connection: Connection) -> None:
        with self._lock:
            self._strangers.pop(connection, None)

    def _hello(self, connection: Connection, address: str) -> Hello | None:
        """Who is there; None for a stranger, and where the other end closed first."""
        try:
            connection.keep_alive()
            message = connection.receive(max_bytes=HELLO_BYTES, seconds=HELLO_SECONDS)
            return None if message is None else self._checked(message.get("hello"))
        except ProtocolError as error:
            self._log_refusal(address, error)
        except OSError as error:
            _log.debug("a connection from %s broke: %s", address, error)
        return None

    def _checked(self, hello: object) -> Hello:
        if not isinstance(hello, dict) or not _same(hello.get("token"), self._token):
            raise ProtocolError("it did not say hello with this attempt's token")
        rank = hello.get("rank")
        if type(rank) is not int or not 0 <= rank < self._ranks:  # JSON's true is an int to isinstance
            raise ProtocolError(f"it said rank {rank!r}, not a number from 0 to {self._ranks - 1}")
        return Hello(rank, str(hello.get("host")))

    def _log_refusal(self, address: str, error: ProtocolError) -> None:
        with self._lock:
            self._refused += 1
            refused = self._refused
        if refused <= _LOGGED_REFUSALS:
            _log.warning("a connection from %s was refused: %s", address, error)
        if refused == _LOGGED_REFUSALS:
            _log.warning("%d connections were refused in this attempt; further ones are not logged", refused)


def _same(given: object, token: str) -> bool:
    # As bytes: compare_digest takes no text beyond ASCII, and JSON can hold half a surrogate pair.
    text = given if isinstance(given, str) else ""
    return hmac.compare_digest(text.encode("utf-8", "surrogatepass"), token.encode())
