"""The steps of one rank as tensors: read, put into parts, collated; for a GPU in a thread, in pinned memory."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any, TypeVar

import torch

from sparkml.distributed.collective import Collective
from sparkml.feed.batches import MicroBatch, micro_batches, parts_of
from sparkml.feed.groups import Rows
from sparkml.feed.plan import epoch_plan, steps_per_epoch
from sparkml.feed.reader import open_reader
from sparkml.tasks.draws import draws_of
from sparkml.tasks.task import Batch, Task
from sparkml.training.columns import SAMPLE_ID, widths_of
from sparkml.training.settings import SpreadSettings, TrainingJob

T = TypeVar("T")
# Steps that wait as tensors for a GPU; on a CPU a thread that collates would take from the network what it saves.
_AHEAD = 2
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class DataRank:
    """Which samples a rank is given: it is the `rank`th of `size` readers."""

    rank: int
    size: int


def data_rank(collective: Collective, settings: SpreadSettings) -> DataRank:
    """The reader that a rank is; ranks that compute a block together read the same."""
    group = settings.tensor_ranks
    return DataRank(collective.rank // group, collective.size // group)


@dataclass(frozen=True)
class FedStep:
    """What this rank is given in a step: its samples, and the passes that they are cut into."""

    number: int
    columns: Rows
    parts: list[Batch]


class TrainingFeed:
    """The training samples of one rank, step by step."""

    def __init__(self, job: TrainingJob, task: Task[Any], reader: DataRank, device: torch.device) -> None:
        self._job, self._task, self._reader = job, task, reader
        self._for_gpu = device.type == "cuda"
        self.manifest = job.train_manifest.read()
        self.epoch_steps = steps_per_epoch(self.manifest, job.loop.batch_size)

    def steps(self, first: int, last: int) -> Generator[FedStep, None, None]:
        """The steps `first` up to `last`, epoch after epoch."""
        collated = self._collated(first, last)
        return in_thread(collated, _AHEAD) if self._for_gpu else collated

    def one_sample(self) -> Batch:
        """Some sample, whatever this rank is given."""
        plan = epoch_plan(
            self.manifest,
            epoch=0,
            seed=self._job.seed,
            batch_size=1,
            n_streams=self._job.loop.canonical_streams,
        )
        reader = open_reader(self._job.reader, widths_of(self._task, self.manifest), self._job.feed)
        (batch,) = micro_batches(reader, plan, stop_step=1)
        return self._task.collate(batch.columns, draws_of(self._job.seed, 0, batch.columns[SAMPLE_ID]))

    def _collated(self, first: int, last: int) -> Generator[FedStep, None, None]:
        tokens = self._job.loop.micro_batch_tokens
        for number, batch in zip(range(first, last), self._batches(first), strict=False):
            parts = []
            for part in parts_of(batch.columns, tokens):
                draws = draws_of(self._job.seed, number, part[SAMPLE_ID])
                found = self._task.collate(part, draws)
                parts.append(found.pinned() if self._for_gpu else found)
            yield FedStep(number, batch.columns, parts)

    def _batches(self, first: int) -> Iterator[MicroBatch]:
        job = self._job
        reader = open_reader(job.reader, widths_of(self._task, self.manifest), job.feed)
        epoch, skipped = divmod(first, self.epoch_steps)
        while True:
            plan = epoch_plan(
                self.manifest,
                epoch=epoch,
                seed=job.seed,
                batch_size=job.loop.batch_size,
                n_streams=job.loop.canonical_streams,
            )
            yield from micro_batches(
                reader,
                plan,
                rank=self._reader.rank,
                world_size=self._reader.size,
                first_step=skipped,
                pool_steps=1 if self.manifest.is_packed else job.loop.pool_steps,
            )
            epoch, skipped = epoch + 1, 0


def in_thread(source: Generator[T, None, None], ahead: int) -> Generator[T, None, None]:
    """The same, made in a thread of its own while at most `ahead` wait; an error comes out where it was made.

    The thread ends when this generator does.
    """
    waiting: Queue[tuple[T | None, BaseException | None]] = Queue(ahead)
    stopped = Event()

    def put(item: T | None, error: BaseException | None) -> None:
        while not stopped.is_set():
            try:
                waiting.put((item, error), timeout=_POLL_SECONDS)
            except Full:
                continue
            return

    def make() -> None:
        try:
            for item in source:
                put(item, None)
                if stopped.is_set():
                    return
            put(None, None)
        except BaseException as error:  # handed over, not hidden
            put(None, error)
        finally:
            source.close()

    thread = Thread(target=make, daemon=True, name="feed")
    thread.start()
    try:
        while True:
            try:
                item, error = waiting.get(timeout=_POLL_SECONDS)
            except Empty:
                continue
            if error is not None:
                raise error
            if item is None:
                return
            yield item
    finally:
        stopped.set()
        thread.join()
