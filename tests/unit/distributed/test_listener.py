"""Strangers at the driver's port: each costs little memory and time, and the true supervisor is served beside them."""

from __future__ import annotations

import json
import socket
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress

import pytest

from sparkml.distributed import listener as listening
from sparkml.distributed.channel import Connection, ProtocolError, connect
from sparkml.distributed.listener import Hello, Listener

TOKEN = "0123456789abcdef"


class Driver:
    """A listener for two ranks that notes who came and what they said."""

    def __init__(self) -> None:
        self.served: list[tuple[Hello, list[dict]]] = []
        self.listener = Listener("127.0.0.1", token=TOKEN, ranks=2, serve=self.serve)

    def serve(self, hello: Hello, connection: Connection) -> None:
        self.served.append((hello, list(connection.messages())))

    def stranger(self, data: bytes = b"") -> socket.socket:
        opened = socket.create_connection(("127.0.0.1", self.listener.port), timeout=10)
        opened.sendall(data)
        return opened

    def serves_the_true_rank(self) -> bool:
        before = len(self.served)
        supervisor = connect("127.0.0.1", self.listener.port)
        supervisor.send({"hello": {"token": TOKEN, "rank": 1, "host": "here"}})
        supervisor.send({"log": "ready"})
        supervisor.close()
        return self.waits_until(lambda: self.served[before:] == [(Hello(1, "here"), [{"log": "ready"}])])

    def waits_until(self, is_so) -> bool:
        deadline = time.monotonic() + 10
        while not is_so() and time.monotonic() < deadline:
            time.sleep(0.01)
        return is_so()

    def is_idle(self) -> bool:
        """No thread and no socket is left of anyone."""
        names = [thread.name for thread in threading.enumerate()]
        return "hub-rank" not in names and not self.listener._strangers


@pytest.fixture
def driver() -> Iterator[Driver]:
    made = Driver()
    yield made
    made.listener.close()


def ends(stranger: socket.socket) -> bool:
    """The driver has closed, within the socket's timeout."""
    try:
        return stranger.recv(1) == b""
    except ConnectionResetError:
        return True


def hello(**fields: object) -> bytes:
    return json.dumps({"hello": {"token": TOKEN, "rank": 0, "host": "h", **fields}}).encode() + b"\n"


def test_bytes_without_end_are_cut_off_and_not_kept(driver, caplog):
    stranger, data = driver.stranger(), bytes(1 << 28)
    tracemalloc.start()
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        stranger.sendall(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 256 * 1024
    assert f"it sent {listening.HELLO_BYTES} bytes without the end of a line" in caplog.text
    assert driver.serves_the_true_rank()
    assert driver.waits_until(driver.is_idle)


def test_a_byte_now_and_then_does_not_keep_a_connection_open(driver, monkeypatch, caplog):
    monkeypatch.setattr(listening, "HELLO_SECONDS", 0.5)
    stranger = driver.stranger()
    started = time.monotonic()
    with suppress(OSError):
        while time.monotonic() < started + 5:
            stranger.sendall(b"{")
            time.sleep(0.05)
    assert 0.4 < time.monotonic() - started < 4
    assert "it did not send a whole line in time" in caplog.text
    assert driver.serves_the_true_rank()
    assert driver.waits_until(driver.is_idle)


def test_silence_does_not_keep_a_connection_open(driver, monkeypatch):
    monkeypatch.setattr(listening, "HELLO_SECONDS", 0.3)
    assert ends(driver.stranger())
    assert driver.waits_until(driver.is_idle)


@pytest.mark.parametrize(
    "token",
    ["guess", "", "0123456789abcdeф", "\ud800", TOKEN + "\n", None, 7, [TOKEN], {"a": 1}],
    ids=[
        "wrong",
        "empty",
        "not ascii",
        "half a surrogate pair",
        "longer",
        "null",
        "number",
        "list",
        "object",
    ],
)
def test_a_wrong_token_is_refused_and_nothing_is_left(driver, token, caplog):
    stranger = driver.stranger(hello(token=token))
    assert ends(stranger)
    assert "it did not say hello with this attempt's token" in caplog.text
    assert driver.served == []
    assert driver.waits_until(driver.is_idle)
    assert driver.serves_the_true_rank()


@pytest.mark.parametrize("rank", [-1, 2, "0", 0.0, True, None, [0], 10**30])
def test_a_rank_that_the_attempt_does_not_have_is_refused(driver, rank, caplog):
    stranger = driver.stranger(hello(rank=rank))
    assert ends(stranger)
    assert "not a number from 0 to 1" in caplog.text
    assert driver.served == []
    assert driver.waits_until(driver.is_idle)
    assert driver.serves_the_true_rank()


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.1\r\n",
        b"[" * 4000 + b"\n",
        b"\xff\xfe\n",
        b"[]\n",
        b'"hello"\n',
        b"{}\n",
        b'{"hello": 1}\n',
        b"\n",
    ],
    ids=["http", "nested", "not utf-8", "list", "text", "no hello", "hello is a number", "empty"],
)
def test_what_is_no_hello_is_refused(driver, line):
    assert ends(driver.stranger(line))
    assert driver.served == []
    assert driver.waits_until(driver.is_idle)
    assert driver.serves_the_true_rank()


def test_a_flood_of_connections_keeps_nobody_out(driver):
    n_threads = threading.active_count()
    limit = driver.listener.max_strangers
    assert limit == 66  # two ranks, and those that are spare
    flood = [driver.stranger() for _ in range(5 * limit)]
    # The oldest have to go; the newest may still say hello.
    assert all(ends(stranger) for stranger in flood[: 4 * limit])
    assert driver.waits_until(lambda: len(driver.listener._strangers) == limit)
    assert driver.waits_until(lambda: threading.active_count() <= n_threads + limit)
    assert driver.serves_the_true_rank()
    flood[-1].sendall(hello())
    flood[-1].close()
    assert driver.waits_until(lambda: (Hello(0, "h"), []) in driver.served)
    driver.listener.close()
    assert all(ends(stranger) for stranger in flood[:-1])
    assert driver.waits_until(driver.is_idle)


def test_refusals_do_not_fill_the_log(driver, caplog):
    for _ in range(listening._LOGGED_REFUSALS + 15):
        assert ends(driver.stranger(hello(token="guess")))
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == listening._LOGGED_REFUSALS + 1
    assert lines[-1] == "10 connections were refused in this attempt; further ones are not logged"


def test_too_many_open_files_end_nothing(driver, monkeypatch, caplog):
    monkeypatch.setattr(listening, "_ACCEPT_PAUSE_SECONDS", 0.01)
    real, failures = driver.listener._socket, [OSError(24, "Too many open files")] * 3

    class Exhausted:
        def accept(self):
            if failures:
                raise failures.pop()
            return real.accept()

        def __getattr__(self, name):
            return getattr(real, name)

    driver.listener._socket = Exhausted()
    driver.stranger().close()  # the accept that was under way
    assert driver.serves_the_true_rank()
    assert failures == []
    assert "Too many open files" in caplog.text


def test_too_many_threads_end_nothing(driver, monkeypatch, caplog):
    start, failures = threading.Thread.start, [RuntimeError("can't start new thread")]

    def start_or_fail(thread: threading.Thread) -> None:
        if failures:
            raise failures.pop()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_or_fail)
    assert ends(driver.stranger())
    assert "can't start new thread" in caplog.text
    assert driver.serves_the_true_rank()
    assert driver.waits_until(driver.is_idle)


def test_a_closed_listener_lets_the_port_go(driver):
    driver.listener.close()
    with pytest.raises(ConnectionRefusedError):
        driver.stranger()
    assert driver.waits_until(lambda: "hub-accept" not in [thread.name for thread in threading.enumerate()])


class _CountedSocket:
    """A socket that counts what is taken from it."""

    def __init__(self, inner: socket.socket) -> None:
        self.inner, self.taken = inner, 0

    def recv(self, size: int) -> bytes:
        data = self.inner.recv(size)
        self.taken += len(data)
        return data

    def __getattr__(self, name):
        return getattr(self.inner, name)


def test_no_more_than_the_limit_is_taken_from_the_network():
    ours, theirs = socket.socketpair()
    theirs.sendall(b"a" * 60_000)
    counted = _CountedSocket(ours)
    with pytest.raises(ProtocolError, match="4096 bytes"):
        Connection(counted).receive(max_bytes=4096)
    assert counted.taken == 4096


def test_lines_are_told_apart_however_they_arrive():
    ours, theirs = socket.socketpair()
    connection = Connection(ours)
    theirs.sendall(b'{"a": 1}\n{"b"')
    assert connection.receive() == {"a": 1}
    theirs.sendall(b': "\xc3\xa9"}\n{"cut": ')
    assert connection.receive() == {"b": "é"}
    theirs.close()
    assert connection.receive() is None
