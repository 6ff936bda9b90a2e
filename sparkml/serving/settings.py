"""How a service listens, what it allows, and what it keeps."""

from __future__ import annotations

import os
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class ServeSettings(BaseModel):
    """The settings of `sparkml serve`, each with a default that is safe on a machine that others can reach."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0: every interface")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0: a free one")
    token_file: str = Field(
        "", description="Lines `TOKEN`, `NAME TOKEN` or `NAME TOKEN admin`; read again when it changes"
    )
    token_variable: str = Field("SPARKML_TOKENS", description="Environment variable with such lines")
    workers: int = Field(0, ge=0, le=1024, description="Worker processes, one thread each; 0: one a core")
    engine: str = Field("auto", description="What runs the networks; auto: the fastest that can")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a GPU where there is one")
    latency_seconds: float = Field(
        0.05, gt=0, le=60, description="A batch holds as many tokens as a worker answers in this time"
    )
    queue_seconds: float = Field(
        2.0, gt=0, description="Requests that would wait longer are refused (429 with Retry-After)"
    )
    request_seconds: float = Field(30.0, gt=0, description="Longest time for an answer (504)")
    body_seconds: float = Field(10.0, gt=0, description="Longest time for a request's body to arrive (408)")
    body_bytes: int = Field(4 << 20, ge=1024, description="Largest body (413)")
    examples: int = Field(512, ge=1, description="Most examples of a request (413)")
    example_bytes: int = Field(1 << 20, ge=16, description="Largest example (422)")
    requests_per_second: float = Field(0.0, ge=0, description="Of a token, on average (429); 0: any number")
    connections: int = Field(2000, ge=1, description="Open connections; more are refused (503)")
    grace_seconds: float = Field(
        30.0, ge=0, description="Time for requests in work when the service is stopped"
    )
    follow_seconds: float = Field(
        30.0, ge=0, description="How often the lake is asked for newer versions of the models; 0: never"
    )
    log_share: float = Field(0.0, ge=0, le=1, description="Part of the requests that `log_table` keeps")
    log_table: str = Field(
        "", description="Delta table of answers (a folder or URI); also of shadow versions"
    )
    log_texts: bool = Field(False, description="Keep the texts in `log_table` too; else their hash alone")
    log_seconds: float = Field(10.0, gt=0, description="How often `log_table` is written")

    dashboards: str = Field(
        "", description="Folder or URI of the pages of monitors (`artifacts`/monitor): GET /dashboard/STEP"
    )

    intents: str = Field("", description="Dialogue: the served model that says what is wanted")
    scope: float = Field(0.5, ge=0, le=1, description="Dialogue: an intent of a lower score is out of scope")
    faq: str = Field(
        "", description="Dialogue: frequent questions, JSON Lines or CSV with `question` and `answer`"
    )
    faq_model: str = Field("", description="Dialogue: the served model whose vectors compare questions")
    faq_similarity: float = Field(
        0.6, ge=-1, le=1, description="Dialogue: a question as near as this gets the answer"
    )
    faq_answers: int = Field(3, ge=1, le=50, description="Dialogue: answers that are shown")

    @model_validator(mode="after")
    def _has_a_model_of_questions(self) -> ServeSettings:
        if self.faq and not self.faq_model:
            raise ValueError("faq needs faq_model, a served model of the task retrieve")
        return self

    @property
    def worker_count(self) -> int:
        """Worker processes."""
        return self.workers or len(os.sched_getaffinity(0))


class LabelSettings(BaseModel):
    """The settings of `sparkml label`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0: every interface")
    port: int = Field(8001, ge=0, le=65535, description="Port to listen on; 0: a free one")
    token_file: str = Field("", description="Lines `TOKEN`, `NAME TOKEN`; the name stands beside each label")
    token_variable: str = Field("SPARKML_TOKENS", description="Environment variable with such lines")
    queue: str = Field("labelling", description="Table of the rows, as the stage monitor fills it")
    labels: str = Field("labels", description="Table of the labels: a source of the stage finetune")
    choices: tuple[str, ...] = Field(
        (), description="Labels to choose from; none: those that were predicted or given before"
    )
    free: bool = Field(False, description="Other labels than the choices may be written, too")
    requests_per_second: float = Field(20.0, ge=0, description="Of a token, on average; 0: any number")
