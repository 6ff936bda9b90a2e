"""The settings of the stage `score`."""

from __future__ import annotations

from pydantic import Field

from sparkml.frame.sizing import MOST_BUCKETS
from sparkml.frame.stage import Reads, Shares, StageConfig, Uses
from sparkml.hosting.examples import Columns
from sparkml.tasks.task import TaskChoice


class ScoreConfig(StageConfig):
    """What `conf/base/score.yaml` holds."""

    source: Reads = Field("kept", description="Documents to score")
    query: str | None = Field(
        None,
        description="SQL over {source}, the table: which of its rows are scored, and their columns; null: all",
    )
    columns: Columns = Field(Columns(), description="Which columns of the table the model's task reads")
    target: Shares = Field("scores", description="One row a document, model version and step")
    model: Uses = Field(
        "classifier", description="What scores: `name` (its latest version), `name/v3`, a directory"
    )
    task: TaskChoice | None = Field(
        None,
        description="Settings that differ from those of the model's own task; or, of a directory without one, a task "
        "that needs no training (retrieve); null: the model's own",
    )
    max_error_fraction: float = Field(
        0.1, ge=0, le=1, description="Documents that may fail, of all and of new ones; more fail the step"
    )
    top_labels: int | None = Field(None, ge=1, description="Labels in `scores`, best first; null: all")
    n_buckets: int | None = Field(
        None, ge=1, le=MOST_BUCKETS, description="Groups that are scored on their own; null: by bytes"
    )
    chunk_documents: int = Field(
        256, ge=1, description="Documents of similar length given to the model at once"
    )
    threads: int = Field(1, ge=1, description="Threads of a task; at most spark.task.cpus")
    engine: str = Field(
        "auto",
        description="What runs the network: auto takes the fastest that can, else encoder, torch or onnx",
    )

    def same_rows(self, other: dict[str, object]) -> bool:
        """Whether a run with these settings, as the ledger has them, asked the same of the same rows and columns."""
        mine = self.model_dump(mode="json", include={"source", "query", "columns", "target", "task"})
        return all(other.get(name) == value for name, value in mine.items())
