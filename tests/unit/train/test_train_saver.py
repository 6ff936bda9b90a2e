"""Checkpoints that are written behind the training's back."""

from __future__ import annotations

import threading

import pytest
import torch

from sparkml.training.checkpoint import Checkpoints, Position, load_checkpoint
from sparkml.training.saver import Saver
from tests.unit.train.trainings import run, same, weights


def at(step: int) -> Position:
    return Position(step=step, batch_size=4, n_streams=8, seed=1, manifest_id="m")


def test_what_is_written_is_what_was_there_when_it_began(tmp_path, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()
    save = Checkpoints.save

    def slow(self, *what):
        begun.set()
        assert go_on.wait(10)
        save(self, *what)

    monkeypatch.setattr(Checkpoints, "save", slow)
    weight, moment = torch.ones(3), torch.zeros(3)
    checkpoints = Checkpoints(str(tmp_path), keep=2)
    with Saver(checkpoints) as saver:
        saver.save({"w": weight}, {"m": moment}, at(5))
        assert begun.wait(10)
        weight.fill_(7.0)  # the training goes on
        go_on.set()
    found = {"w": torch.zeros(3)}
    assert load_checkpoint(checkpoints.latest(), found, {"m": torch.zeros(3)}, at(0)) == 5
    assert found["w"].tolist() == [1.0, 1.0, 1.0]


def test_a_full_disk_at_a_checkpoint_is_a_warning_and_the_next_one_is_written(tmp_path, monkeypatch, caplog):
    checkpoints = Checkpoints(str(tmp_path), keep=3)
    save = Checkpoints.save

    def full(self, weights, others, position, share):
        if position.step == 2:
            raise OSError(28, "No space left on device")
        save(self, weights, others, position, share)

    monkeypatch.setattr(Checkpoints, "save", full)
    with Saver(checkpoints) as saver:
        for step in (1, 2, 3):
            saver.save({"w": torch.ones(1)}, {}, at(step))
    assert saver.failures == 1
    assert "No space left on device" in caplog.text
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "step-00000001",
        "step-00000003",
    ]


def test_other_errors_are_not_hidden(tmp_path, monkeypatch):
    def wrong(*_):
        raise ValueError("a fault of ours")

    monkeypatch.setattr(Checkpoints, "save", wrong)
    with (
        pytest.raises(ValueError, match="a fault of ours"),
        Saver(Checkpoints(str(tmp_path), keep=1)) as saver,
    ):
        saver.save({}, {}, at(1))


def test_a_training_whose_disk_is_full_ends_with_the_same_weights(training_job, monkeypatch):
    expected = training_job("whole")
    run(expected)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Checkpoints, "save", full)
    job = training_job("full")
    assert run(job)["failed_checkpoints"] == 3.0
    assert same(weights(expected), weights(job))
