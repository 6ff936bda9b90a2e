"""What `conf/base/report.yaml` holds."""

from __future__ import annotations

from pydantic import Field

from sparkml.frame.stage import StageConfig


class ReportConfig(StageConfig):
    """What the page is called, where it goes, and how many examples it shows.

    What is reported follows from the ledger. The bounds keep the file of a lake below 3 MB.
    """

    title: str = Field("sparkml run report", min_length=1, max_length=120, description="Heading of the page")
    file: str | None = Field(
        None,
        min_length=1,
        description="Where the page is written, a path or URI. Null: <artifacts>/report/report.html",
        json_schema_extra={"semantic": False},
    )
    examples_per_reason: int = Field(2, ge=0, le=5, description="Rejected documents shown for each reason")
    reasons_per_step: int = Field(
        20, ge=1, le=40, description="Reasons shown for each step, most frequent first"
    )
    duplicate_examples: int = Field(
        6, ge=0, le=20, description="Pairs of duplicates shown with their differences"
    )
    score_examples: int = Field(8, ge=0, le=50, description="Least certain predictions shown")
    excerpt_characters: int = Field(320, ge=40, le=1000, description="Characters shown of a document")
    compared_words: int = Field(
        160, ge=20, le=1000, description="Words of a pair of duplicates that are compared"
    )
