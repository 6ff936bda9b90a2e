"""A small service where people label the rows of a queue. Labels are appended to a Delta table; the latest counts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import pyarrow as pa
from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field

from sparkml.errors import SparkmlError, TableError
from sparkml.frame.delta import FolderTable
from sparkml.frame.schemas import LABELS
from sparkml.log import get_logger
from sparkml.serving.bodies import RefusedError, parsed
from sparkml.serving.http import Guard, add_pages, bounded_body, known_caller, new_app
from sparkml.serving.metrics import Metrics
from sparkml.serving.settings import LabelSettings
from sparkml.serving.tokens import Rate, Tokens

_log = get_logger(__name__)
_PAGES = {"/": "label.html", **{f"/{name}": name for name in ("ask.js", "label.js", "page.css")}}
_BODY_BYTES, _BODY_SECONDS = 1 << 20, 10.0
_MOST_ROWS = 200


class OneLabel(BaseModel):
    """What a row is."""

    model_config = ConfigDict(extra="forbid", strict=True)

    doc_id: str = Field(min_length=1, max_length=1000, description="The row's key")
    label: str = Field(min_length=1, max_length=200, description="What it is")


class LabelsBody(BaseModel):
    """Labels of some rows of the queue."""

    model_config = ConfigDict(extra="forbid", strict=True)

    labels: list[OneLabel] = Field(min_length=1, max_length=_MOST_ROWS)


@dataclass(frozen=True)
class _Known:
    """The tables at their versions."""

    versions: tuple[int | None, int | None]
    queue: dict[str, dict[str, Any]]
    labels: dict[str, str]


class Queue:
    """Rows to label, those of the highest priority first, and the labels that they were given."""

    def __init__(self, queue: FolderTable, labels: FolderTable, settings: LabelSettings) -> None:
        self._queue, self._labels, self._settings = queue, labels, settings
        self._known: _Known | None = None

    def open(self, most: int) -> dict[str, Any]:
        """Up to `most` rows without a label, how many there are and have one, and the labels to choose from."""
        known = self._read()
        rows = [row for doc_id, row in known.queue.items() if doc_id not in known.labels]
        rows.sort(key=lambda row: (-(row["priority"] or 0.0), row["doc_id"]))
        names = ("doc_id", "text", "prediction", "score", "reason")
        return {
            "open": len(rows),
            "labelled": sum(doc_id in known.labels for doc_id in known.queue),
            "choices": self._choices(known),
            "free": self._settings.free,
            "rows": [{name: row[name] for name in names} for row in rows[:most]],
        }

    def put(self, given: Sequence[OneLabel], who: str) -> int:
        """Append labels; RefusedError where a row is not in the queue or a label is none of the choices."""
        known = self._read()
        choices = self._choices(known)
        rows = []
        for at, one in enumerate(given):
            row = known.queue.get(one.doc_id)
            if row is None:
                raise RefusedError(404, "this row is not in the queue", "labels", at, "doc_id")
            if not self._settings.free and one.label not in choices:
                raise RefusedError(422, f"one of: {', '.join(choices[:50])}", "labels", at, "label")
            rows.append(
                {
                    "doc_id": one.doc_id,
                    "text": row["text"],
                    "label": one.label,
                    "prediction": row["prediction"],
                    "labelled_at": datetime.now(timezone.utc),
                    "labelled_by": who,
                }
            )
        self._labels.append(pa.Table.from_pylist(rows, LABELS), {})
        return len(rows)

    def _choices(self, known: _Known) -> list[str]:
        if self._settings.choices:
            return list(self._settings.choices)
        predicted = {row["prediction"] for row in known.queue.values() if row["prediction"]}
        return sorted(predicted | set(known.labels.values()))

    def _read(self) -> _Known:
        versions = (self._queue.version(), self._labels.version())
        if self._known is None or self._known.versions != versions:
            rows = self._queue.read(versions[0]).to_pylist() if versions[0] is not None else []
            given = self._labels.read(versions[1]).to_pylist() if versions[1] is not None else []
            given.sort(key=lambda row: row["labelled_at"])
            queue = {row["doc_id"]: row for row in rows}
            self._known = _Known(versions, queue, {row["doc_id"]: row["label"] for row in given})
        return self._known


def label_app(queue: Queue, tokens: Tokens, settings: LabelSettings) -> Any:
    """The ASGI application."""
    app = new_app("Rows that somebody should label.")
    rate = Rate(settings.requests_per_second)
    writing = asyncio.Lock()

    def caller_of(request: Request) -> str:
        caller = known_caller(request, tokens)
        wait = rate.wait(caller.name)
        if wait:
            raise RefusedError(429, "too many requests with this token", retry_after=wait)
        return caller.name

    @app.get("/v1/queue")
    async def rows(request: Request, limit: int = 20) -> dict[str, Any]:
        """Rows without a label, the most wanted first."""
        caller_of(request)
        return dict(await _asked(lambda: queue.open(min(max(limit, 1), _MOST_ROWS))))

    @app.post("/v1/labels")
    async def put(request: Request) -> dict[str, Any]:
        """Give rows their labels; a later label of a row takes the place of an earlier one."""
        who = caller_of(request)
        body = parsed(LabelsBody, await bounded_body(request, _BODY_BYTES, _BODY_SECONDS))
        async with writing:
            count = await _asked(lambda: queue.put(body.labels, who))
        request.state.noted |= {"labels": count}
        return {"labelled": count}

    @app.get("/health")
    async def health() -> dict[str, str]:
        """The process is alive."""
        return {"status": "alive"}

    @app.get("/ready")
    async def ready() -> dict[str, str]:
        """Rows are shown and labels taken."""
        return {"status": "ready"}

    add_pages(app, _PAGES)
    return Guard(app, Metrics())


async def _asked(work: Any) -> Any:
    """The tables are read and written beside the loop; a table that fails is told, without its place."""
    try:
        return await asyncio.to_thread(work)
    except (SparkmlError, OSError) as error:
        _log.error("%s", error)
        raise RefusedError(503, "the tables cannot be read or written just now", retry_after=5) from error


def label(settings: LabelSettings, queue: FolderTable, labels: FolderTable) -> None:
    """Serve until a signal ends it; TableError where there is no queue."""
    import uvicorn

    from sparkml.serving.server import http_config, run_server

    if queue.version() is None:
        raise TableError("there is no queue", next_action="the stage monitor makes it")
    tokens = Tokens(settings.token_file, settings.token_variable)
    app = label_app(Queue(queue, labels, settings), tokens, settings)
    config = http_config(app, settings.host, settings.port, connections=200, grace=10.0)
    run_server(uvicorn.Server(config))
