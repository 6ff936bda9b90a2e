"""Ranks in a real barrier stage: they meet, and whoever is lost is named and replaced."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from sparkml import distributed
from sparkml.distributed.launcher import LaunchOptions, _spark_failed, launch
from sparkml.errors import InputError, MissingToolError, SlotsError, TrainingError

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER))

import rank_functions as ranks  # noqa: E402

QUICK = {"heartbeat_seconds": 8.0, "step_seconds": 8.0, "start_seconds": 600.0}


@pytest.fixture(scope="module")
def shipped(spark):
    """The workers get the rank functions as any shipped module."""
    spark.addArtifacts(str(FOLDER / "rank_functions.py"), pyfile=True)
    return spark


@pytest.mark.parametrize("collective", ["horovod", "torch"])
def test_two_ranks_meet_in_a_barrier_stage(shipped, collective, caplog):
    caplog.set_level("INFO")
    steps = []
    done = launch(shipped, ranks.meet, {}, LaunchOptions(2, collective, **QUICK), on_progress=steps.append)
    # A rank that waits leaves its core to whoever computes.
    assert done.results[0].pop("waiting") < 0.3
    done.results[1].pop("waiting")
    assert done.results == (
        {"rank": 0, "size": 2, "sum": [1.0, 2.0], "heard": 7.0},
        {"rank": 1, "size": 2, "sum": [1.0, 2.0], "heard": 7.0},
    )
    assert done.attempts == 1
    assert [(p.step, p.total, p.values) for p in steps] == [(1, 1, {"loss": 0.5})]
    assert {"[rank 0] met", "[rank 1] met"} <= {record.getMessage() for record in caplog.records}


@pytest.mark.parametrize(
    ("how", "collective"),
    [("kill", "horovod"), ("stop", "torch")],
)
def test_a_lost_rank_ends_the_attempt_and_the_next_one_succeeds(shipped, how, collective, tmp_path, caplog):
    payload = {"memory": str(tmp_path / "memory"), "how": how, "always": False}
    done = launch(shipped, ranks.lose_a_rank_once, payload, LaunchOptions(2, collective, **QUICK))
    assert (done.attempts, [r["first_time"] for r in done.results]) == (2, [False, False])
    (warning,) = [
        r.getMessage()
        for r in caplog.records
        if "attempt 1 failed (failure 1 of 3 in a row)" in r.getMessage()
    ]
    assert {
        "kill": "rank 1 was killed by SIGKILL",
        "stop": "rank 1 hangs: no heartbeat for",
    }[how] in warning
    assert "after step 1" in warning


def test_a_rank_that_never_comes_back_is_named_and_leaves_nobody_behind(shipped, tmp_path):
    payload = {"memory": str(tmp_path / "memory"), "how": "sleep", "always": True}
    with pytest.raises(TrainingError, match="rank 1 hangs: no step done") as caught:
        launch(shipped, ranks.lose_a_rank_once, payload, LaunchOptions(2, max_attempts=1, **QUICK))
    assert "given up after 1 attempts" in str(caught.value)
    assert "in end_badly" in str(caught.value)  # it was asked where it stands
    assert not Path(f"/proc/{Path(payload['memory']).read_text()}").exists()


def test_an_error_of_ours_is_raised_as_it_is_and_not_tried_again(shipped, tmp_path):
    payload = {"memory": str(tmp_path / "memory"), "how": "input", "always": True}
    with pytest.raises(InputError) as caught:
        launch(shipped, ranks.lose_a_rank_once, payload, LaunchOptions(2, **QUICK))
    assert (caught.value.what, caught.value.where) == ("a shard is broken", "part-7")


def test_a_host_that_lacks_a_package_is_not_tried_again(shipped, caplog):
    with pytest.raises(MissingToolError, match="lacks a package that its rank needs") as caught:
        launch(shipped, ranks.import_what_is_not_there, {}, LaunchOptions(2, **QUICK))
    assert caught.value.got == "No module named 'there_is_no_such_package'"
    assert "attempt 1 failed" not in caplog.text
    said = _spark_failed(
        RuntimeError("Job aborted\nModuleNotFoundError: No module named 'sparkml'\nat org.apache.spark")
    )
    assert isinstance(said, MissingToolError)
    assert "make zip" in said.next_action


def test_fewer_slots_than_ranks_is_said_at_once(shipped):
    started = time.monotonic()
    with pytest.raises(SlotsError, match=r"got: 2 slots\n  expected: 3 slots"):
        launch(shipped, ranks.meet, {}, LaunchOptions(3))
    assert time.monotonic() - started < 1


# Any function, as TorchDistributor and HorovodRunner run it.


@pytest.mark.parametrize("collective", ["horovod", "torch"])
def test_any_function_runs_on_ranks_and_joins_its_own_group(shipped, collective):
    offset = 10  # of the function's closure: it is shipped as Spark ships any other

    def work(factor: int, *, of: str) -> tuple[int, float, str]:
        import torch

        if of == "horovod":
            import horovod.torch as hvd

            hvd.init()
            total = hvd.allreduce(torch.tensor([1.0 + hvd.rank()]), op=hvd.Sum)
            return hvd.rank(), factor * total.item() + offset, of
        import torch.distributed as dist

        dist.init_process_group("gloo")
        total = torch.tensor([1.0 + dist.get_rank()])
        dist.all_reduce(total)
        return dist.get_rank(), factor * total.item() + offset, of

    found = distributed.run(work, 2, ranks=2, collective=collective, spark=shipped, of=collective)
    assert found == [(0, 16.0, collective), (1, 16.0, collective)]


def test_a_function_that_fails_is_told(shipped):
    def work() -> None:
        raise ValueError("no such luck")

    with pytest.raises(TrainingError, match="failed with ValueError: no such luck"):
        distributed.run(work, ranks=2, spark=shipped)
