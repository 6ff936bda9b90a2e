"""What steps have in common that ask a model for answers: their settings, and the model that workers can load."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sparkml.frame.registry import ModelRecord, model_identity
from sparkml.frame.run import StageRun
from sparkml.frame.sizing import MOST_BUCKETS
from sparkml.frame.stage import StageConfig, Uses
from sparkml.hosting.scoring import Answering, answering, check_threads
from sparkml.tasks.task import TaskChoice


class AskingConfig(StageConfig):
    """Which model is asked, and for what."""

    model: Uses = Field(
        "classifier", description="What answers: `name` (its latest version), `name/v3`, a directory"
    )
    task: TaskChoice | None = Field(
        None,
        description="Settings that differ from those of the model's own task; or, of a directory without one, a task "
        "that needs no training (retrieve); null: the model's own",
    )
    threads: int = Field(1, ge=1, description="Threads of a task; at most spark.task.cpus")
    engine: str = Field(
        "auto",
        description="What runs the network: auto takes the fastest that can, else encoder, torch or onnx",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        description="Where it runs: auto takes the task's GPU where there is one that can run the model",
    )


class ScoringConfig(AskingConfig):
    """And how its answers are had."""

    top_labels: int | None = Field(None, ge=1, description="Labels in `scores`, best first; null: all")
    n_buckets: int | None = Field(
        None, ge=1, le=MOST_BUCKETS, description="Groups that are scored on their own; null: by bytes"
    )
    chunk_documents: int = Field(
        256, ge=1, description="Documents of similar length given to the model at once"
    )


def asked_model(job: StageRun, config: AskingConfig) -> tuple[ModelRecord, Answering]:
    """The model of a step, recorded as its input. ConfigError or InputError where it cannot answer."""
    check_threads(job.spark, config.threads, f"{job.step}.threads")
    record = job.model(config.model)
    identity = model_identity(record)
    return record, answering(
        record.path,
        identity,
        threads=config.threads,
        engine=config.engine,
        device=config.device,
        task=config.task,
    )
