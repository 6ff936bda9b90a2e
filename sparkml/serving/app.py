"""The HTTP face of a service: paths, who may ask, and what is said when something is wrong."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import ClientDisconnect

from sparkml import __version__
from sparkml.errors import SparkmlError
from sparkml.frame import storage
from sparkml.log import get_logger
from sparkml.serving.bodies import (
    ARROW,
    JSON,
    AnswersBody,
    Asked,
    Limits,
    RefusedError,
    ScoreBody,
    arrow_answers,
    field_of,
    json_answers,
    parsed,
    read_body,
)
from sparkml.serving.dialogue import Dialogue, ReplyBody
from sparkml.serving.metrics import CONTENT_TYPE, Metrics
from sparkml.serving.occlusion import effects, parts_of, without_each
from sparkml.serving.service import Service
from sparkml.serving.tokens import Caller, Rate, Tokens

_log = get_logger(__name__)
_access = logging.getLogger("sparkml.access")
_STEP = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PAGES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/docs": ("docs.html", "text/html; charset=utf-8"),
    "/dialogue": ("dialogue.html", "text/html; charset=utf-8"),
    "/dialogue.js": ("dialogue.js", "text/javascript; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/docs.js": ("docs.js", "text/javascript; charset=utf-8"),
    "/ask.js": ("ask.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
}
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
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class ExplainBody(BaseModel):
    """A text whose answer is to be explained."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str | None = Field(
        None, description="Name of a model of this service; needed where it has several"
    )
    text: str = Field(min_length=1, description="The text")
    label: str | None = Field(None, description="The label whose score is explained; null: the one predicted")


class ChangeBody(BaseModel):
    """Which versions shall answer under a name; what is left out stays, null takes a version away."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str | None = Field(None, description="`classifier/v4`, or a directory")
    canary: str | None = Field(None, description="A version that answers a share of the requests")
    canary_share: float | None = Field(None, ge=0, le=1, description="That share")
    shadow: str | None = Field(None, description="A version that answers too, into the log table alone")


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


def make_app(service: Service, tokens: Tokens) -> Any:
    """The ASGI application of a service; its life time starts and stops the workers."""
    settings = service.settings
    limits = Limits(settings.examples, settings.example_bytes)
    rate = Rate(settings.requests_per_second)
    dialogue = Dialogue(service, settings)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        starting = asyncio.create_task(_start(service))
        yield
        starting.cancel()
        await service.stop()

    app = new_app("Answers of trained models.", life)

    def caller_of(request: Request, *, admin: bool = False, counted: bool = False) -> Caller:
        caller = known_caller(request, tokens)
        if admin and not caller.admin:
            raise RefusedError(403, "this needs the token of an administrator")
        wait = rate.wait(caller.name) if counted else 0.0
        if wait:
            raise RefusedError(429, "too many requests with this token", retry_after=wait)
        return caller

    async def body_of(request: Request) -> bytes:
        return await bounded_body(request, settings.body_bytes, settings.body_seconds)

    @app.post("/v1/score", response_model=AnswersBody, openapi_extra=_score_docs())
    async def score(request: Request) -> Response:
        """Answer texts, pairs, words or media; one that cannot be answered has an `error`, the others their answers."""
        caller_of(request, counted=True)
        body = await body_of(request)
        kind = request.headers.get("content-type", JSON)
        asked = read_body(body, kind, limits)
        said = await _unless_gone(request, service.answer(asked, request.state.request_id))
        request.state.noted |= {"model": said.model, "role": said.role, "examples": len(said.answers)}
        request.state.noted |= {"computed": round(said.computed, 4)}
        if ARROW in kind or request.headers.get("accept", "").startswith(ARROW):
            return Response(arrow_answers(said.model, said.answers), media_type=ARROW)
        return Response(json_answers(said.model, said.answers, asked.top_labels), media_type=JSON)

    @app.post("/v1/explain", openapi_extra=_body_docs(ExplainBody, {"text": "the train was late"}))
    async def explain(request: Request) -> dict[str, Any]:
        """How much each part of a text adds to a label's score: the score less that without the part (occlusion)."""
        caller_of(request, counted=True)
        asked = parsed(ExplainBody, await body_of(request))
        if len(asked.text.encode()) > settings.example_bytes:
            raise RefusedError(422, f"at most {settings.example_bytes} bytes", "text")
        facts = service.facts(service.route(asked.model).name)
        if facts["columns"] != ["text"]:
            raise RefusedError(422, f"this model answers from `{field_of(facts['columns'])}`", "text")
        parts = parts_of(asked.text)
        variants = Asked.of(asked.model, {"text": without_each(asked.text, parts)})
        said = await _unless_gone(request, service.answer(variants, request.state.request_id))
        return {"model": said.model, **effects(asked.text, parts, said.answers, asked.label)}

    @app.post("/v1/reply", openapi_extra=_body_docs(ReplyBody, {"text": "where is my card?"}))
    async def reply(request: Request) -> dict[str, Any]:
        """The intent of a question, or that it is out of scope, and the nearest of the frequent questions' answers."""
        caller_of(request, counted=True)
        if not dialogue.is_there:
            raise RefusedError(404, "this service has no dialogue: see the settings `intents` and `faq`")
        asked = parsed(ReplyBody, await body_of(request))
        if len(asked.text.encode()) > settings.example_bytes:
            raise RefusedError(422, f"at most {settings.example_bytes} bytes", "text")
        said = await _unless_gone(request, dialogue.reply(asked.text, request.state.request_id))
        request.state.noted |= {"kind": said["kind"]}
        return dict(said)

    @app.get("/v1/models")
    async def models(request: Request) -> dict[str, Any]:
        """The models by name: their versions, what they read and which labels they know."""
        caller_of(request)
        found = [{**route.told(), **service.facts(name)} for name, route in sorted(service.routes.items())]
        return {"models": [{**one, "body": field_of(one["columns"])} for one in found]}

    @app.post("/v1/models/{name}", openapi_extra=_body_docs(ChangeBody, {"model": "classifier/v4"}))
    async def change(name: str, request: Request) -> dict[str, Any]:
        """Let other versions answer under a name, without losing a request. Needs an administrator's token."""
        caller_of(request, admin=True)
        asked = parsed(ChangeBody, await body_of(request))
        try:
            return (await service.change(name, asked.model_dump(exclude_unset=True))).told()
        except SparkmlError as error:
            raise RefusedError(422, error.message()) from error

    @app.get("/health")
    async def health() -> dict[str, str]:
        """The process is alive."""
        return {"status": "alive"}

    @app.get("/ready")
    async def ready() -> dict[str, Any]:
        """The weights are loaded and requests are answered (503: not yet, or not any more)."""
        if not service.ready:
            raise RefusedError(503, "stopping" if service.leaving else "no worker has loaded the models")
        return {"status": "ready", "models": sorted(service.routes)}

    @app.get("/metrics", response_class=Response)
    async def metrics(request: Request) -> Response:
        """Figures for Prometheus."""
        caller_of(request)
        service.measure()
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)

    @app.get("/dashboard/{step}", response_class=Response)
    async def dashboard(step: str, request: Request) -> Response:
        """The page of a monitor, as its last run has left it. A browser asks for a password: that is the token."""
        known_caller(request, tokens, "Basic")
        return await asyncio.to_thread(_dashboard, settings.dashboards, step)

    for path, (name, kind) in _PAGES.items():
        add_page(app, path, name, kind)
    return Guard(app, service.metrics)


async def _start(service: Service) -> None:
    try:
        await service.start()
        _log.info("ready: %s", ", ".join(route.primary.key for route in service.routes.values()))
    except Exception as error:
        _log.error("the models could not be loaded: %s", error)
        service.give_up(f"the models could not be loaded: {error}")


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


def _dashboard(folder: str, step: str) -> Response:
    place = storage.join(folder, f"{step}.html") if folder and _STEP.fullmatch(step) else ""
    if not place or not storage.is_file(place):
        raise RefusedError(404, "there is no page of this monitor")
    # The page has a policy of its own: styles and pictures of its own, no script.
    policy = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
              "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"}  # fmt: skip
    return Response(storage.read_bytes(place), headers=policy, media_type="text/html; charset=utf-8")


def add_page(app: FastAPI, path: str, name: str, kind: str) -> None:
    content = (files("sparkml.serving") / "page" / name).read_bytes()

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


async def _unless_gone(request: Request, work: Any) -> Any:
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


def _body_docs(kind: type[BaseModel], example: dict[str, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": kind.model_json_schema(), "example": example}}
    return {"requestBody": {"required": True, "content": content}}


def _score_docs() -> dict[str, Any]:
    examples = {
        "texts": {"texts": ["Great film.", "I left after an hour."]},
        "pairs": {"pairs": [["Is the museum open on Mondays?", "It is closed on Mondays."]]},
        "tokens": {"tokens": [["Ada", "Lovelace", "lived", "in", "London", "."]]},
    }
    docs = _body_docs(ScoreBody, {})
    json_body = docs["requestBody"]["content"]["application/json"]
    del json_body["example"]
    json_body["examples"] = {name: {"value": value} for name, value in examples.items()}
    docs["requestBody"]["content"][ARROW] = {"schema": {"type": "string", "format": "binary"}}
    refusals = {
        "401": "No token, or a wrong one",
        "413": "The body, or the number of examples, is too large",
        "422": "A field that is wrong, named in `loc`",
        "429": "Too busy, or too many requests: `Retry-After` says when again",
        "504": "The answer took too long",
    }
    return {**docs, "responses": {code: {"description": text} for code, text in refusals.items()}}
