"""The settings of the stage `score`."""

from __future__ import annotations

from pydantic import Field

from sparkml.frame.stage import Reads, Shares
from sparkml.hosting.asking import ScoringConfig
from sparkml.hosting.examples import Columns


class ScoreConfig(ScoringConfig):
    """What `conf/base/score.yaml` holds."""

    source: Reads = Field("kept", description="Documents to score")
    query: str | None = Field(
        None,
        description="SQL over {source}, the table: which of its rows are scored, and their columns; null: all",
    )
    columns: Columns = Field(Columns(), description="Which columns of the table the model's task reads")
    target: Shares = Field("scores", description="One row a document, model version and step")
    max_error_fraction: float = Field(
        0.1, ge=0, le=1, description="Documents that may fail, of all and of new ones; more fail the step"
    )

    def same_rows(self, other: dict[str, object]) -> bool:
        """Whether a run with these settings, as the ledger has them, asked the same of the same rows and columns."""
        mine = self.model_dump(mode="json", include={"source", "query", "columns", "target", "task"})
        return all(other.get(name) == value for name, value in mine.items())
