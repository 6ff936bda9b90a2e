"""The driver's verdicts, with supervisors that are sockets of this process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from sparkml.distributed.channel import MAX_MESSAGE_BYTES, Connection, connect
from sparkml.distributed.hub import AttemptError, Hub, StepDone, Timeouts
from sparkml.distributed.rank import EXIT_PEER_FAILED
from sparkml.errors import InputError, SparkmlError

GENEROUS = Timeouts(heartbeat_seconds=30, step_seconds=30, start_seconds=30)


class Ranks:
    """Two supervisors; so many of them have said hello."""

    def __init__(self, timeouts: Timeouts, joined: int = 2) -> None:
        self.steps: list[StepDone] = []
        self.hub = Hub("127.0.0.1", 2, timeouts, self.steps.append)
        self.connections = [self.join(rank) for rank in range(joined)]
        # Each hello is read by a thread of its own: a later one must not be heard first.
        deadline = time.monotonic() + 10
        while any(self.hub._ranks[rank].connection is None for rank in range(joined)):
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def join(self, rank: int, token: str | None = None) -> Connection:
        connection = connect("127.0.0.1", self.hub.port)
        connection.send({"hello": {"token": token or self.hub.token, "rank": rank, "host": f"host{rank}"}})
        return connection

    def verdict(self) -> SparkmlError | None:
        self.hub.finished.wait(10)
        return self.hub.failure


@pytest.fixture
def ranks() -> Iterator[Ranks]:
    made = Ranks(GENEROUS)
    yield made
    made.hub.close()


def test_all_ranks_done(ranks):
    ranks.connections[0].send({"progress": {"step": 3, "total": 9, "values": {"loss": 1.5}}})
    for connection in ranks.connections:
        connection.send({"exit": {"code": 0}})
    assert ranks.verdict() is None
    assert ranks.steps == [StepDone(3, 9, {"loss": 1.5})]
    assert [next(connection.messages()) for connection in ranks.connections] == [
        {"stop": True},
        {"stop": True},
    ]


def test_the_killed_rank_is_named_not_its_victim(ranks):
    ranks.connections[0].send(
        {"error": {"kind": "HorovodInternalError", "what": "connection closed by peer"}}
    )
    ranks.connections[0].send({"exit": {"code": EXIT_PEER_FAILED}})
    ranks.connections[1].send({"log": "out of memory, perhaps"})
    ranks.connections[1].send({"progress": {"step": 4, "total": 9, "values": {}}})
    ranks.connections[1].send({"exit": {"code": -9}})
    verdict = ranks.verdict()
    assert isinstance(verdict, AttemptError)
    assert verdict.what == "rank 1 was killed by SIGKILL"
    assert verdict.where == "host host1, after step 4"
    assert "out of memory, perhaps" in verdict.got


def test_an_abort_of_horovod_is_no_first_cause(ranks):
    ranks.connections[0].send({"exit": {"code": -6}})
    ranks.connections[1].send({"error": {"kind": "ValueError", "what": "bad shape"}})
    ranks.connections[1].send({"exit": {"code": 1}})
    assert ranks.verdict().what == "rank 1 failed with ValueError: bad shape"


def test_a_lost_supervisor(ranks):
    ranks.connections[1].close()
    assert ranks.verdict().what == "rank 1 is lost: its executor or Python worker died"


def test_an_error_of_ours_comes_back_as_it_was(ranks):
    ranks.connections[0].send(
        {"error": {"kind": "InputError", "what": "broken", "where": "part-7", "got": "half"}}
    )
    ranks.connections[0].send({"exit": {"code": 1}})
    verdict = ranks.verdict()
    assert isinstance(verdict, InputError)
    assert (verdict.what, verdict.where, verdict.got) == ("broken", "part-7", "half")


def test_silence():
    ranks = Ranks(Timeouts(heartbeat_seconds=0.6, step_seconds=30, start_seconds=30))
    ranks.connections[1].send({"beat": {"step": 0, "phase": "work", "seconds": 0.1}})
    deadline = time.monotonic() + 5
    while not ranks.hub.finished.is_set() and time.monotonic() < deadline:
        ranks.connections[0].send({"beat": {"step": 1, "phase": "collective", "seconds": 0.1}})
        time.sleep(0.05)
    assert ranks.verdict().what == "rank 1 hangs: no heartbeat for 1 s"
    ranks.hub.close()


def test_a_driver_that_stood_still_blames_nobody(caplog):
    ranks = Ranks(Timeouts(heartbeat_seconds=1.5, step_seconds=30, start_seconds=1.5))
    for connection in ranks.connections:
        connection.send({"progress": {"step": 0, "total": 9, "values": {}}})
    time.sleep(0.5)
    with ranks.hub._lock:  # as when the process is stopped: nothing is read, nobody looks
        time.sleep(2.5)
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        for connection in ranks.connections:
            connection.send({"beat": {"step": 1, "phase": "work", "seconds": 0.1}})
        time.sleep(0.05)
    assert ranks.hub.failure is None
    assert "the driver stood still" in caplog.text
    assert ranks.verdict().what == "rank 0 hangs: no heartbeat for 2 s"  # it looks again
    ranks.hub.close()


def test_a_rank_that_works_on_one_step_for_ever_while_the_others_wait(ranks):
    ranks.connections[0].send({"beat": {"step": 1, "phase": "collective", "seconds": 31.0}})
    ranks.connections[1].send({"beat": {"step": 1, "phase": "work", "seconds": 31.0}})
    assert ranks.verdict().what == "rank 1 hangs: no step done for 31 s"


def test_all_wait_for_all(ranks):
    for rank, connection in enumerate(ranks.connections):
        connection.send({"beat": {"step": 1, "phase": "collective", "seconds": 31.0 + rank}})
    assert "the network hangs" in ranks.verdict().what


def test_a_rank_that_never_starts():
    ranks = Ranks(Timeouts(30, 30, 0.3, slots_seconds=30), joined=1)
    ranks.connections[0].send({"beat": {"step": 0, "phase": "work", "seconds": 0.1}})
    assert ranks.verdict().what == "rank 1 did not start within 0.3 s of the first"
    ranks.hub.close()


def test_ranks_wait_for_slots_before_they_are_late():
    hub = Hub("127.0.0.1", 2, Timeouts(30, 30, 0.3, slots_seconds=0.5), lambda done: None)
    assert not hub.finished.wait(0.6)
    assert hub.finished.wait(10)
    assert hub.failure.what == "no rank has started within 0.8 s"
    hub.close()


@pytest.mark.parametrize("token", ["guess", "schlüssel"])
def test_a_stranger_is_turned_away(ranks, token):
    assert list(ranks.join(0, token=token).messages()) == []
    assert ranks.hub.failure is None


def test_a_second_supervisor_of_a_rank_is_turned_away(ranks):
    assert list(ranks.join(0).messages()) == []
    ranks.connections[0].send({"progress": {"step": 1, "total": 9, "values": {}}})
    for connection in ranks.connections:
        connection.send({"exit": {"code": 0}})
    assert ranks.verdict() is None
    assert len(ranks.steps) == 1


@pytest.mark.parametrize(
    "message",
    [
        {"beat": {"phase": "work"}},
        {"beat": 7},
        {"beat": {"phase": "work", "seconds": "soon"}},
        {"progress": {"step": "x", "total": 9, "values": {}}},
        {"error": "bad"},
        {"exit": {"code": None}},
    ],
)
def test_a_message_that_cannot_be_read_ends_its_rank_alone(ranks, message, caplog):
    ranks.connections[1].send(message)
    assert list(ranks.connections[1].messages()) == []
    assert ranks.verdict().what.startswith("rank 1 is lost")
    assert "the connection to rank 1 is closed: it sent a message that cannot be read" in caplog.text


def test_a_line_without_end_ends_its_rank(ranks, caplog):
    with suppress(OSError):
        for _ in range(64):
            ranks.connections[1]._socket.sendall(bytes(1 << 20))
    assert ranks.verdict().what.startswith("rank 1 is lost")
    assert f"it sent {MAX_MESSAGE_BYTES} bytes without the end of a line" in caplog.text


def test_half_a_line_is_the_end_of_a_connection(ranks):
    ranks.connections[0]._socket.sendall(b'{"log": "cut of')
    ranks.connections[0].close()
    assert ranks.verdict().what == "rank 0 is lost: its executor or Python worker died"
