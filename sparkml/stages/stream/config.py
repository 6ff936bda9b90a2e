"""What `conf/base/stream.yaml` holds."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, JsonValue, model_validator

from sparkml.frame.stage import Reads, Shares
from sparkml.hosting.asking import ScoringConfig
from sparkml.hosting.examples import Columns
from sparkml.sources.formats.table import AUTO, FILE_FORMATS
from sparkml.sources.kafka import KafkaConfig
from sparkml.sources.settings import FilesConfig

AVAILABLE_NOW = "available_now"
_HOW: dict[str, JsonValue] = {"semantic": False}  # how much at a time: every document gets the same answer
_EVERY = re.compile(r"\d+ (?:millisecond|second|minute|hour)s?")


def _is_trigger(value: str) -> str:
    if value != AVAILABLE_NOW and not _EVERY.fullmatch(value):
        raise ValueError(f"expected {AVAILABLE_NOW}, or a time such as `10 seconds`")
    return value


class StreamConfig(ScoringConfig):
    """Where documents come from, what scores them, how much at a time."""

    source: Reads | None = Field(None, description="Delta table to follow")
    files: FilesConfig = Field(
        FilesConfig(), description="Files to follow: `path`, a folder that gets new ones"
    )
    kafka: KafkaConfig = Field(KafkaConfig(), description="Topic to follow: `servers` and `topic`")
    columns: Columns = Field(
        Columns(),
        description="Which columns of the table (fields of a topic's objects) the model's task reads",
    )
    target: Shares = Field("scores", description="One row a document, model version and step")
    rejects: Shares = Field("rejects", description="Records that are no documents")
    trigger: Annotated[str, AfterValidator(_is_trigger)] = Field(
        AVAILABLE_NOW, description="available_now: what is there, then the end; `10 seconds`: again and again"
    )
    max_seconds: float | None = Field(
        None,
        gt=0,
        description="Ends after the batch that is at work then; null: no limit",
        json_schema_extra=_HOW,
    )
    max_files_per_batch: int = Field(
        1000, ge=1, description="Files, or files of a Delta table, of a batch", json_schema_extra=_HOW
    )
    max_bytes_per_batch: int | None = Field(
        None,
        ge=1,
        description="Bytes of files of a batch (about); instead of their number",
        json_schema_extra=_HOW,
    )
    max_rows_per_batch: int | None = Field(
        100_000, ge=1, description="Records of a topic of a batch", json_schema_extra=_HOW
    )
    max_error_fraction: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Documents of a run that may fail, once 100 were tried; more stop the stream",
    )
    max_record_bytes: int = Field(
        16 * 1024**2, ge=1, description="A longer record of a file becomes a reject"
    )
    max_inflation: int = Field(
        1_000, ge=1, description="Bytes that a byte of a compressed file may become; beyond that is a reject"
    )

    @model_validator(mode="after")
    def _has_one_source(self) -> StreamConfig:
        given = [self.source, self.files.path, self.kafka.topic]
        if sum(name is not None for name in given) > 1:
            raise ValueError("only one of source, files.path and kafka.topic")
        if (self.kafka.topic is None) != (self.kafka.servers is None):
            raise ValueError("kafka.topic and kafka.servers together")
        if self.files.format not in (AUTO, *FILE_FORMATS):
            raise ValueError("files of a format that new ones can be of")
        if self.files.path is not None and self.columns != Columns():
            raise ValueError("the fields of files are named by files.text_field and so on, not by columns")
        return self

    @property
    def is_endless(self) -> bool:
        """Whether it looks again and again, until it is stopped."""
        return self.trigger != AVAILABLE_NOW
