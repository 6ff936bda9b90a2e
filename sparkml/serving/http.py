"""What every service over HTTP has: ids, headers, tokens, bounded bodies, one form of errors, pages."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.requests import ClientDisconnect

from sparkml import __version__
from sparkml.log import get_logger
from sparkml.serving.bodies import JSON, RefusedError
from sparkml.serving.metrics import Metrics
from sparkml.serving.tokens import Caller, Tokens

_log = get_logger(__name__)
_access = logging.getLogger("sparkml.access")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
# Asked every few seconds by whoever watches the service: no lines in the log.
_PROBES = ("/health", "/ready", "/metrics")
# A client that has gone: nobody reads the status, the log does.
_GONE = 499
_KINDS = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
}
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Guard:
    """What holds for every request: an id, headers, its line in the log, its count, and an answer to every error."""

    def __init__(self, app: Any, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        state = scope.setdefault("state", {})
        request_id = state["request_id"] = _request_id(scope)
        status = 0

        async def sent(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                given = list(message.get("headers", ()))
                own = {name.lower() for name, _ in given}
                added = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]
                added.append((b"x-request-id", request_id.encode()))
                message["headers"] = [*given, *(pair for pair in added if pair[0] not in own)]
            await send(message)

        try:
            await self._app(scope, receive, sent)
        except Exception as error:  # it has been answered: see `_failed`
            _log.error("request %s failed", request_id, exc_info=error)
        finally:
            self._note(scope, state, status, time.perf_counter() - begun)

    def _note(
        self, scope: MutableMapping[str, Any], state: dict[str, Any], status: int, seconds: float
    ) -> None:
        path = getattr(scope.get("route"), "path", None) or "other"
        self._metrics.requests.labels(path, status).inc()
        if path not in _PROBES and _access.isEnabledFor(logging.INFO):
            line = {"request": state["request_id"], "method": scope["method"], "path": path, "status": status}
            line |= {"seconds": round(seconds, 4), **state.get("noted", {})}
            _access.info("%s", json.dumps(line))


def _request_id(scope: MutableMapping[str, Any]) -> str:
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"").decode(
        "latin-1"
    )
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


def _refusal(refused: RefusedError) -> Response:
    headers = {}
    if refused.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(refused.retry_after)))
    if refused.status == 401:
        headers["WWW-Authenticate"] = refused.scheme
    return Response(refused.body(), refused.status, headers, JSON)


def _refused(_: Request, error: Exception) -> Response:
    return _refusal(error) if isinstance(error, RefusedError) else Response(status_code=_GONE)


def _failed(_: Request, error: Exception) -> Response:
    return _refusal(RefusedError(500, "the service failed; its log has the request's id"))


def new_app(about: str, life: Callable[[FastAPI], Any] | None = None) -> FastAPI:
    """An application whose errors are answered in one form."""
    app = FastAPI(
        title="sparkml",
        version=__version__,
        description=f"{about} `Authorization: Bearer TOKEN` with every request but `/health` and `/ready`.",
        docs_url=None,
        redoc_url=None,
        lifespan=life,
    )
    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(ClientDisconnect, _refused)
    app.add_exception_handler(Exception, _failed)
    return app


def known_caller(request: Request, tokens: Tokens, scheme: str = "Bearer") -> Caller:
    """Who asks; RefusedError where nobody does who may. With the scheme `Basic` the password may be the token."""
    header = request.headers.get("authorization") or ""
    if scheme == "Basic" and header.lower().startswith("basic "):
        header = f"Bearer {_password(header[6:])}"
    caller = tokens.caller(header)
    if caller is None:
        raise RefusedError(401, "a token is needed: Authorization: Bearer TOKEN", scheme=scheme)
    request.state.noted = {"caller": caller.name}
    return caller


def _password(encoded: str) -> str:
    try:
        return base64.b64decode(encoded, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


def add_pages(app: FastAPI, pages: Mapping[str, str]) -> None:
    """Serve files of `sparkml/serving/page`: path -> name. Their kind follows from the name."""
    for path, name in pages.items():
        _add_page(app, path, name)


def _add_page(app: FastAPI, path: str, name: str) -> None:
    content = (files("sparkml.serving") / "page" / name).read_bytes()
    kind = _KINDS[name.rpartition(".")[2]]

    @app.get(path, include_in_schema=False)
    async def page() -> Response:
        return Response(content, media_type=kind)


async def bounded_body(request: Request, most: int, seconds: float) -> bytes:
    """The body, bounded in bytes and time whatever the headers say."""
    declared = request.headers.get("content-length", "0")
    if not declared.isdigit() or int(declared) > most:
        raise RefusedError(413, f"a body has at most {most} bytes")
    found = bytearray()

    async def read() -> None:
        async for part in request.stream():
            found.extend(part)
            if len(found) > most:
                raise RefusedError(413, f"a body has at most {most} bytes")

    try:
        await asyncio.wait_for(read(), seconds)
    except asyncio.TimeoutError as error:
        raise RefusedError(408, "the body took too long") from error
    return bytes(found)


async def unless_gone(request: Request, work: Any) -> Any:
    """The result of `work`, which is given up when the client hangs up."""
    doing = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((doing, gone), return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise ClientDisconnect
        return doing.result()
    finally:
        doing.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
