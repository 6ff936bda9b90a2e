"""Train: the pinned packed samples -> a pretrained model, on Horovod ranks in a Spark barrier stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from pydantic import Field, model_validator

from sparkml.errors import ConfigError, InputError
from sparkml.feed.manifest import Manifest
from sparkml.frame import artifacts, storage
from sparkml.frame.registry import TrainedOn
from sparkml.frame.run import StageRun
from sparkml.frame.splits import TRAIN, VALIDATION
from sparkml.frame.stage import LooksUp, Makes, Reads, RunReport, Stage, Uses
from sparkml.hosting.estimates import training_estimate
from sparkml.hosting.training import TrainingConfig, new_start, run_training
from sparkml.tasks.task import TaskChoice, task_spec
from sparkml.training.settings import Start


class TrainConfig(TrainingConfig):
    """What `conf/base/train.yaml` holds."""

    source: Reads = Field("samples", description="Packed samples, pinned by their manifests")
    manifests: LooksUp = Field("manifests", description="One manifest a split and version of the samples")
    model: Uses | None = Field(
        None, description="The model to go on from, whose tokenizer packed the samples; null: a new network"
    )
    model_id: Makes = Field("", description="Name of the model; empty: the step's name")
    network: dict[str, Any] = Field(
        default_factory=dict, description="A new network: model_type and further fields of its config.json"
    )
    task: TaskChoice = Field(
        TaskChoice(name="masked_lm"), description="What is learnt: its name and settings"
    )

    @model_validator(mode="after")
    def _has_a_start(self) -> TrainConfig:
        if (self.model is None) == (not self.network):
            raise ValueError("either a new network (model: null) or a model to go on from (network: {})")
        return self


def run(job: StageRun, config: TrainConfig) -> RunReport:
    """Train to the end and register the model directory."""
    train, validation = read_manifests(job, config)
    parent = job.model(config.model) if config.model else None
    tokenizer = storage.join(job.artifacts, "tokenizers", train.tokenizer_hash)
    start = (
        Start(folder=parent.path)
        if parent
        else new_start(job, config.model_id, config.task.task, config.network, tokenizer)
    )
    folder = artifacts.localise(start.folder)
    inputs = config.task.task.read_inputs(str(folder))
    _check(train, inputs, config, str(folder))
    task = config.task.task(config.task.options, config.task.task.fit(config.task.options, {}), inputs)
    trained = run_training(
        job,
        config,
        model_id=config.model_id,
        task=task_spec(task),
        start=start,
        train=train,
        validation=validation,
    )
    bytes_in = train.files.bytes + validation.files.bytes
    if trained is None:
        return RunReport(bytes_in=bytes_in)
    _publish(job, config, trained.result, folder, task_spec(task), trained.metrics, train)
    job.register(
        config.model_id,
        kind="pretrained",
        parent=parent.name if parent else None,
        trained_on=TrainedOn(manifest_id=train.manifest_id, table=train.table, version=train.version),
        metrics=trained.metrics,
    )
    return RunReport(bytes_in=bytes_in, metrics=trained.metrics)


def read_manifests(job: StageRun, config: TrainConfig) -> tuple[Manifest, Manifest]:
    """The manifests of the training and the validation split; InputError where there is no sample."""
    pinned = (pc.field("table") == config.source) & (pc.field("version") == job.input_version(config.source))
    table = job.rows(config.manifests).filter(pinned)  # one row a split
    found = {manifest.split: manifest for manifest in Manifest.from_table(table)}
    missing = [split for split in (TRAIN, VALIDATION) if split not in found]
    if missing or not found[TRAIN].rows:
        raise InputError(
            "there is nothing to train on",
            where=f"table `{config.manifests}`",
            got=f"no manifest of split {', '.join(missing)}"
            if missing
            else "a training split without samples",
            next_action="put more documents through: sparkml run shard",
        )
    return found[TRAIN], found[VALIDATION]


def _check(train: Manifest, inputs: Any, config: TrainConfig, folder: str) -> None:
    if inputs.identity != train.tokenizer_hash:
        raise InputError(
            "the samples were packed with another tokenizer than the model's",
            where=folder,
            got=f"sha256 {inputs.identity}",
            expected=f"sha256 {train.tokenizer_hash} of the samples' manifest",
            next_action="pack them with the model's tokenizer: shard.tokenizer=MODEL",
        )
    if train.sequence_length > inputs.longest:
        raise ConfigError(
            "the samples are longer than the network reads",
            got=f"samples of {train.sequence_length} tokens",
            expected=f"at most {inputs.longest}",
            next_action="pack shorter ones (shard.sequence_length), or take a network with more positions",
        )


def _publish(
    job: StageRun,
    config: TrainConfig,
    result: str,
    start: Path,
    task: dict[str, Any],
    metrics: dict[str, float],
    train: Manifest,
) -> None:
    from sparkml.models.directory import publish

    lineage = {
        "model": config.model_id,
        "step": job.step,
        "parent": config.model,
        "table": train.table,
        "version": train.version,
        "manifest_id": train.manifest_id,
    }
    held_out = {name: value for name, value in metrics.items() if name.startswith("validation_")}
    with job.new_model(config.model_id) as staging:
        publish(
            staging,
            result=artifacts.localise(result),
            inputs=start,
            task=task,
            lineage=lineage,
            metrics=held_out,
        )


def sections() -> tuple[object, ...]:
    """What the report says of a training."""
    from sparkml.report.training import TRAINING

    return (TRAINING,)


STAGE = Stage(
    TrainConfig,
    run,
    "pretrain on packed samples: Horovod ranks in a barrier stage -> a model",
    estimate=training_estimate,
    sections=sections,
)
