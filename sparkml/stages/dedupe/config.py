"""What decides which documents are duplicates, and which of them stays."""

from __future__ import annotations

import re

from pydantic import Field, field_validator
from pyspark.sql import Column
from pyspark.sql import functions as F

from sparkml.frame.stage import Reads, Shares, StageConfig, Writes

_ORDER = re.compile(r"^([A-Za-z_][\w.]*)(?: +(asc|desc))?$")


class DedupeConfig(StageConfig):
    """What `conf/base/dedupe.yaml` holds."""

    source: Reads = Field(
        "clean", description="Table of documents: doc_id, text, and the columns of keep_order"
    )
    target: Writes = Field("kept", description="Table of the documents that stay, with the columns of source")
    duplicates: Writes = Field("duplicates", description="Table of the others: partner, similarity, kept_id")
    rejects: Shares = Field("rejects", description="Documents that cannot be compared")
    near: bool = Field(True, description="Find near duplicates too; false: exact duplicates only")
    ngram: int = Field(5, ge=1, le=32, description="Words in a shingle; shorter documents get no signature")
    n_bands: int = Field(14, ge=1, le=256, description="Bands of the signature; more bands: more candidates")
    n_rows: int = Field(8, ge=1, le=64, description="Minima in a band; more rows: fewer candidates")
    signature_seed: int = Field(17, ge=0, description="Seed of the permutations")
    similarity_threshold: float = Field(
        0.7, gt=0.0, le=1.0, description="Least true Jaccard similarity of the shingles of near duplicates"
    )
    keep_order: tuple[str, ...] = Field(
        ("n_words desc", "doc_id asc"),
        description="Columns, best first, that choose which document of a cluster stays; doc_id breaks ties",
    )
    bucket_window: int = Field(
        16, ge=1, description="Predecessors in its bucket that a document is compared with, besides the first"
    )
    single_task_edges: int = Field(
        1_000_000,
        ge=0,
        description="Edges that one task clusters in memory (100 bytes each); more are contracted first",
        json_schema_extra={"semantic": False},
    )
    reliable_checkpoints: bool = Field(
        False,
        description="Checkpoint clustering to <artifacts>/clustering; false: to the local disks of executors",
        json_schema_extra={"semantic": False},
    )

    @field_validator("keep_order")
    @classmethod
    def _with_tie_break(cls, order: tuple[str, ...]) -> tuple[str, ...]:
        for entry in order:
            if not _ORDER.match(entry):
                raise ValueError(
                    f"`{entry}` is not a column with `asc` or `desc` after it, such as `n_words desc`"
                )
        named = [entry.split()[0] for entry in order]
        return order if "doc_id" in named else (*order, "doc_id asc")

    def keep_columns(self) -> list[tuple[str, bool]]:
        """The columns of `keep_order` and whether they descend, up to `doc_id`, which decides the rest."""
        parsed = [(entry.split()[0], entry.endswith(" desc")) for entry in self.keep_order]
        end = [name for name, _ in parsed].index("doc_id") + 1
        return parsed[:end]


def order_alias(position: int) -> str:
    """The name of the column at this place of `keep_order` while duplicates are searched."""
    return f"order_{position}"


def best_first(config: DedupeConfig) -> list[Column]:
    """The order of a cluster's documents, the one that stays first; a missing value comes last."""
    return [
        column.desc_nulls_last() if descends else column.asc_nulls_last()
        for position, (name, descends) in enumerate(config.keep_columns())
        for column in [F.col("doc_id" if name == "doc_id" else order_alias(position))]
    ]
