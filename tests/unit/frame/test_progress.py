"""Progress: rates and time left in words."""

from __future__ import annotations

import logging

import pytest

from sparkml.frame import progress


def test_description_has_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    task = progress.ProgressTask("train", 200, "steps", None)
    now[0] = 170.0  # a slow start is no part of the rate
    task.update(1)
    assert task.describe() == "1/200 steps"
    now[0] = 180.0
    task.update(51, note="loss 3.2")
    assert task.describe() == "51/200 steps · 5.0 steps/s · 30 s left · loss 3.2"


def test_without_a_terminal_progress_goes_to_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    logging.getLogger("sparkml").propagate = True
    with (
        caplog.at_level("INFO", logger="sparkml.frame.progress"),
        progress.Progress().task("train", 10, "steps") as task,
    ):
        now[0] = 1.0
        task.advance(1)
        now[0] = 21.0
        task.advance(1)
    assert [record.getMessage() for record in caplog.records] == [
        "train: 2/10 steps · 0.1 steps/s · 160 s left"
    ]
