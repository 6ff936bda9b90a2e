"""The queue: every example once, nobody waits behind a long request, nothing of who has gone."""

import asyncio
import random

import pyarrow as pa
import pytest

from sparkml.serving.waiting import Job, Waiting


@pytest.fixture
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def _job(loop: asyncio.AbstractEventLoop, tokens: list[int]) -> Job:
    batch = pa.RecordBatch.from_pydict({"text": [str(number) for number in range(len(tokens))]})
    return Job("m", batch, tokens, loop.create_future())


def test_every_example_is_taken_once_whatever_comes_when(loop):
    draw = random.Random(5)
    for _ in range(200):
        waiting, jobs, taken = Waiting(), [], {}
        for _ in range(draw.randrange(1, 30)):
            if draw.random() < 0.5:
                jobs.append(_job(loop, [draw.randrange(1, 900) for _ in range(draw.randrange(1, 20))]))
                waiting.put(jobs[-1])
            else:
                _take(waiting, draw.randrange(1, 2000), taken)
        while len(waiting):
            _take(waiting, draw.randrange(1, 2000), taken)
        assert waiting.tokens == 0
        assert all(sorted(taken[id(job)]) == list(range(job.examples.num_rows)) for job in jobs)


def _take(waiting: Waiting, budget: int, taken: dict[int, list[int]]) -> None:
    for piece in waiting.take(budget):
        taken.setdefault(id(piece.job), []).extend(range(piece.start, piece.stop))


def test_a_batch_is_as_large_as_its_budget_and_never_empty(loop):
    waiting = Waiting()
    waiting.put(_job(loop, [100] * 50))
    assert sum(piece.tokens for piece in waiting.take(1000)) == 1000
    assert sum(piece.tokens for piece in waiting.take(10)) == 100


def test_a_short_request_does_not_wait_behind_a_long_one(loop):
    waiting, long, short = Waiting(), _job(loop, [100] * 500), _job(loop, [100])
    waiting.put(long)
    waiting.put(short)
    first = waiting.take(1000)
    assert short in [piece.job for piece in first]
    assert sum(piece.tokens for piece in first if piece.job is long) == 900


def test_nothing_is_computed_for_a_request_that_was_given_up(loop):
    waiting, gone, there = Waiting(), _job(loop, [100] * 5), _job(loop, [100])
    for job in (gone, there):
        waiting.put(job)
    gone.done.cancel()
    assert [piece.job for piece in waiting.take(10_000)] == [there]
    assert waiting.tokens == 0


def test_what_a_dead_worker_leaves_comes_first_and_alone(loop):
    waiting, first, second, other = Waiting(), _job(loop, [9] * 3), _job(loop, [9]), _job(loop, [9])
    for job in (first, second):
        waiting.put(job)
    pieces = waiting.take(1000)
    waiting.put(other)
    for piece in pieces:
        waiting.put_again(piece)
    assert [[piece.job for piece in waiting.take(1000)] for _ in range(3)] == [[first], [second], [other]]
    assert waiting.tokens == 0


def test_the_oldest_request_is_known(loop):
    waiting = Waiting()
    assert waiting.oldest is None
    jobs = [_job(loop, [1]), _job(loop, [1])]
    jobs[0].arrived, jobs[1].arrived = 7.0, 5.0
    for job in jobs:
        waiting.put(job)
    assert waiting.oldest == 5.0


def test_answers_may_come_in_any_order(loop):
    job = _job(loop, [1, 1, 1])
    job.put(1, ["b", "c"])
    assert not job.done.done()
    job.put(0, ["a"])
    assert job.done.done()
    assert job.answers == ["a", "b", "c"]
