"""Train: the pinned samples -> a pretrained encoder, on Horovod ranks in a Spark barrier stage.

The run folder is named by the model version and the fingerprint of the work: a run that was killed goes on
from its last checkpoint when the same command is repeated; a forced repeat of finished work starts anew.
"""

from __future__ import annotations

import pyarrow.compute as pc
from pydantic import Field
from pydantic.config import JsonDict

from sparkml.distributed.collective import CollectiveName
from sparkml.distributed.hub import StepDone
from sparkml.distributed.launcher import LaunchOptions, launch
from sparkml.errors import ConfigError, InputError
from sparkml.feed.manifest import Manifest
from sparkml.feed.manifest_file import write_manifest
from sparkml.feed.plan import epoch_plan
from sparkml.feed.reader import ReaderName
from sparkml.frame import storage
from sparkml.frame.registry import TrainedOn, model_location
from sparkml.frame.run import StageRun
from sparkml.frame.splits import TRAIN, VALIDATION
from sparkml.frame.stage import LooksUp, Makes, Reads, RunReport, Stage, StageConfig
from sparkml.log import get_logger
from sparkml.models.encoder import EncoderShape
from sparkml.models.folder import TOKENIZER_FILE
from sparkml.models.tokenizer import TokenizerFile
from sparkml.training.curves import own_store
from sparkml.training.rank import train_rank
from sparkml.training.schedule import Decay
from sparkml.training.settings import EmbeddingStart, LoopSettings, TrainingJob

_log = get_logger(__name__)
_RUNTIME: JsonDict = {"semantic": False}  # where and how closely watched the work runs: not what comes out


class TrainConfig(StageConfig):
    """What `conf/base/train.yaml` holds."""

    source: Reads = Field("samples", description="Packed samples, pinned by their manifests")
    manifests: LooksUp = Field("manifests", description="One manifest a split and version of the samples")
    model_id: Makes = Field("", description="Name of the model; empty: the step's name")
    shape: EncoderShape = Field(
        EncoderShape(layers=2, heads=2, dropout=0.0), description="Size of the encoder"
    )
    embedding_start: EmbeddingStart = Field(
        "spectral", description="Token embeddings before the first step: spectral or random"
    )
    max_steps: int = Field(800, ge=1, description="Optimiser steps")
    micro_batch: int = Field(8, ge=1, description="Samples a rank and step")
    learning_rate: float = Field(2e-3, gt=0, description="Highest learning rate")
    warmup_fraction: float = Field(0.1, ge=0, lt=1, description="Part of the steps in which the rate rises")
    decay: Decay = Field("linear", description="How the rate falls after that")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's, on matrices only")
    gradient_clip: float = Field(1.0, ge=0, description="Largest norm of the gradients; 0: any")
    mask_fraction: float = Field(0.3, gt=0, lt=1, description="Part of the tokens to predict")
    validation_every_steps: int = Field(100, ge=1, description="Steps between two validations")
    validation_rows: int = Field(512, ge=1, description="Held-out samples that a validation looks at")
    checkpoint_every_steps: int = Field(
        200, ge=1, description="Steps between two checkpoints", json_schema_extra=_RUNTIME
    )
    keep_checkpoints: int = Field(2, ge=1, description="Checkpoints to keep", json_schema_extra=_RUNTIME)
    ranks: int = Field(2, ge=1, description="Processes that train together, one Spark task each")
    collective: CollectiveName = Field("horovod", description="What joins the ranks: horovod or torch")
    threads_per_rank: int = Field(1, ge=1, description="Torch threads of a rank")
    reader: ReaderName = Field(
        "petastorm", description="What reads: petastorm or arrow", json_schema_extra=_RUNTIME
    )
    max_attempts: int = Field(
        3,
        ge=1,
        description="Failed attempts in a row without progress, each from the last checkpoint",
        json_schema_extra=_RUNTIME,
    )
    heartbeat_seconds: float = Field(
        30.0, gt=0, description="Longest silence of a rank", json_schema_extra=_RUNTIME
    )
    step_seconds: float = Field(
        300.0, gt=0, description="Longest work on one step or validation", json_schema_extra=_RUNTIME
    )
    start_seconds: float = Field(
        180.0, gt=0, description="Longest start of a rank", json_schema_extra=_RUNTIME
    )
    slots_seconds: float = Field(
        300.0, ge=0, description="Longest wait for lost executors to be replaced", json_schema_extra=_RUNTIME
    )
    mlflow_uri: str = Field("", description="MLflow store; empty: a local one", json_schema_extra=_RUNTIME)


def run(job: StageRun, config: TrainConfig) -> RunReport:
    """Train to the last step and register the model folder."""
    train, validation = read_manifests(job, config)
    # A plan that cannot be made is an error here, before any rank has started.
    epoch_plan(train, epoch=0, seed=job.seed, world_size=config.ranks, micro_batch=config.micro_batch)
    version = job.next_version(config.model_id)
    training = training_job(job, config, train, validation, version)
    training.tokenizer.read()  # one that was altered is an error here too, and on every rank
    with job.progress.task("train", total=config.max_steps, unit="steps") as task:

        def show(step: StepDone) -> None:
            loss, rate = step.values["train_loss"], step.values["tokens_per_second"]
            task.update(step.step, note=f"loss {loss:.3f}, {rate:,.0f} tokens/s")

        done = launch(job.spark, train_rank, training.to_payload(), _options(config), on_progress=show)
    metrics = {**done.results[0], "ranks": float(config.ranks), "attempts": float(done.attempts)}
    job.register(
        config.model_id,
        kind="pretrained",
        parent=None,
        trained_on=TrainedOn(manifest_id=train.manifest_id, table=train.table, version=train.version),
        metrics=metrics,
    )
    return RunReport(
        bytes_in=train.files.bytes + validation.files.bytes,
        metrics=metrics,
    )


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


def training_job(
    job: StageRun, config: TrainConfig, train: Manifest, validation: Manifest, version: int
) -> TrainingJob:
    """What the ranks are told."""
    if train.sequence_length > config.shape.max_length:
        raise ConfigError(
            "the samples are longer than the encoder can see",
            got=f"shard.sequence_length={train.sequence_length}",
            expected=f"at most train.shape.max_length={config.shape.max_length}",
        )
    name = f"{config.model_id}-v{version}"
    manifests = storage.join(job.artifacts, "manifests")
    return TrainingJob(
        settings=loop_settings(config, job.seed),
        train_manifest=write_manifest(train, manifests),
        validation_manifest=write_manifest(validation, manifests),
        tokenizer=tokenizer_of(job, train),
        reader=config.reader,
        run_folder=storage.join(job.artifacts, "checkpoints", f"{name}-{job.fingerprint}"),
        model_folder=model_location(job.artifacts, config.model_id, version),
        run_name=name,
        tensorboard_folder=storage.join(job.artifacts, "tensorboard", name),
        mlflow_uri=config.mlflow_uri,
        mlflow_store="" if config.mlflow_uri else _mlflow_store(job),
    )


def tokenizer_of(job: StageRun, manifest: Manifest) -> TokenizerFile:
    """The tokenizer that samples were made with, where the shard stage keeps it."""
    digest = manifest.tokenizer_hash
    return TokenizerFile(storage.join(job.artifacts, "tokenizers", digest, TOKENIZER_FILE), digest)


def _mlflow_store(job: StageRun) -> str:
    store = own_store(job.artifacts)
    if not store:
        _log.warning(
            "no MLflow curves: MLflow cannot use a store below a folder named `artifacts` (%s); "
            "choose another artifacts= or give train.mlflow_uri",
            job.artifacts,
        )
    return store


def loop_settings(config: TrainConfig, seed: int) -> LoopSettings:
    """The part of the configuration that the loop needs."""
    return LoopSettings(
        shape=config.shape,
        embedding_start=config.embedding_start,
        seed=seed,
        max_steps=config.max_steps,
        micro_batch=config.micro_batch,
        learning_rate=config.learning_rate,
        warmup_steps=round(config.warmup_fraction * config.max_steps),
        decay=config.decay,
        weight_decay=config.weight_decay,
        gradient_clip=config.gradient_clip,
        mask_fraction=config.mask_fraction,
        validation_every_steps=config.validation_every_steps,
        validation_rows=config.validation_rows,
        checkpoint_every_steps=config.checkpoint_every_steps,
        keep_checkpoints=config.keep_checkpoints,
    )


def _options(config: TrainConfig) -> LaunchOptions:
    return LaunchOptions(
        ranks=config.ranks,
        collective=config.collective,
        max_attempts=config.max_attempts,
        threads_per_rank=config.threads_per_rank,
        heartbeat_seconds=config.heartbeat_seconds,
        step_seconds=config.step_seconds,
        start_seconds=config.start_seconds,
        slots_seconds=config.slots_seconds,
    )


def sections() -> tuple[object, ...]:
    """What the report says of a training."""
    from sparkml.report.training import TRAINING

    return (TRAINING,)


STAGE = Stage(
    TrainConfig, run, "masked-LM pretraining: Horovod ranks in a barrier stage -> a model", sections=sections
)
