"""The driver's verdicts, with supervisors that are sockets of this process."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from sparkml.distributed.channel import Line, connect
from sparkml.distributed.hub import AttemptError, Hub, Patience, Progress
from sparkml.distributed.rank import EXIT_PEER_FAILED
from sparkml.errors import InputError, SparkmlError

PATIENT = Patience(heartbeat_seconds=30, step_seconds=30, start_seconds=30)


class Ranks:
    """Two supervisors that have said hello."""

    def __init__(self, patience: Patience) -> None:
        self.steps: list[Progress] = []
        self.hub = Hub("127.0.0.1", 2, patience, self.steps.append)
        self.lines = [self.join(rank) for rank in range(2)]

    def join(self, rank: int, token: str | None = None) -> Line:
        line = connect("127.0.0.1", self.hub.port)
        line.send(
            {"hello": {"token": token or self.hub.token, "rank": rank, "host": f"host{rank}", "pid": 1}}
        )
        return line

    def verdict(self) -> SparkmlError | None:
        self.hub.finished.wait(10)
        return self.hub.failure


@pytest.fixture
def ranks() -> Iterator[Ranks]:
    made = Ranks(PATIENT)
    yield made
    made.hub.close()


def test_all_ranks_done(ranks):
    ranks.lines[0].send({"progress": {"step": 3, "total": 9, "values": {"loss": 1.5}}})
    for line in ranks.lines:
        line.send({"exit": {"code": 0}})
    assert ranks.verdict() is None
    assert ranks.steps == [Progress(3, 9, {"loss": 1.5})]
    assert [next(line.messages()) for line in ranks.lines] == [{"stop": True}, {"stop": True}]


def test_the_killed_rank_is_named_not_its_victim(ranks):
    ranks.lines[0].send({"error": {"kind": "HorovodInternalError", "what": "connection closed by peer"}})
    ranks.lines[0].send({"exit": {"code": EXIT_PEER_FAILED}})
    ranks.lines[1].send({"log": "out of memory, perhaps"})
    ranks.lines[1].send({"progress": {"step": 4, "total": 9, "values": {}}})
    ranks.lines[1].send({"exit": {"code": -9}})
    verdict = ranks.verdict()
    assert isinstance(verdict, AttemptError)
    assert verdict.what == "rank 1 was killed by SIGKILL"
    assert verdict.where == "host host1, after step 4"
    assert "out of memory, perhaps" in verdict.got


def test_an_abort_of_horovod_is_no_first_cause(ranks):
    ranks.lines[0].send({"exit": {"code": -6}})
    ranks.lines[1].send({"error": {"kind": "ValueError", "what": "bad shape"}})
    ranks.lines[1].send({"exit": {"code": 1}})
    assert ranks.verdict().what == "rank 1 failed with ValueError: bad shape"


def test_a_lost_supervisor(ranks):
    ranks.lines[1].close()
    assert ranks.verdict().what == "rank 1 is lost: its executor or Python worker died"


def test_an_error_of_ours_comes_back_as_it_was(ranks):
    ranks.lines[0].send({"error": {"kind": "InputError", "what": "broken", "where": "part-7", "got": "half"}})
    ranks.lines[0].send({"exit": {"code": 1}})
    verdict = ranks.verdict()
    assert isinstance(verdict, InputError)
    assert (verdict.what, verdict.where, verdict.got) == ("broken", "part-7", "half")


def test_silence():
    ranks = Ranks(Patience(heartbeat_seconds=0.6, step_seconds=30, start_seconds=30))
    ranks.lines[1].send({"beat": {"step": 0, "phase": "work", "seconds": 0.1}})
    deadline = time.monotonic() + 5
    while not ranks.hub.finished.is_set() and time.monotonic() < deadline:
        ranks.lines[0].send({"beat": {"step": 1, "phase": "collective", "seconds": 0.1}})
        time.sleep(0.05)
    assert ranks.verdict().what == "rank 1 hangs: no heartbeat for 1 s"
    ranks.hub.close()


def test_a_rank_that_works_on_one_step_for_ever_while_the_others_wait(ranks):
    ranks.lines[0].send({"beat": {"step": 1, "phase": "collective", "seconds": 31.0}})
    ranks.lines[1].send({"beat": {"step": 1, "phase": "work", "seconds": 31.0}})
    assert ranks.verdict().what == "rank 1 hangs: no step done for 31 s"


def test_all_wait_for_all(ranks):
    for rank, line in enumerate(ranks.lines):
        line.send({"beat": {"step": 1, "phase": "collective", "seconds": 31.0 + rank}})
    assert "the network hangs" in ranks.verdict().what


def test_a_rank_that_never_starts():
    hub = Hub("127.0.0.1", 1, Patience(30, 30, 0.3), lambda progress: None)
    hub.finished.wait(10)
    assert hub.failure.what == "rank 0 did not start within 0.3 s"
    hub.close()


def test_strangers_and_second_ranks_are_turned_away(ranks):
    assert list(ranks.join(0, token="guess").messages()) == []
    assert list(ranks.join(0).messages()) == []
    assert ranks.hub.failure is None


def test_half_a_line_is_the_end_of_a_line(ranks):
    ranks.lines[0]._connection.sendall(b'{"log": "cut of')
    ranks.lines[0].close()
    assert ranks.verdict().what == "rank 0 is lost: its executor or Python worker died"
