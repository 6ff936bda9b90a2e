"""The front process: listens, and ends as it is told to."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sparkml.errors import SparkmlError
from sparkml.serving.app import make_app
from sparkml.serving.metrics import Metrics
from sparkml.serving.record import Record
from sparkml.serving.service import Service
from sparkml.serving.settings import ServeSettings
from sparkml.serving.tokens import Tokens
from sparkml.serving.versions import Route, Shelf

# Request line and headers: so many bytes (what arrives with them of a body counts), within so many seconds.
_HEAD_BYTES, _HEAD_SECONDS = 1 << 20, 20.0


class ServiceFailedError(SparkmlError):
    """The models could not be loaded."""


class BoundedHttp(HttpToolsProtocol):
    """HTTP/1.1 as uvicorn speaks it; a client that never ends its headers, or never begins, is cut off."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come: its first request is awaited."""
        super().connection_made(transport)
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        self._have_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of a request."""
        if self._head_timer is None and (self.cycle is None or self.cycle.response_complete):
            self._await_head()  # the next request on this connection
        self._head_bytes += len(data)
        if self._head_timer is not None and self._head_bytes > _HEAD_BYTES:
            self.send_400_response("Headers too large.")
            return
        super().data_received(data)

    def on_headers_complete(self) -> None:
        """The head of a request is there."""
        self._have_head()
        super().on_headers_complete()

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(_HEAD_SECONDS, self._late)

    def _have_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _late(self) -> None:
        self._head_timer = None
        self.transport.close()


class _Server(uvicorn.Server):
    """Says that it is not ready any more before it stops listening."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM or SIGINT: answer what is in work, then end; a second one ends at once."""
        self._service.leaving = True
        super().handle_exit(sig, frame)


def http_config(app: Any, host: str, port: int, *, connections: int, grace: float) -> uvicorn.Config:
    """How an application listens."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http=BoundedHttp,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=connections,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(grace) + 1,
    )


def serve(settings: ServeSettings, routes: Mapping[str, Route], shelf: Shelf) -> None:
    """Serve until a signal ends it; ServiceFailedError where the models cannot be loaded."""
    tokens = Tokens(settings.token_file, settings.token_variable)
    metrics = Metrics()
    service = Service(settings, routes, shelf, Record(settings, metrics), metrics)
    config = http_config(
        make_app(service, tokens),
        settings.host,
        settings.port,
        connections=settings.connections,
        grace=settings.grace_seconds,
    )
    server = _Server(config, service)

    def end() -> None:
        server.should_exit = True

    service.on_broken = end
    run_server(server)
    if service.broken is not None:
        raise ServiceFailedError(service.broken)


def run_server(server: uvicorn.Server) -> None:
    """Serve until a signal ends it."""
    # Signals that uvicorn captured are raised again behind it: to have been told to stop is no failure.
    before = {sig: signal.signal(sig, lambda *_: None) for sig in (signal.SIGTERM, signal.SIGINT)}
    try:
        server.run()
    finally:
        for sig, handler in before.items():
            signal.signal(sig, handler)
