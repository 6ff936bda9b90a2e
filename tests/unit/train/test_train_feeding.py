"""Steps that are made ahead in a thread: the same ones, errors where they belong, nobody left behind."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from sparkml.tasks.task import Batch, make_task, task_class
from sparkml.training.feeding import DataRank, TrainingFeed, in_thread


def numbers(until: int, made: list[int]):
    for number in range(until):
        made.append(number)
        yield number


def test_the_items_come_in_order_and_few_are_made_ahead():
    made: list[int] = []
    items = in_thread(numbers(50, made), 2)
    assert next(items) == 0
    time.sleep(0.2)
    assert len(made) <= 4  # the one that was taken, two that wait, one that waits to wait
    assert list(items) == list(range(1, 50))


def test_an_error_comes_out_behind_what_was_made_before_it():
    def broken():
        yield 1
        raise ValueError("a shard is gone")

    items = in_thread(broken(), 2)
    assert next(items) == 1
    with pytest.raises(ValueError, match="a shard is gone"):
        next(items)


def test_who_leaves_ends_the_thread_and_closes_the_source():
    closed = threading.Event()

    def source():
        try:
            while True:
                yield 1
        finally:
            closed.set()

    items = in_thread(source(), 2)
    next(items)
    items.close()
    assert closed.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name == "feed"]


def test_for_a_gpu_the_steps_are_the_same_in_pinned_memory(training_job, monkeypatch):
    pinned: list[int] = []
    monkeypatch.setattr(Batch, "pinned", lambda self: pinned.append(self.rows) or self)  # no GPU here
    job = training_job(batch_size=24)
    task = make_task(job.task, task_class(job.task["name"]).read_inputs(job.start.folder))
    steps = {}
    for kind in ("cpu", "cuda"):
        feed = TrainingFeed(job, task, DataRank(0, 1), torch.device(kind))
        steps[kind] = list(feed.steps(2, 9))
    assert [step.number for step in steps["cuda"]] == list(range(2, 9))
    for one, other in zip(*steps.values(), strict=True):
        assert one.columns["sample_id"].tolist() == other.columns["sample_id"].tolist()
        for part, same in zip(one.parts, other.parts, strict=True):
            assert torch.equal(part.inputs["input_ids"], same.inputs["input_ids"])
    assert sum(pinned) == sum(len(step.columns["sample_id"]) for step in steps["cuda"])
