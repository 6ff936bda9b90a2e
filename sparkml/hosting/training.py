"""A training that Spark hosts: ranks in a barrier stage, progress on the terminal, the network below the run folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from pydantic import model_validator

from sparkml.distributed.hub import StepDone
from sparkml.distributed.launcher import LaunchOptions, launch
from sparkml.errors import InputError
from sparkml.feed.manifest import Manifest
from sparkml.feed.manifest_file import write_manifest
from sparkml.feed.reader import FeedSettings
from sparkml.frame import artifacts, storage
from sparkml.frame.run import StageRun
from sparkml.frame.stage import StageConfig
from sparkml.log import get_logger
from sparkml.models.adapt.settings import AdaptSettings
from sparkml.models.shaping.settings import Shaping
from sparkml.tasks.task import Task
from sparkml.training.curves import own_store
from sparkml.training.rank import train_rank
from sparkml.training.settings import (
    JOB_FILE,
    RESULT,
    LoopSettings,
    RankSettings,
    SpreadSettings,
    Start,
    TrainingJob,
)
from sparkml.training.stragglers import stragglers

_log = get_logger(__name__)


class TrainingConfig(LoopSettings, RankSettings, StageConfig):
    """The settings that every stage which trains has."""

    @model_validator(mode="after")
    def _streams_for_all(self) -> TrainingConfig:
        if self.ranks > self.canonical_streams:
            raise ValueError(
                f"{self.ranks} ranks have {self.canonical_streams} streams to read: set canonical_streams to a "
                "multiple of the ranks"
            )
        return self

    @model_validator(mode="after")
    def _can_be_spread(self) -> TrainingConfig:
        if self.parallel == "data":
            if self.tensor_ranks > 1:
                raise ValueError("tensor_ranks need parallel=fsdp")
            return self
        if self.collective != "torch":
            raise ValueError("parallel=fsdp needs collective=torch: Horovod adds up whole gradients")
        if max(self.ranks, 1) % self.tensor_ranks:
            raise ValueError(f"{self.ranks} ranks do not make groups of {self.tensor_ranks} (tensor_ranks)")
        if self.gradient_type != "float32" or self.compile:
            raise ValueError("parallel=fsdp has neither gradient_type=float16 nor compile")
        return self

    def semantic(self) -> dict[str, Any]:
        """A training may go on with other ranks; without any there is no model."""
        return {**super().semantic(), "trains": self.ranks > 0}


@dataclass(frozen=True)
class Trained:
    """What came of it: the folder with the network, where the answers lie, and what was measured."""

    result: str
    run_folder: str
    metrics: dict[str, float]


def run_training(
    job: StageRun,
    config: TrainingConfig,
    *,
    model_id: str,
    task: Mapping[str, Any],
    start: Start,
    train: Manifest,
    validation: Manifest,
    adapt: AdaptSettings | None = None,
    on_features: bool = False,
    shaping: Shaping | None = None,
    part: str = "",
    loop: Mapping[str, Any] | None = None,
) -> Trained | None:
    """Train on ranks to the end; None with 0 ranks, where the job's file is all that is written.

    The run folder is named by the model's version and the fingerprint of the work: a run that was killed goes on from
    its last checkpoint when the same command is repeated; a forced repeat of finished work starts anew. `part` tells
    the trainings of one step apart; `loop`: settings of the loop that are others than the step's.
    """
    ranks = max(config.ranks, 1)
    if train.rows < ranks:
        raise _too_few_rows(train, ranks)
    name = f"{model_id}-v{job.next_version(model_id)}" + (f"-{part}" if part else "")
    manifests = storage.join(job.artifacts, "manifests")
    training = TrainingJob(
        task=dict(task),
        start=start,
        adapt=adapt or AdaptSettings(),
        on_features=on_features,
        shaping=shaping or Shaping(),
        loop=LoopSettings(**{**config.model_dump(include=set(LoopSettings.model_fields)), **(loop or {})}),
        # The head of a frozen network alone is small.
        spread=SpreadSettings(
            **config.model_dump(include=set() if on_features else set(SpreadSettings.model_fields))
        ),
        seed=job.seed,
        train_manifest=write_manifest(train, manifests),
        validation_manifest=write_manifest(validation, manifests),
        reader=config.reader,
        feed=FeedSettings(config.prefetch_bytes, config.cache_bytes, config.cache_folder),
        checkpoint_every_steps=config.checkpoint_every_steps,
        keep_checkpoints=config.keep_checkpoints,
        run_folder=storage.join(job.artifacts, "checkpoints", f"{name}-{job.fingerprint}"),
        run_name=name,
        tensorboard_folder=storage.join(job.artifacts, "tensorboard", name),
        mlflow_uri=config.mlflow_uri,
        mlflow_store="" if config.mlflow_uri else _mlflow_store(job),
    )
    location = storage.join(training.run_folder, JOB_FILE)
    storage.write_bytes(location, training.model_dump_json(indent=1).encode())
    if not config.ranks:
        _log.info("%s: nothing is trained here; elsewhere: sparkml train %s --out DIR", job.step, location)
        return None
    with job.progress.task(job.step, total=None, unit="steps") as shown:

        def show(step: StepDone) -> None:
            loss, rate = step.values["train_loss"], step.values["tokens_per_second"]
            shown.update(step.step, total=step.total, note=f"loss {loss:.3f}, {rate:,.0f} tokens/s")

        done = launch(job.spark, train_rank, training.to_payload(), _launch_options(config), on_progress=show)
    slow = stragglers([dict(result) for result in done.results])
    if slow:
        _log.warning(
            "rank %d holds the others up: %.0f ms of work a step, the usual rank %.0f ms",
            slow["slowest_rank"],
            slow["slowest_rank_ms"],
            slow["usual_rank_ms"],
        )
    metrics = {**done.results[0], **slow, "ranks": float(config.ranks), "attempts": float(done.attempts)}
    metrics["train_rows"] = float(train.rows)
    return Trained(storage.join(training.run_folder, RESULT), training.run_folder, metrics)


def new_start(
    job: StageRun, model_id: str, task: type[Task[Any]], network: Mapping[str, Any], inputs: str | None
) -> Start:
    """A directory with the configuration of a network that has no weights yet, and what its inputs need.

    `inputs`: where a tokenizer lies, for tasks on text.
    """
    files = artifacts.localise(inputs) if inputs else None
    location = storage.join(job.artifacts, "checkpoints", f"{model_id}-start-{job.fingerprint}")
    with artifacts.new_artifact(location) as staging:
        task.begin(network, staging, files)
    return Start(folder=location, random=True)


def _too_few_rows(train: Manifest, ranks: int) -> InputError:
    return InputError(
        f"split `{train.split}` has fewer rows than there are ranks",
        where=f"manifest {train.manifest_id}",
        got=f"{train.rows} rows",
        expected=f"at least {ranks}",
        next_action="put more documents through the step that makes the samples, or take fewer ranks: ranks=1",
    )


def _launch_options(config: TrainingConfig) -> LaunchOptions:
    given = {field.name for field in fields(LaunchOptions)} & type(config).model_fields.keys()
    return LaunchOptions(
        **{name: getattr(config, name) for name in given}, environment=config.horovod.environment()
    )


def _mlflow_store(job: StageRun) -> str:
    store = own_store(job.artifacts)
    if not store:
        _log.warning(
            "no MLflow curves: MLflow cannot use a store below a folder named `artifacts` (%s); "
            "choose another artifacts= or give mlflow_uri",
            job.artifacts,
        )
    return store
