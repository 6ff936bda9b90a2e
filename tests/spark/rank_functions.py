"""Functions that the tests run on ranks; shipped to the workers as a file of their own."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import psutil
import torch

from sparkml.errors import InputError


def meet(payload, collective, reporter):
    """Every rank adds its number, hears rank 0's, and says where it ran; rank 0 has to wait for a second."""
    tensor = torch.tensor([float(collective.rank), 1.0])
    collective.barrier()
    if collective.rank:
        time.sleep(1)
    before = time.thread_time()
    collective.allreduce_(tensor)
    waiting = time.thread_time() - before
    heard = torch.tensor([float(collective.rank + 7)])
    collective.broadcast_(heard, 0)
    collective.barrier()
    reporter.progress(1, 1, loss=0.5)
    sys.stderr.write("met\n")
    return {
        "rank": collective.rank,
        "size": collective.size,
        "sum": tensor.tolist(),
        "heard": heard.item(),
        "waiting": waiting,
    }


def import_what_is_not_there(payload, collective, reporter):
    """As on a host without what the others have."""
    import there_is_no_such_package  # noqa: F401


def lose_a_rank_once(payload, collective, reporter):
    """Rank 1 is killed, stopped or failing at its third step, the first time only."""
    memory = Path(payload["memory"])
    first_time = not memory.exists()
    for step in range(5):
        if step == 2 and collective.rank == 1 and (first_time or payload["always"]):
            memory.write_text(str(os.getpid()))
            end_badly(payload["how"])
        collective.allreduce_(torch.ones(3))
        reporter.progress(step, 5)
    return {"first_time": first_time}


def end_badly(how: str) -> None:
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    if how == "sleep":
        time.sleep(600)
    if how == "raise":
        raise ValueError("the third step is not for me")
    if how == "input":
        raise InputError("a shard is broken", where="part-7", got="half a file")


def lose_an_executor_once(payload, collective, reporter):
    """Goes on from the step that rank 0 has saved; rank 1 loses its executor before step 3, the first time only.

    `how`: "kill" (the executor dies) or "freeze" (its whole machine falls silent, and nobody is told).
    """
    folder = Path(payload["folder"])
    saved, lost = folder / f"{payload['how']}-step", folder / f"{payload['how']}-pids"
    first = torch.tensor([int(saved.read_text()) if saved.exists() else 0])
    collective.broadcast_(first, 0)
    for step in range(int(first), 5):
        if step == 3 and collective.rank == 1 and not lost.exists():
            executor = own_executor()
            machine = [executor, *executor.children(recursive=True)]
            lost.write_text(" ".join(str(process.pid) for process in machine))
            if payload["how"] == "kill":
                executor.kill()
                time.sleep(600)  # the kernel ends this process with its supervisor
            for process in machine:
                if process.pid != os.getpid():
                    process.suspend()
            os.kill(os.getpid(), signal.SIGSTOP)
        collective.allreduce_(torch.ones(3))
        if collective.rank == 0:
            saved.write_text(str(step + 1))
        reporter.progress(step + 1, 5)
    return {"first_step": int(first)}


def own_executor() -> psutil.Process:
    """The JVM that started this rank's Python worker."""
    (executor,) = [
        p for p in psutil.Process().parents() if "CoarseGrainedExecutorBackend" in " ".join(p.cmdline())
    ]
    return executor
