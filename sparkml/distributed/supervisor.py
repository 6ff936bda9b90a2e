"""The barrier task of one rank: exchanges addresses, starts the rank's process, passes on its reports, ends it.

The task itself never fails because of its rank: it tells the driver, which stops the attempt in good order and
decides what comes next. Only a supervisor that is killed makes Spark fail the stage.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from sparkml.compat.horovod import local_rank
from sparkml.distributed.channel import Connection, connect, own_address
from sparkml.distributed.collective import CollectiveName
from sparkml.distributed.rank import EXPLAIN_SIGNAL, RankJob
from sparkml.distributed.rendezvous import (
    Rendezvous,
    environment_of,
    open_rendezvous,
    torchrun_environment,
)

RESULT_COLUMNS = "rank int, result string"
_POLL_SECONDS = 0.1
_PUMP_SECONDS = 2.0
_RELEASE_SECONDS = 60.0
# Longer log lines reach the driver in pieces: a message has a limit.
_LOG_CHARACTERS = 8192


@dataclass(frozen=True)
class Assignment:
    """What every barrier task of an attempt is told."""

    entry: str
    payload: Mapping[str, Any]
    collective: CollectiveName
    joins: bool
    driver: tuple[str, int]
    token: str
    threads_per_rank: int
    environment: Mapping[str, str]
    collective_timeout_seconds: int


@dataclass(frozen=True)
class Place:
    """Where a rank stands among its peers."""

    rank: int
    hosts: list[str]
    store: tuple[str, int]
    listener_fd: int | None

    @property
    def local_rank(self) -> int:
        """The number of the rank among those of its host."""
        return local_rank(self.rank, self.hosts)


def supervise(assignment: Assignment) -> Iterator[pa.RecordBatch]:
    """Run this task's rank to its end; yields one row: the rank, and its result as JSON."""
    from pyspark import BarrierTaskContext

    task = BarrierTaskContext.get()
    rank = int(task.partitionId())
    address = own_address(assignment.driver[0])
    with ExitStack() as stack:
        driver = connect(*assignment.driver)
        stack.callback(driver.close)
        orders = _Orders(driver)
        driver.send({"hello": {"token": assignment.token, "rank": rank, "host": address}})
        rendezvous = open_rendezvous(assignment.collective, address) if rank == 0 else None
        if rendezvous is not None:
            stack.callback(rendezvous.close)
        place = _meet(task, rank, address, rendezvous)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sparkml-rank-")))
        process = _RankProcess(assignment, place, _gpu_environment(task), folder, driver)
        exit_code, result = process.run(orders)
        driver.send({"exit": {"code": exit_code}})
        # The rendezvous serves until the last rank has left; the driver says when.
        orders.stopped.wait(_RELEASE_SECONDS)
    yield pa.RecordBatch.from_pydict({"rank": pa.array([rank], pa.int32()), "result": [result]})


class _Orders:
    """What the driver wants: `stopped` when it says stop, or is gone; `explain` when the rank shall say where it is."""

    def __init__(self, driver: Connection) -> None:
        self.stopped, self.explain = threading.Event(), threading.Event()
        threading.Thread(target=self._listen, args=(driver,), daemon=True, name="driver-connection").start()

    def _listen(self, driver: Connection) -> None:
        for message in driver.messages():
            if "stop" in message:
                break
            if "explain" in message:
                self.explain.set()
        self.stopped.set()


def _meet(task: Any, rank: int, address: str, rendezvous: Rendezvous | None) -> Place:
    """Exchange addresses; rank 0 says where the ranks meet."""
    mine = {"host": address, "port": rendezvous.port if rendezvous is not None else 0}
    everyone = [json.loads(text) for text in task.allGather(json.dumps(mine))]
    hosts = [str(place["host"]) for place in everyone]
    if rendezvous is not None:
        rendezvous.meet(hosts)
    store = (hosts[0], int(everyone[0]["port"]))
    return Place(rank, hosts, store, rendezvous.fd if rendezvous is not None else None)


def _gpu_environment(task: Any) -> dict[str, str]:
    """The GPUs that Spark gave to this task and to no other."""
    gpus = task.resources().get("gpu")
    return {"CUDA_VISIBLE_DEVICES": ",".join(gpus.addresses)} if gpus is not None else {}


class _RankProcess:
    """The process of one rank, and the threads that pass on its output and its reports."""

    def __init__(
        self,
        assignment: Assignment,
        place: Place,
        gpu_environment: Mapping[str, str],
        folder: Path,
        driver: Connection,
    ) -> None:
        self._driver = driver
        self._result = ""
        self._job_file = folder / "job.json"
        report_read, report_write = os.pipe()
        job = RankJob(
            entry=assignment.entry,
            payload=assignment.payload,
            collective=assignment.collective,
            joins=assignment.joins,
            rank=place.rank,
            size=len(place.hosts),
            local_rank=place.local_rank,
            store=place.store,
            listener_fd=place.listener_fd,
            report_fd=report_write,
            supervisor_pid=os.getpid(),
            collective_timeout_seconds=assignment.collective_timeout_seconds,
        )
        self._job_file.write_text(job.to_json(), encoding="utf-8")
        inherited = [report_write] if place.listener_fd is None else [report_write, place.listener_fd]
        self._process = subprocess.Popen(
            [sys.executable, "-u", "-m", "sparkml.distributed.rank", str(self._job_file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**_environment(assignment, place), **gpu_environment},
            pass_fds=inherited,
            start_new_session=True,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        os.close(report_write)
        output = self._process.stdout
        pumps = [(self._pump_reports, os.fdopen(report_read, encoding="utf-8")), (self._pump_log, output)]
        self._pumps = [threading.Thread(target=run, args=(file,), daemon=True) for run, file in pumps]

    def run(self, orders: _Orders) -> tuple[int, str]:
        """Wait for its end, or end it when the driver says so; returns exit code and result as JSON."""
        for pump in self._pumps:
            pump.start()
        try:
            while self._process.poll() is None:
                if orders.stopped.wait(_POLL_SECONDS):
                    break
                if orders.explain.is_set():
                    orders.explain.clear()
                    self._process.send_signal(EXPLAIN_SIGNAL)
        finally:
            self._kill()
        for pump in self._pumps:
            pump.join(_PUMP_SECONDS)
        return self._process.wait(), self._result

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            # The whole session: a rank may have started processes of its own.
            os.killpg(self._process.pid, signal.SIGKILL)

    def _pump_log(self, file: IO[str]) -> None:
        while text := file.readline(_LOG_CHARACTERS):
            self._driver.send({"log": text.rstrip("\n")})

    def _pump_reports(self, file: IO[str]) -> None:
        for text in file:
            with suppress(ValueError):  # killed in the middle of a line
                message = json.loads(text)
                if "result" in message:
                    self._result = json.dumps(message["result"])  # goes to the driver as this task's row
                else:
                    self._driver.send(message)


def _environment(assignment: Assignment, place: Place) -> dict[str, str]:
    threads = str(assignment.threads_per_rank)
    found = environment_of(
        assignment.collective, place.rank, place.hosts, place.store, assignment.collective_timeout_seconds
    )
    if not assignment.joins:
        found |= torchrun_environment(place.rank, place.hosts, place.store)
    return {
        **os.environ,
        # What Spark shipped to this worker (a .zip of sparkml, say) is on its path only.
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "TOKENIZERS_PARALLELISM": "false",
        **assignment.environment,
        **found,
    }
