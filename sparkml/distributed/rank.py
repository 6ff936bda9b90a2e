"""The process of one rank: `python -m sparkml.distributed.rank JOB.json`, started by its supervisor.

It ends with its supervisor, however that one ends: the kernel kills it, and a closed stdin does where the
kernel cannot. Exit codes: 0 done, 1 this rank failed, 3 another rank failed and this one noticed.
"""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import json
import os
import resource
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sparkml.distributed.collective import Collective, CollectiveName
from sparkml.distributed.reporter import COLLECTIVE, JOIN, Reporter, WatchedCollective
from sparkml.distributed.unjoined import Unjoined
from sparkml.errors import MissingToolError, SparkmlError, UsageError

EXIT_FAILED, EXIT_PEER_FAILED = 1, 3
# At this signal a rank writes where each of its threads stands into its log.
EXPLAIN_SIGNAL = signal.SIGUSR1
_PR_SET_PDEATHSIG = 1
# Of each part of an error: a message to the driver has a limit, and the log has the whole.
_ERROR_CHARACTERS = 8192

RankFunction = Callable[[Mapping[str, Any], Collective, Reporter], Mapping[str, Any]]


@dataclass(frozen=True)
class RankJob:
    """What a rank needs to know.

    `entry` is `module:function`; `local_rank` is its number among the ranks of its host; only rank 0 of torch has a
    `listener_fd`. `joins`: the group is there before the function runs, else the function makes it.
    """

    entry: str
    payload: Mapping[str, Any]
    collective: CollectiveName
    joins: bool
    rank: int
    size: int
    local_rank: int
    store: tuple[str, int]
    listener_fd: int | None
    report_fd: int
    supervisor_pid: int
    collective_timeout_seconds: int

    def to_json(self) -> str:
        """For the job file."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> RankJob:
        """Read the job file."""
        fields = json.loads(text)
        return cls(**{**fields, "store": tuple(fields["store"])})


def entry_name(function: RankFunction) -> str:
    """`module:function` of a function at the top of a module; UsageError for any other."""
    name = f"{function.__module__}:{function.__qualname__}"
    if "." in function.__qualname__ or function.__module__ == "__main__":
        raise UsageError("ranks run a function at the top of an importable module", got=name)
    return name


def main(job_file: str) -> int:
    """Run the job and report its result or error; returns the exit code."""
    job = RankJob.from_json(Path(job_file).read_text(encoding="utf-8"))
    _end_with_supervisor(job.supervisor_pid)
    faulthandler.register(EXPLAIN_SIGNAL, all_threads=True)
    # Horovod ends by SIGABRT when a peer is missing: nobody wants a core file of that.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    reporter = Reporter(os.fdopen(job.report_fd, "w", encoding="utf-8"))
    try:
        function = _resolve(job.entry)
        # It counts as starting until its first collective call: imports alone can take a minute on a busy host.
        group = (
            _join(job, reporter)
            if job.joins
            else Unjoined(job.rank, job.size, job.local_rank, _store_of(job))
        )
        watched = WatchedCollective(group, reporter)
        result = dict(function(job.payload, watched, reporter))
        watched.shutdown()
    except Exception as error:  # the border of the process: everything is reported, nothing is hidden
        traceback.print_exc()
        in_collective = reporter.phase in (JOIN, COLLECTIVE)
        reporter.send({"error": _describe(error)})
        return EXIT_PEER_FAILED if in_collective else EXIT_FAILED
    reporter.send({"result": result})
    return 0


def _resolve(entry: str) -> RankFunction:
    module, _, name = entry.partition(":")
    function: RankFunction = getattr(importlib.import_module(module), name)
    return function


def _join(job: RankJob, reporter: Reporter) -> Collective:
    if job.collective == "horovod":
        from sparkml.compat.horovod import HorovodCollective, load_horovod

        load_horovod()
        with reporter.joining():
            return HorovodCollective()
    from sparkml.distributed.torch_group import TorchCollective

    with reporter.joining():
        return TorchCollective(job.rank, job.size, job.local_rank, _store_of(job))


def _store_of(job: RankJob) -> Any:
    """The store at which torch's ranks meet; Horovod has its own."""
    if job.collective == "horovod":
        return None
    from sparkml.distributed.torch_group import open_store

    return open_store(job.store, job.size, job.listener_fd, job.collective_timeout_seconds)


def missing_package(said: str, where: str) -> MissingToolError:
    """The error of a host on which ranks cannot run: to try again would not help."""
    return MissingToolError(
        "a host lacks a package that its rank needs",
        where=where,
        got=said,
        next_action="send sparkml itself by --py-files (make zip), and its packages as an environment (make env) "
        "or an image that every host has",
    )


def _describe(error: Exception) -> dict[str, str]:
    if isinstance(error, ModuleNotFoundError):
        error = missing_package(str(error), where=f"host {socket.gethostname()}")
    fields = {"what": str(error)}
    if isinstance(error, SparkmlError):
        fields = {
            "what": error.what,
            "where": error.where,
            "got": error.got,
            "expected": error.expected,
            "next_action": error.next_action,
        }
    cut = {name: text[:_ERROR_CHARACTERS] for name, text in fields.items()}
    return {"kind": type(error).__name__, **cut}


def _end_with_supervisor(supervisor_pid: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor_pid:
        os._exit(EXIT_FAILED)  # it died before the kernel knew
    threading.Thread(target=_wait_for_end_of_stdin, daemon=True, name="supervisor-watch").start()


def _wait_for_end_of_stdin() -> None:
    while os.read(0, 1):
        pass
    os._exit(EXIT_FAILED)


if __name__ == "__main__":
    code = main(sys.argv[1])
    sys.stdout.flush()
    sys.stderr.flush()
    # Horovod's and Gloo's threads may still run; an orderly exit could wait for a peer that is gone.
    os._exit(code)
