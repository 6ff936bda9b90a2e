"""Worker processes: started together, fed from the queue, replaced when they die."""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import struct
import time
from collections.abc import Sequence
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sparkml.errors import InputError, SparkmlError
from sparkml.log import get_logger
from sparkml.serving.metrics import Metrics
from sparkml.serving.pace import Pace
from sparkml.serving.waiting import Job, Piece, Waiting
from sparkml.serving.wire import Loaded, packed, unpacked, work

_log = get_logger(__name__)
# What every worker imports: once, in the process that they are forked from.
_PRELOADED = ["sparkml.serving.worker"]
# A worker that dies this soon after its start is started again after a pause, each time a longer one.
_SOON_SECONDS, _LONGEST_PAUSE = 10.0, 30.0
_DEATHS_OF_A_JOB = 2
# A batch that takes so many times what was expected, and so many seconds, has hung.
_HUNG_FACTOR, _HUNG_SECONDS = 50.0, 60.0


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context


def prepare() -> None:
    """Let the process that workers are forked from import what they need, beside what this one does meanwhile."""
    _context()
    forkserver.ensure_running()


class WorkerDiedError(SparkmlError):
    """A request ended its worker, twice."""


class _Worker:
    """One process with its channel; `batch` is what it works on."""

    def __init__(self, models: Sequence[Loaded], engine: str, device: str) -> None:
        context = _context()
        ours, theirs = socket.socketpair()
        self.process: BaseProcess = context.Process(
            target=work, args=(theirs, list(models), engine, device), daemon=True, name="sparkml-worker"
        )
        self.process.start()
        theirs.close()
        self._socket = ours
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self.batch: list[Piece] | None = None
        self.sent = 0.0
        self.expected = 0.0
        self.started = time.monotonic()
        self.facts: dict[str, Any] = {}

    async def ready(self) -> dict[str, Any]:
        """Wait until the models are loaded: what the worker says of them; InputError where it cannot load them."""
        self._reader, self._writer = await asyncio.open_connection(sock=self._socket, limit=1 << 20)
        header, _ = await self.receive()
        if "failed" in header:
            raise InputError("a worker could not load its models", got=header["failed"])
        self.facts = header["models"]
        return self.facts

    async def receive(self) -> tuple[dict[str, Any], pa.RecordBatch | None]:
        """The next message; EOFError where the process has ended."""
        if self._reader is None:
            raise EOFError
        try:
            (size,) = struct.unpack("!i", await self._reader.readexactly(4))
            if size < 0:
                (size,) = struct.unpack("!Q", await self._reader.readexactly(8))
            return unpacked(await self._reader.readexactly(size))
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise EOFError from error

    def send(self, message: bytes) -> None:
        """As `Connection.send_bytes` frames it."""
        if self._writer is not None:
            size = len(message)
            long = size > 0x7FFFFFFF
            self._writer.write(struct.pack("!iQ", -1, size) if long else struct.pack("!i", size))
            self._writer.write(message)

    def stop(self) -> None:
        """Hang up: the process ends when it has answered."""
        if self._writer is not None:
            self._writer.close()

    async def ended(self, seconds: float) -> None:
        """Wait for the process to end; after so many seconds it is killed."""
        until = time.monotonic() + seconds
        while self.process.is_alive() and time.monotonic() < until:
            await asyncio.sleep(0.01)
        if self.process.is_alive():
            self.process.kill()
        await asyncio.to_thread(self.process.join, 5)


class Pool:
    """The workers of one set of models, and the requests that wait for them.

    A free worker is given, of the model whose request has waited longest, as many tokens as it answers within
    `latency_seconds`. What a dead worker leaves is tried once more, each request without company.
    """

    def __init__(
        self,
        models: Sequence[Loaded],
        count: int,
        *,
        latency_seconds: float,
        engine: str,
        device: str,
        metrics: Metrics,
    ) -> None:
        self.models = list(models)
        self.facts: dict[str, Any] = {}
        self._count = count
        self._latency = latency_seconds
        self._engine, self._device = engine, device
        self._metrics = metrics
        self._waiting = {one.key: Waiting() for one in models}
        self._paces = {one.key: Pace() for one in models}
        self._workers: list[_Worker] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def start(self) -> None:
        """Start all workers and wait until they have loaded; InputError where one cannot."""
        workers = [_Worker(self.models, self._engine, self._device) for _ in range(self._count)]
        try:
            self.facts = (await asyncio.gather(*(worker.ready() for worker in workers)))[0]
        except (EOFError, SparkmlError) as error:
            for worker in workers:
                worker.process.kill()
            if isinstance(error, SparkmlError):
                raise
            raise InputError(
                "a worker process died while it loaded its models",
                expected=f"memory for {self._count} workers",
                next_action="fewer workers (--set workers=N), or more memory",
            ) from error
        for worker in workers:
            self._add(worker)

    @property
    def alive(self) -> int:
        """Workers that can answer."""
        return len(self._workers)

    @property
    def idle(self) -> bool:
        """Nobody waits and nothing is being answered."""
        return not any(self._waiting.values()) and all(worker.batch is None for worker in self._workers)

    def expected_wait(self) -> float:
        """Seconds until a worker has time for a new request."""
        waiting = ((self._paces[key], waiting.tokens) for key, waiting in self._waiting.items())
        seconds = sum(pace.seconds(tokens) for pace, tokens in waiting if tokens)
        return seconds / max(1, len(self._workers))

    def put(self, job: Job) -> None:
        """A request, which is answered through its future."""
        self._waiting[job.model].put(job)
        self._feed()

    async def stop(self, seconds: float) -> None:
        """Answer what waits, at most so long, then end the workers."""
        until = time.monotonic() + seconds
        while not self.idle and self._workers and time.monotonic() < until:
            await asyncio.sleep(0.01)
        self._stopping = True
        for worker in self._workers:
            worker.stop()
        await asyncio.gather(*(worker.ended(2.0) for worker in self._workers))
        for task in self._tasks:
            task.cancel()

    def _add(self, worker: _Worker) -> None:
        self._workers.append(worker)
        self._spawn(self._listen(worker))
        self._feed()

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _feed(self) -> None:
        """Give a batch to every worker that is free."""
        for worker in self._workers:
            if worker.batch is not None:
                continue
            key = self._next()
            if key is None:
                return
            budget = self._paces[key].tokens_within(self._latency)
            pieces = self._waiting[key].take(budget)
            if pieces:
                self._give(worker, key, pieces)

    def _next(self) -> str | None:
        oldest = {key: waiting.oldest for key, waiting in self._waiting.items() if len(waiting)}
        return min(oldest, key=lambda key: oldest[key] or 0.0, default=None)

    def _give(self, worker: _Worker, key: str, pieces: list[Piece]) -> None:
        batches = [piece.job.examples.slice(piece.start, piece.stop - piece.start) for piece in pieces]
        batch = batches[0] if len(batches) == 1 else pa.concat_batches(batches)
        worker.batch = pieces
        worker.sent = time.monotonic()
        worker.expected = self._paces[key].seconds(sum(piece.tokens for piece in pieces))
        worker.send(packed({"model": key}, batch))

    async def _listen(self, worker: _Worker) -> None:
        watch = asyncio.get_running_loop().create_task(self._kill_if_hung(worker))
        try:
            while True:
                header, answers = await worker.receive()
                self._answered(worker, header, answers)
                self._feed()
        except EOFError:
            if not self._stopping:
                await self._replace(worker)
        finally:
            watch.cancel()

    def _answered(self, worker: _Worker, header: dict[str, Any], answers: pa.RecordBatch | None) -> None:
        pieces, worker.batch = worker.batch or [], None
        if answers is None or not pieces:
            return
        key = pieces[0].job.model
        tokens = sum(piece.tokens for piece in pieces)
        self._paces[key].learn(tokens, header["seconds"])
        n_tokens = int(pc.sum(answers["n_tokens"]).as_py() or 0)
        self._metrics.batch(key, answers.num_rows, n_tokens, header["seconds"])
        start = 0
        for piece in pieces:
            count = piece.stop - piece.start
            piece.job.computed += header["seconds"] * piece.tokens / max(1, tokens)
            piece.job.put(piece.start, answers.slice(start, count).to_pylist())
            start += count

    async def _replace(self, worker: _Worker) -> None:
        """A worker has died: its requests are tried again, another worker takes its place."""
        lived = time.monotonic() - worker.started
        self._workers.remove(worker)
        self._metrics.deaths.inc()
        _log.error("worker %s died after %.0f s: another one starts", worker.process.pid, lived)
        for piece in worker.batch or []:
            piece.job.deaths += 1
            if piece.job.deaths >= _DEATHS_OF_A_JOB:
                piece.job.fail(WorkerDiedError("the worker died over this request, twice"))
            elif not piece.job.done.done():
                self._waiting[piece.job.model].put_again(piece)
        self._feed()
        pause = 0.0 if lived > _SOON_SECONDS else 0.1
        while not self._stopping:
            await asyncio.sleep(pause)
            new = _Worker(self.models, self._engine, self._device)
            try:
                await new.ready()
            except (EOFError, SparkmlError, OSError) as error:
                pause = min(_LONGEST_PAUSE, 2 * pause + 0.5)
                _log.error(
                    "a new worker did not start, the next one in %.1f s: %s", pause, error or "it died"
                )
                continue
            self._add(new)
            return

    async def _kill_if_hung(self, worker: _Worker) -> None:
        while True:
            await asyncio.sleep(1.0)
            limit = max(_HUNG_SECONDS, _HUNG_FACTOR * worker.expected)
            if worker.batch is not None and time.monotonic() - worker.sent > limit:
                _log.error("worker %s has not answered for %.0f s: killed", worker.process.pid, limit)
                worker.process.kill()
