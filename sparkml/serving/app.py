"""The HTTP face of a service: paths, who may ask, and what is said when something is wrong."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, Field

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
from sparkml.serving.http import Guard, add_pages, bounded_body, known_caller, new_app, unless_gone
from sparkml.serving.metrics import CONTENT_TYPE
from sparkml.serving.occlusion import effects, parts_of, without_each
from sparkml.serving.service import Service
from sparkml.serving.tokens import Caller, Rate, Tokens

_log = get_logger(__name__)
_STEP = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_PAGES = {
    "/": "index.html",
    **{f"/{name}": f"{name}.html" for name in ("docs", "dialogue")},
    **{f"/{name}": name for name in ("ask.js", "page.js", "docs.js", "dialogue.js", "page.css")},
}


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
        said = await unless_gone(request, service.answer(asked, request.state.request_id))
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
        said = await unless_gone(request, service.answer(variants, request.state.request_id))
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
        said = await unless_gone(request, dialogue.reply(asked.text, request.state.request_id))
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

    add_pages(app, _PAGES)
    return Guard(app, service.metrics)


async def _start(service: Service) -> None:
    try:
        await service.start()
        _log.info("ready: %s", ", ".join(route.primary.key for route in service.routes.values()))
    except Exception as error:
        _log.error("the models could not be loaded: %s", error)
        service.give_up(f"the models could not be loaded: {error}")


def _dashboard(folder: str, step: str) -> Response:
    place = storage.join(folder, f"{step}.html") if folder and _STEP.fullmatch(step) else ""
    if not place or not storage.is_file(place):
        raise RefusedError(404, "there is no page of this monitor")
    # The page has a policy of its own: styles and pictures of its own, no script.
    policy = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
              "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"}  # fmt: skip
    return Response(storage.read_bytes(place), headers=policy, media_type="text/html; charset=utf-8")


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
