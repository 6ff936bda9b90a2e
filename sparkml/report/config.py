"""What `conf/base/report.yaml` holds."""

from __future__ import annotations

from pydantic import Field

from sparkml.frame.stage import Reads, StageConfig


class ReportConfig(StageConfig):
    """Tables and models to report on, and how many examples to show. The bounds keep the file below 3 MB."""

    bronze: Reads = Field("bronze", description="Documents as read")
    clean: Reads = Field("clean", description="Cleaned documents")
    kept: Reads = Field("kept", description="What deduplication keeps")
    rejects: Reads = Field("rejects", description="Rejected documents with reason and measured value")
    duplicates: Reads = Field("duplicates", description="Duplicates with partner and similarity")
    manifests: Reads = Field("manifests", description="Shard manifests, one row a split")
    scores: Reads = Field("scores", description="Predictions")
    encoder_id: str = Field("encoder", min_length=1, description="Model of the section on training")
    classifier_id: str = Field("classifier", min_length=1, description="Model of the section on fine-tuning")
    compressed_id: str = Field(
        "classifier-int8", min_length=1, description="Model of the section on compression"
    )
    title: str = Field("sparkml run report", min_length=1, max_length=120, description="Heading of the page")
    file: str | None = Field(
        None,
        description="Where the page is written. Null: <artifacts>/report/report.html",
        json_schema_extra={"semantic": False},
    )
    examples_per_reason: int = Field(2, ge=0, le=5, description="Rejected documents shown for each reason")
    reasons_per_stage: int = Field(
        20, ge=1, le=40, description="Reasons shown for each stage, most frequent first"
    )
    duplicate_examples: int = Field(
        6, ge=0, le=20, description="Pairs of duplicates shown with their differences"
    )
    score_examples: int = Field(8, ge=0, le=50, description="Least certain predictions shown")
    excerpt_characters: int = Field(320, ge=40, le=1000, description="Characters shown of a document")
    compared_words: int = Field(
        160, ge=20, le=1000, description="Words of a pair of duplicates that are compared"
    )
