"""What `conf/base/ingest.yaml` holds."""

from __future__ import annotations

from pydantic import Field

from sparkml.frame.stage import Shares, StageConfig, Writes
from sparkml.sources.settings import SourceConfig


class IngestConfig(StageConfig):
    """What is read, where it goes, and how much at a time."""

    source: SourceConfig = Field(default_factory=SourceConfig, description="What is read")
    target: Writes = "bronze"
    rejects: Shares = "rejects"
    max_record_bytes: int = Field(16 * 1024**2, ge=1, description="A longer record becomes a reject")
    max_inflation: int = Field(
        1_000, ge=1, description="Bytes that a byte of a compressed file may become; beyond that is a reject"
    )
    split_bytes: int = Field(
        64 * 1024**2, ge=1, description="Bytes a task reads", json_schema_extra={"semantic": False}
    )
    batch_bytes: int = Field(
        4 * 1024**2, ge=1, description="Bytes of text a batch holds", json_schema_extra={"semantic": False}
    )
