"""The log of answers: a sample of the requests, and all that a shadow version answered, in a Delta table."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sparkml.errors import SparkmlError
from sparkml.frame.delta import FolderTable
from sparkml.frame.schemas import SERVED
from sparkml.log import get_logger
from sparkml.serving.metrics import Metrics
from sparkml.serving.settings import ServeSettings

if TYPE_CHECKING:
    from sparkml.serving.service import Said

_log = get_logger(__name__)
# Rows that wait to be written, at most: where the table cannot be written the newest are lost, and counted.
_MOST_WAITING = 100_000


class Record:
    """Appends what was answered every few seconds; a request never waits for it."""

    def __init__(self, settings: ServeSettings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._table = FolderTable("served", settings.log_table) if settings.log_table else None
        self._rows: list[dict[str, Any]] = []
        self._writing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Write from now on."""
        if self._table is not None:
            self._writing = asyncio.get_running_loop().create_task(self._write_on())

    async def stop(self) -> None:
        """Write what waits."""
        if self._writing is not None:
            self._writing.cancel()
        await self._write()

    def keep(self, request_id: str, said: Said, examples: pa.RecordBatch, *, always: bool) -> None:
        """Keep the answers to a request, if it is among the sample, or `always`."""
        if self._table is None or not (always or random.random() < self._settings.log_share):
            return
        if len(self._rows) + len(said.answers) > _MOST_WAITING:
            self._metrics.log_lost.inc(len(said.answers))
            return
        model_id, _, version = said.model.partition("/v")
        now = datetime.now(timezone.utc)
        texts = _texts(examples)
        for place, answer in enumerate(said.answers):
            self._rows.append(
                {
                    "request_id": request_id,
                    "place": place,
                    "answered_at": now,
                    "model_id": model_id,
                    "model_version": int(version) if version.isdigit() else None,
                    "role": said.role,
                    "text": texts[place] if self._settings.log_texts else None,
                    "text_hash": _hash(texts[place]),
                    "seconds": said.seconds,
                    **{name: answer[name] for name in ("prediction", "score", "scores", "error", "n_tokens")},
                }
            )

    async def _write_on(self) -> None:
        while True:
            await asyncio.sleep(self._settings.log_seconds)
            await self._write()

    async def _write(self) -> None:
        if self._table is None or not self._rows:
            return
        rows, self._rows = self._rows, []
        try:
            await asyncio.to_thread(self._table.append, pa.Table.from_pylist(rows, SERVED), {})
        except (SparkmlError, OSError) as error:
            _log.warning("the log table was not written, again later: %s", str(error).replace("\n", " "))
            self._rows = [*rows, *self._rows][:_MOST_WAITING]


def _texts(examples: pa.RecordBatch) -> Sequence[str | None]:
    """Texts, pairs with a line between them, words with blanks; of images and sounds nothing."""
    names = examples.schema.names
    if "media" in names:
        return [None] * examples.num_rows
    columns = [examples.column(name).to_pylist() for name in names]
    return [
        None
        if any(part is None for part in row)
        else "\n".join(part if isinstance(part, str) else " ".join(part) for part in row)
        for row in zip(*columns, strict=True)
    ]


def _hash(text: str | None) -> str | None:
    return None if text is None else hashlib.sha256(text.encode()).hexdigest()
