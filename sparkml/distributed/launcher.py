"""Starts a function on many ranks inside a Spark barrier stage, and again when an attempt fails."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Thread
from typing import Any

import pyarrow as pa
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from sparkml.distributed.collective import CollectiveName
from sparkml.distributed.hub import AttemptError, Hub, StepDone, Timeouts
from sparkml.distributed.rank import RankFunction, entry_name, missing_package
from sparkml.distributed.retries import Failures, HighestStep, retry_for_slots
from sparkml.distributed.slots import check_slots, slots_error
from sparkml.distributed.supervisor import RESULT_COLUMNS, Assignment, supervise
from sparkml.errors import SparkmlError, TrainingError
from sparkml.log import get_logger

_log = get_logger(__name__)
_VERDICT_SECONDS = 3.0
_STOP_SECONDS = 10.0


@dataclass(frozen=True)
class LaunchOptions:
    """How ranks are started and watched; times in seconds.

    `max_attempts` limits the failed attempts in a row of which none got further than those before;
    `slots_seconds` is how long an attempt after the first waits for lost executors to be replaced. A machine that has
    gone silent keeps its slots until Spark gives it up (`spark.storage.blockManagerHeartbeatTimeoutMs`, else
    `spark.network.timeout`): the wait must be longer than that.
    """

    ranks: int
    collective: CollectiveName = "horovod"
    max_attempts: int = 3
    threads_per_rank: int = 1
    heartbeat_seconds: float = 12.0
    step_seconds: float = 300.0
    start_seconds: float = 180.0
    slots_seconds: float = 300.0
    join_seconds: float = 60.0
    joins: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def timeouts(self) -> Timeouts:
        """The hub's part of the options."""
        return Timeouts(
            self.heartbeat_seconds,
            self.step_seconds,
            self.start_seconds,
            self.slots_seconds,
            self.join_seconds,
        )


@dataclass(frozen=True)
class LaunchResult:
    """What every rank returned, in the order of the ranks, and how many attempts it took."""

    results: tuple[Mapping[str, Any], ...]
    attempts: int


def launch(
    spark: SparkSession,
    function: RankFunction,
    payload: Mapping[str, Any],
    options: LaunchOptions,
    *,
    on_progress: Callable[[StepDone], None] = lambda done: None,
) -> LaunchResult:
    """Run `function(payload, collective, reporter)` on every rank.

    `payload` and the results are JSON values. A rank that dies, hangs or fails ends the attempt within
    seconds; the next attempt starts the same function again, which goes on from its own checkpoint. The first attempt
    raises SlotsError at once where the cluster is too small; later ones wait for lost executors to be replaced
    before they do. Raises an error of ours from a rank as it is, and TrainingError when `max_attempts` in a row
    have gained nothing.
    """
    entry = entry_name(function)
    check_slots(spark, options.ranks)
    failures = Failures(options.max_attempts)
    attempt = 0
    while True:
        attempt += 1
        highest = HighestStep(on_progress)
        # The first attempt has found the slots that it needs; a later one may have to wait for them.
        waiting = options if attempt > 1 else replace(options, slots_seconds=0.0)
        start = partial(_attempt, spark, entry, payload, waiting, highest)
        try:
            results = start() if attempt == 1 else retry_for_slots(start, options.slots_seconds)
        except AttemptError as error:
            failures.add(highest.step)
            if failures.are_too_many:
                raise _given_up(error, attempt, failures) from error
            _log.warning(
                "attempt %d failed (failure %d of %d in a row): %s",
                attempt,
                failures.in_a_row,
                failures.limit,
                error,
            )
        else:
            return LaunchResult(results, attempt)


def _attempt(
    spark: SparkSession,
    entry: str,
    payload: Mapping[str, Any],
    options: LaunchOptions,
    on_progress: Callable[[StepDone], None],
) -> tuple[Mapping[str, Any], ...]:
    advertised = spark.conf.get("spark.driver.host", None) or "127.0.0.1"
    hub = Hub(_bind_address(spark, advertised), options.ranks, options.timeouts, on_progress)
    assignment = Assignment(
        entry=entry,
        payload=payload,
        collective=options.collective,
        joins=options.joins,
        driver=(advertised, hub.port),
        token=hub.token,
        threads_per_rank=options.threads_per_rank,
        environment=options.environment,
        collective_timeout_seconds=max(60, int(options.step_seconds)),
    )
    try:
        rows = _collect(spark, _barrier_frame(spark, assignment, options.ranks), hub)
    except (PySparkException, Py4JError) as error:  # a stage that fails arrives as Py4J's own error
        if "SPARK-24819" in str(error) or "requires more slots" in str(error):
            raise slots_error(spark, options.ranks, "fewer, according to Spark") from error
        raise hub.wait_for_failure(_VERDICT_SECONDS) or _spark_failed(error) from error
    finally:
        hub.close()
    if hub.failure is not None:
        raise hub.failure
    return tuple(json.loads(row["result"]) for row in sorted(rows, key=lambda row: int(row["rank"])))


def _barrier_frame(spark: SparkSession, assignment: Assignment, ranks: int) -> DataFrame:
    def task(_rows: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from supervise(assignment)

    return spark.range(0, ranks, 1, ranks).mapInArrow(task, RESULT_COLUMNS, barrier=True)


def _collect(spark: SparkSession, frame: DataFrame, hub: Hub) -> list[Any]:
    """Run the stage. A supervisor that does not answer to stop is ended by Spark a little later."""
    tag = f"sparkml-attempt-{uuid.uuid4().hex}"
    spark.addTag(tag)
    ended = False

    def interrupt_unresponsive() -> None:
        hub.finished.wait()
        if not hub.drained.wait(_STOP_SECONDS) and not ended:
            spark.interruptTag(tag)

    Thread(target=interrupt_unresponsive, daemon=True, name="attempt-interrupt").start()
    try:
        return list(frame.collect())
    finally:
        ended = True
        spark.removeTag(tag)


def _bind_address(spark: SparkSession, advertised: str) -> str:
    return spark.conf.get("spark.driver.bindAddress", None) or advertised


def _spark_failed(error: Exception) -> SparkmlError:
    # What a Python worker raised is the last line that does not belong to a Java stack.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith(("at ", "...", "Driver stacktrace", "SQLSTATE"))]
    raised = [line for line in said if "Error: " in line or "Exception: " in line]
    got = (raised or said or [type(error).__name__])[-1]
    if got.startswith("ModuleNotFoundError"):
        return missing_package(got, where="the Python of an executor")
    return AttemptError("the barrier stage failed", got=got)


def _given_up(error: AttemptError, attempts: int, failures: Failures) -> TrainingError:
    gained = f", the last {failures.in_a_row} without progress" if failures.in_a_row < attempts else ""
    return TrainingError(
        error.what,
        where=error.where,
        got=error.got,
        expected=error.expected,
        next_action=f"given up after {attempts} attempts{gained}; the same command goes on from the last checkpoint",
    )
