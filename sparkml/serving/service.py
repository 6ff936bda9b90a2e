"""What a service does with a request, whatever protocol it came by."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from sparkml.errors import SparkmlError
from sparkml.inference.batches import row_bytes
from sparkml.log import get_logger
from sparkml.serving.bodies import Asked, RefusedError
from sparkml.serving.metrics import Metrics
from sparkml.serving.pool import Pool, WorkerDiedError
from sparkml.serving.record import Record
from sparkml.serving.settings import ServeSettings
from sparkml.serving.versions import Route, Shelf, changed
from sparkml.serving.waiting import Job
from sparkml.serving.wire import Loaded

_log = get_logger(__name__)
# A version in the shadow is asked when everybody who came within this time has been answered.
_SHADOW_DELAY = 1.0
# Bytes of a token, about, and of text that takes as long to be split into tokens as a token to be looked at.
_TOKEN_BYTES, _SPLIT_BYTES = 4.5, 400
_MEDIA_TOKENS = 256


@dataclass(frozen=True)
class Said:
    """The answers to a request, and the version that gave them."""

    model: str
    role: str
    answers: list[dict[str, Any]]
    seconds: float
    computed: float


class Service:
    """The routes, the workers that hold their versions, and the log of what was answered."""

    def __init__(
        self,
        settings: ServeSettings,
        routes: Mapping[str, Route],
        shelf: Shelf,
        record: Record,
        metrics: Metrics,
    ) -> None:
        self.settings = settings
        self.metrics = metrics
        self.routes = dict(routes)
        self.stopping = False  # nothing is answered any more
        self.leaving = False  # what comes is answered, but nobody should send more
        self.broken: str | None = None
        self.on_broken: Callable[[], None] = lambda: None
        self._shelf = shelf
        self._record = record
        self._pool: Pool | None = None
        self._changing = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Load all versions; then the service is ready. InputError where one cannot be loaded."""
        self._pool = await self._new_pool(self.routes)
        self._record.start()
        if self.settings.follow_seconds and any(
            self._shelf.follows(one.asked) for one in self.routes.values()
        ):
            self._spawn(self._follow())

    async def stop(self) -> None:
        """Answer what is in work, for `grace_seconds` at most, and end."""
        self.stopping = True
        if self._pool is not None:
            await self._pool.stop(self.settings.grace_seconds)
        for task in tuple(self._tasks):
            task.cancel()
        await self._record.stop()

    def give_up(self, why: str) -> None:
        """The service cannot work, and ends."""
        self.broken = why
        self.on_broken()

    @property
    def ready(self) -> bool:
        """The weights are loaded and a worker lives."""
        return self._pool is not None and self._pool.alive > 0 and not (self.leaving or self.stopping)

    def facts(self, name: str) -> dict[str, Any]:
        """What a model of this service reads and says."""
        pool = self._ready_pool()
        return dict(pool.facts[self.route(name).primary.key])

    def measure(self) -> None:
        """Bring the gauges up to date."""
        pool = self._pool
        self.metrics.workers.set(0 if pool is None else pool.alive)
        self.metrics.queue.set(0.0 if pool is None else pool.expected_wait())

    def route(self, name: str | None) -> Route:
        """The model of that name, or the only one; `RefusedError` where there is none."""
        if name is None and len(self.routes) == 1:
            return next(iter(self.routes.values()))
        if name is None:
            raise RefusedError(422, f"name one of the models: {', '.join(sorted(self.routes))}", "model")
        if name not in self.routes:
            raise RefusedError(404, f"there is no model `{name}`: {', '.join(sorted(self.routes))}", "model")
        return self.routes[name]

    async def answer(self, asked: Asked, request_id: str, *, primary: bool = False) -> Said:
        """The answers to a request's examples. `RefusedError` where the service is busy, late, or cannot.

        `primary`: never by a canary, for who compares the answers of several requests.
        """
        begun = time.monotonic()
        pool = self._ready_pool()
        route = self.route(asked.model)
        version, role = (route.primary, "primary") if primary else route.draw()
        examples = asked.batch(pool.facts[version.key]["columns"])
        wait = pool.expected_wait()
        if wait > self.settings.queue_seconds:
            raise RefusedError(429, "the service is busy", retry_after=wait)
        job = await self._answered(pool, version, examples)
        said = Said(version.key, role, job.answers, time.monotonic() - begun, job.computed)
        self._count(said)
        self._record.keep(request_id, said, examples, always=route.shadow is not None)
        if route.shadow is not None:
            self._spawn(self._answer_in_shadow(pool, route.shadow, examples, request_id))
        return said

    async def change(self, name: str, change: Mapping[str, Any]) -> Route:
        """Let other versions answer under a name; no request is lost. InputError where one cannot be loaded."""
        async with self._changing:
            route = self.route(name)
            new = await asyncio.to_thread(changed, route, change, self._shelf.find)
            await self._switch({**self.routes, name: new})
            _log.info("%s: %s", name, new.told())
            return new

    async def _switch(self, routes: Mapping[str, Route]) -> None:
        old = self._ready_pool()
        if _versions(routes) != _versions(self.routes):
            self._pool = await self._new_pool(routes)
            self._spawn(old.stop(self.settings.grace_seconds))
        self.routes = dict(routes)

    async def _new_pool(self, routes: Mapping[str, Route]) -> Pool:
        settings = self.settings
        pool = Pool(
            _versions(routes),
            settings.worker_count,
            latency_seconds=settings.latency_seconds,
            engine=settings.engine,
            device=settings.device,
            metrics=self.metrics,
        )
        await pool.start()
        return pool

    async def _answered(
        self, pool: Pool, version: Loaded, examples: pa.RecordBatch, delay: float = 0.0
    ) -> Job:
        tokens = tokens_of(examples, pool.facts[version.key]["longest"])
        done = asyncio.get_running_loop().create_future()
        job = Job(version.key, examples, tokens, done, arrived=time.monotonic() + delay)
        try:
            pool.put(job)
            await asyncio.wait_for(done, self.settings.request_seconds)
        except asyncio.TimeoutError as error:
            raise RefusedError(504, "the answer took too long") from error
        except WorkerDiedError as error:
            raise RefusedError(500, error.what) from error
        finally:
            done.cancel()  # of a client that has gone nothing is computed any more
        return job

    async def _answer_in_shadow(
        self, pool: Pool, version: Loaded, examples: pa.RecordBatch, request_id: str
    ) -> None:
        if pool.expected_wait() > self.settings.queue_seconds / 2:
            return  # what is asked for goes first
        begun = time.monotonic()
        try:
            job = await self._answered(pool, version, examples, _SHADOW_DELAY)
        except RefusedError as refused:
            _log.warning("no answer in the shadow: %s", refused.what)
            return
        said = Said(version.key, "shadow", job.answers, time.monotonic() - begun, job.computed)
        self._count(said)
        self._record.keep(request_id, said, examples, always=True)

    def _count(self, said: Said) -> None:
        failed = sum(answer["error"] is not None for answer in said.answers)
        self.metrics.answers.labels(said.model, said.role, "error").inc(failed)
        self.metrics.answers.labels(said.model, said.role, "answered").inc(len(said.answers) - failed)
        if said.role != "shadow":
            self.metrics.seconds.labels(said.model).observe(said.seconds)

    async def _follow(self) -> None:
        """Take newer versions of the lake's models as they appear."""
        while True:
            await asyncio.sleep(self.settings.follow_seconds)
            try:
                async with self._changing:
                    await self._switch(
                        {name: await self._newest(route) for name, route in self.routes.items()}
                    )
            except (SparkmlError, OSError) as error:
                _log.warning("the models stay as they are: %s", str(error).replace("\n", " "))

    async def _newest(self, route: Route) -> Route:
        if not self._shelf.follows(route.asked):
            return route
        newest = await asyncio.to_thread(self._shelf.find, route.asked)
        if newest != route.primary:
            _log.info("%s: %s instead of %s", route.name, newest.key, route.primary.key)
        return replace(route, primary=newest)

    def _ready_pool(self) -> Pool:
        if self._pool is None or self.stopping:
            raise RefusedError(
                503, "the service is starting" if self._pool is None else "the service is stopping"
            )
        return self._pool

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _versions(routes: Mapping[str, Route]) -> list[Loaded]:
    return sorted({one for route in routes.values() for one in route.versions}, key=lambda one: one.key)


def tokens_of(examples: pa.RecordBatch, longest: int | None) -> list[int]:
    """About how much work each example is, in tokens: what batches are cut by before anything is tokenised."""
    if "media" in examples.schema.names:
        return [_MEDIA_TOKENS] * examples.num_rows
    size = np.asarray(row_bytes(examples))
    tokens = np.minimum(size / _TOKEN_BYTES, longest or math.inf) + size / _SPLIT_BYTES + 2
    return np.asarray(tokens, np.int64).tolist()  # type: ignore[no-any-return]  # numbers of Python
