"""What `conf/base/ingest.yaml` holds."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sparkml.frame.stage import Shares, StageConfig, Writes
from sparkml.sources.records import ReadOptions
from sparkml.sources.settings import SourceConfig


class IngestConfig(StageConfig):
    """What is read, where it goes, and how much at a time."""

    source: SourceConfig = Field(default_factory=SourceConfig, description="What is read")
    target: Writes = "bronze"
    rejects: Shares = "rejects"
    parts: Shares = Field(
        "sources",
        description="What was read of which file or table: the next run reads what is new or has changed",
    )
    vanished: Literal["retire", "keep"] = Field(
        "retire", description="Documents of a file that is gone: they go too, or they stay"
    )
    landing: str | None = Field(
        None, description="Kafka: the table of the records as they came; null: `<step>_landing`"
    )
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

    def read_options(self, root: str, dataset: str) -> ReadOptions:
        """How records below `root` are read; `dataset` unless another is named."""
        return self.source.read_options(
            root,
            self.source.dataset or dataset,
            max_record_bytes=self.max_record_bytes,
            batch_bytes=self.batch_bytes,
            max_inflation=self.max_inflation,
        )

    def landing_of(self, step: str) -> str:
        """The table in which a topic's records land."""
        return self.landing or f"{step}_landing"
