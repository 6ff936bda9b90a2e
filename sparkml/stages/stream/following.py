"""A streaming query from its start to its end: trigger, checkpoint, stop, errors, latencies."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pyspark.errors import PySparkException, StreamingQueryException
from pyspark.sql import DataFrame
from pyspark.sql.streaming.query import StreamingQuery

from sparkml.errors import SparkmlError, StreamError
from sparkml.frame import storage
from sparkml.frame.tables import first_line
from sparkml.log import get_logger
from sparkml.stages.stream.config import AVAILABLE_NOW, StreamConfig

_log = get_logger(__name__)
_POLL_SECONDS = 1
_SCHEMA_CHANGED = "DELTA_SCHEMA_CHANGED"
_DATA_LOSS = ("KAFKA_DATA_LOSS", "failOnDataLoss", "OffsetOutOfRange")
# A table's columns changed: the query is started again, then from a new checkpoint.
_MOST_STARTS = 3


class _StoppedError(Exception):
    """A batch came after the stream was told to stop: it comes again in the next run."""


@dataclass
class Following:
    """Runs a query over `checkpoint`, once or (where the columns of a table change) a few times."""

    config: StreamConfig
    checkpoint: str
    stream: Callable[[], DataFrame]
    on_batch: Callable[[DataFrame, int], None]
    step: str
    latencies: dict[int, float] = field(default_factory=dict)  # seconds by batch, of those that had something
    _error: BaseException | None = None
    _stopping: bool = False
    _turn: threading.Lock = field(default_factory=threading.Lock)
    _deadline: float = float("inf")

    def run(self) -> None:
        """Until all that was there is done, or (of an endless trigger) until the time is up; else it raises."""
        if self.config.max_seconds is not None:
            self._deadline = time.monotonic() + self.config.max_seconds
        for start in range(1, _MOST_STARTS + 1):
            try:
                self._run_once()
                return
            except StreamingQueryException as error:
                if self._error is not None:
                    raise self._error from error
                if _SCHEMA_CHANGED not in str(error) or start == _MOST_STARTS:
                    raise self._described(error) from error
                _log.warning("the columns of the source have changed: the stream starts again")
                if start == _MOST_STARTS - 1:
                    # Files of before the change do not fit the new columns. What the table holds now comes anew; what
                    # of it was answered is known.
                    storage.remove(self.checkpoint)

    def _run_once(self) -> None:
        writer = self.stream().writeStream.foreachBatch(self._guarded())
        writer = writer.option("checkpointLocation", storage.spark_uri(self.checkpoint))
        if self.config.trigger == AVAILABLE_NOW:
            query = writer.trigger(availableNow=True).start()
        else:
            query = writer.trigger(processingTime=self.config.trigger).start()
        try:
            self._wait(query)
        finally:
            self._note(query)
            if query.isActive:
                query.stop()

    def _wait(self, query: StreamingQuery) -> None:
        while not query.awaitTermination(_POLL_SECONDS):
            self._note(query)
            if time.monotonic() >= self._deadline:
                with self._turn:  # held while a batch is at work
                    self._stopping = True
                query.stop()
                return

    def _guarded(self) -> Callable[[DataFrame, int], None]:
        # The batch comes in a thread of py4j; logs and tests follow the context of this one.
        context = contextvars.copy_context()

        def take(batch: DataFrame, number: int) -> None:
            with self._turn:
                if self._stopping:
                    raise _StoppedError(number)
                try:
                    context.run(self.on_batch, batch, number)
                except BaseException as error:
                    self._error = error  # the query tells of it in words alone
                    raise RuntimeError(str(error)) from error

        return take

    def _note(self, query: StreamingQuery) -> None:
        try:
            recent = query.recentProgress
        except PySparkException:  # the session is gone: the query says why
            return
        for progress in recent:
            if progress["numInputRows"]:
                self.latencies[progress["batchId"]] = progress["durationMs"]["triggerExecution"] / 1000

    def _described(self, error: StreamingQueryException) -> SparkmlError:
        text = str(error)
        lost = any(mark in text for mark in _DATA_LOSS)
        return StreamError(
            "records that were not read yet are gone from the topic" if lost else "the stream has failed",
            where=f"step `{self.step}`, checkpoint {storage.redacted(self.checkpoint)}",
            got=storage.redacted(first_line(error)[:500]),
            next_action="remove the checkpoint to begin with what is there; answers that are there stay"
            if lost
            else "repeat the step: it goes on with the batch before which it stopped",
        )
