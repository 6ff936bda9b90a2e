"""A dialogue of one question: what is wanted, whether that is anything that is known, and which answers there are.

One model of the service says the intent, another gives vectors of questions; the frequent questions with their answers
come from a file. A question that is near to one of them gets its answer; else its intent, if the model is sure enough;
else it is out of scope.
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from sparkml.errors import InputError
from sparkml.frame import storage
from sparkml.serving.bodies import Asked, RefusedError
from sparkml.serving.service import Said, Service
from sparkml.serving.settings import ServeSettings

# Questions whose vectors are asked for at once, and the most there may be.
_AT_ONCE = 32
_MOST = 100_000
_NAMES = (("question", "answer"), ("text", "text_b"))


class ReplyBody(BaseModel):
    """What somebody says."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: str = Field(min_length=1, description="A question")


@dataclass(frozen=True)
class _Vectors:
    """Vectors [n, d] of the frequent questions, of length 1, by one version of a model."""

    model: str
    rows: NDArray[np.float32]


def read_faq(location: str) -> list[tuple[str, str]]:
    """Questions with answers from JSON Lines or CSV: fields `question` and `answer`, or `text` and `text_b`.

    InputError names the row that lacks them.
    """
    text = storage.read_bytes(location).decode("utf-8-sig")
    rows: Sequence[Mapping[str, Any]]
    try:
        if location.lower().endswith((".csv", ".tsv")):
            rows = list(
                csv.DictReader(io.StringIO(text), delimiter="\t" if location.lower().endswith("tsv") else ",")
            )
        else:
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError as error:
        raise InputError("the frequent questions cannot be read", where=location, got=str(error)) from error
    if not 0 < len(rows) <= _MOST:
        raise InputError(
            "frequent questions", where=location, got=f"{len(rows)} rows", expected=f"1 to {_MOST:,} rows"
        )
    return [_pair(row, f"{location}, row {number}") for number, row in enumerate(rows, 1)]


def _pair(row: Any, where: str) -> tuple[str, str]:
    for question, answer in _NAMES:
        if isinstance(row, dict) and row.get(question) and isinstance(row.get(answer), str):
            return str(row[question]), row[answer]
    got = ", ".join(row) if isinstance(row, dict) else type(row).__name__
    raise InputError("not a question with its answer", where=where, got=got, expected="question, answer")


class Dialogue:
    """Replies to questions with the models of a service."""

    def __init__(self, service: Service, settings: ServeSettings) -> None:
        self._service, self._settings = service, settings
        self._faq = read_faq(settings.faq) if settings.faq else []
        self._vectors: _Vectors | None = None
        self._learning = asyncio.Lock()
        for name in (settings.intents, settings.faq_model if settings.faq else ""):
            if name and name not in service.routes:
                raise InputError(
                    "the dialogue needs a model that is not served",
                    got=name,
                    expected=", ".join(sorted(service.routes)),
                )

    @property
    def is_there(self) -> bool:
        """Whether the service has anything to reply with."""
        return bool(self._settings.intents or self._faq)

    async def reply(self, text: str, request_id: str) -> dict[str, Any]:
        """The kind of the reply (`answer`, `intent`, `out_of_scope`), the intent, the nearest answers, the versions."""
        found: dict[str, Any] = {"kind": "out_of_scope", "intent": None, "answers": [], "models": []}
        if self._settings.intents:
            said = await self._service.answer(Asked.of(self._settings.intents, {"text": [text]}), request_id)
            answer = _good(said.answers[0])
            sure = answer["score"] is not None and answer["score"] >= self._settings.scope
            found["intent"] = {"label": answer["prediction"], "score": answer["score"], "in_scope": sure}
            found["models"].append(said.model)
            if sure:
                found["kind"] = "intent"
        if self._faq:
            model, nearest = await self._nearest(text, request_id)
            found["answers"] = nearest
            found["models"].append(model)
            if nearest[0]["similarity"] >= self._settings.faq_similarity:
                found["kind"] = "answer"
        return found

    async def _nearest(self, text: str, request_id: str) -> tuple[str, list[dict[str, Any]]]:
        said = await self._asked([text], request_id)
        vector = _unit(np.array([_vector(said.answers[0])], np.float32))[0]
        known = await self._known(said.model, request_id)
        similar = known.rows @ vector
        best = np.argsort(-similar, kind="stable")[: self._settings.faq_answers]
        answers = [
            {"question": self._faq[at][0], "answer": self._faq[at][1], "similarity": float(similar[at])}
            for at in best
        ]
        return said.model, answers

    async def _known(self, model: str, request_id: str) -> _Vectors:
        """Vectors of the frequent questions by the version that answers now: another one has others."""
        async with self._learning:
            while self._vectors is None or self._vectors.model != model:
                rows, models = [], set()
                for start in range(0, len(self._faq), _AT_ONCE):
                    questions = [question for question, _ in self._faq[start : start + _AT_ONCE]]
                    said = await self._asked(questions, request_id)
                    rows += [_vector(answer) for answer in said.answers]
                    models.add(said.model)
                if len(models) == 1:  # else the version was exchanged meanwhile: all of them again
                    (model,) = models
                    self._vectors = _Vectors(model, _unit(np.array(rows, np.float32)))
            return self._vectors

    async def _asked(self, texts: Sequence[str], request_id: str) -> Said:
        asked = Asked.of(self._settings.faq_model, {"text": texts})
        return await self._service.answer(asked, request_id, primary=True)


def _good(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    if answer["error"] is not None:
        raise RefusedError(422, str(answer["error"]), "text")
    return answer


def _vector(answer: Mapping[str, Any]) -> Any:
    vector = _good(answer)["embedding"]
    if vector is None:
        raise RefusedError(
            500, "the model of the frequent questions gives no vectors: it needs the task retrieve"
        )
    return vector


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: NDArray[np.float32] = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return found
