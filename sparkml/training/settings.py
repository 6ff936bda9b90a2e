"""Settings of a training: fields of the stages' configurations, and what travels to the ranks as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.config import JsonDict

from sparkml.distributed.collective import CollectiveName
from sparkml.errors import ConfigError
from sparkml.feed.manifest_file import ManifestFile
from sparkml.feed.reader import FeedSettings, ReaderName
from sparkml.models.adapt.settings import AdaptSettings
from sparkml.models.shaping.settings import Shaping
from sparkml.training.schedule import Decay

GradientType = Literal["float32", "float16"]

# Below a run folder: the trained network, what it says of the held-out samples, and what was to be done.
RESULT, ANSWERS, JOB_FILE = "result", "answers", "job.json"
Precision = Literal["auto", "float32", "bfloat16"]
Parallel = Literal["data", "fsdp"]
_RUNTIME: JsonDict = {"semantic": False}  # where and how closely watched the work runs: not what comes out


class LoopSettings(BaseModel):
    """The optimisation itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_steps: int | None = Field(None, ge=1, description="Optimiser steps at most; null: as max_epochs says")
    max_epochs: float | None = Field(
        3.0, gt=0, description="Passes over the training rows at most; null: any"
    )
    batch_size: int = Field(32, ge=1, description="Samples of a step, of all ranks together")
    micro_batch_tokens: int = Field(
        8192, ge=1, description="Tokens of one forward pass, padding included: a step is cut to it"
    )
    pool_steps: int = Field(
        32,
        ge=1,
        description="Steps whose samples are sorted by length together; 1: none, as for packed samples",
    )
    canonical_streams: int = Field(
        8,
        ge=1,
        description="Parts in which samples are read side by side: the most ranks; a step is the same on any of them",
    )
    learning_rate: float = Field(5e-5, gt=0, description="Highest learning rate of AdamW")
    warmup_fraction: float = Field(0.1, ge=0, lt=1, description="Part of the steps in which the rate rises")
    decay: Decay = Field("linear", description="How the rate falls after that: linear, cosine or none")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's, on matrices only")
    gradient_clip: float = Field(1.0, ge=0, description="Largest norm of the gradients; 0: any")
    precision: Precision = Field(
        "auto", description="Of activations: auto is bfloat16 on a GPU, else float32"
    )
    gradient_type: GradientType = Field(
        "float32",
        description="In which gradients travel: float16 halves the bytes and rounds (but in the first step of a run)",
    )
    compile: bool = Field(False, description="torch.compile the network: minutes at first, faster steps then")
    ema_decay: float = Field(
        0.0, ge=0, lt=1, description="Average the weights over the steps; 0: take the last"
    )
    validation_every_steps: int = Field(100, ge=1, description="Steps between two validations")
    validation_rows: int = Field(512, ge=0, description="Held-out samples that a validation looks at")
    best_metric: str = Field(
        "", description="Keep the weights that are best by this metric; empty: the last ones"
    )
    patience: int = Field(
        0, ge=0, description="End after so many validations without a better best_metric; 0: never"
    )

    @model_validator(mode="after")
    def _ends(self) -> LoopSettings:
        if self.max_steps is None and self.max_epochs is None:
            raise ValueError("a training needs an end: max_steps or max_epochs")
        if self.patience and not self.best_metric:
            raise ValueError("patience needs best_metric: what is to get better")
        return self

    def steps(self, steps_per_epoch: int) -> int:
        """Optimiser steps in all."""
        ends = [self.max_steps] if self.max_steps else []
        if self.max_epochs:
            ends.append(max(1, round(self.max_epochs * steps_per_epoch)))
        return min(ends)


class HorovodSettings(BaseModel):
    """How Horovod puts sums together and what it writes down; null: as it does by itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fusion_bytes: int | None = Field(
        None, ge=0, description="Sums that wait travel together, up to so many bytes"
    )
    # Each cycle its ranks talk to each other, sums or not: at Horovod's 1 ms two ranks on two cores lost a tenth by it.
    # With 12 ms steps of 1.7 s take 6 % less time than with 3.5, steps of 0.1 s 9 % more.
    cycle_ms: float | None = Field(3.5, gt=0, description="How long it waits for more of them")
    autotune: bool = Field(False, description="It looks for both itself, in the first minutes")
    timeline: str = Field(
        "", description="File, on rank 0's machine, for a trace that chrome://tracing shows"
    )

    def environment(self) -> dict[str, str]:
        """What Horovod reads when a rank joins."""
        given = {
            "HOROVOD_FUSION_THRESHOLD": self.fusion_bytes,
            "HOROVOD_CYCLE_TIME": self.cycle_ms,
            "HOROVOD_AUTOTUNE": 1 if self.autotune else None,
            "HOROVOD_TIMELINE": self.timeline or None,
        }
        return {name: str(value) for name, value in given.items() if value is not None}


class SpreadSettings(BaseModel):
    """How the ranks share the model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parallel: Parallel = Field(
        "data",
        description="data: every rank holds the model; fsdp: each its part, for one that fits no device (torch only)",
        json_schema_extra=_RUNTIME,
    )
    tensor_ranks: int = Field(
        1,
        ge=1,
        description="With fsdp: neighbouring ranks that compute every block together on the same samples",
        json_schema_extra=_RUNTIME,
    )
    activation_checkpointing: bool = Field(
        False,
        description="Compute each block again in the backward pass and keep little of the forward pass in memory",
        json_schema_extra=_RUNTIME,
    )


class RankSettings(SpreadSettings):
    """How ranks are started, fed and watched."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ranks: int = Field(
        1,
        ge=0,
        description="Processes that train together, one Spark task each; 0: none, `sparkml train` does it elsewhere",
        json_schema_extra=_RUNTIME,
    )
    collective: CollectiveName = Field(
        "horovod", description="What joins the ranks: horovod or torch", json_schema_extra=_RUNTIME
    )
    horovod: HorovodSettings = Field(
        HorovodSettings(),
        description="Horovod's fusion_bytes, cycle_ms, autotune, timeline",
        json_schema_extra=_RUNTIME,
    )
    threads_per_rank: int = Field(1, ge=1, description="Torch threads of a rank", json_schema_extra=_RUNTIME)
    reader: ReaderName = Field(
        "petastorm", description="What reads: petastorm or arrow", json_schema_extra=_RUNTIME
    )
    prefetch_bytes: int = Field(
        64 << 20, ge=0, description="Samples decoded ahead by a rank, at most", json_schema_extra=_RUNTIME
    )
    cache_bytes: int = Field(
        0,
        ge=0,
        description="Disk of a machine for row groups of remote shards, which later epochs then do not fetch; 0: none",
        json_schema_extra=_RUNTIME,
    )
    cache_folder: str = Field(
        "", description="Where that is; empty: below the temporary folder", json_schema_extra=_RUNTIME
    )
    checkpoint_every_steps: int = Field(
        200, ge=1, description="Steps between two checkpoints", json_schema_extra=_RUNTIME
    )
    keep_checkpoints: int = Field(2, ge=1, description="Checkpoints to keep", json_schema_extra=_RUNTIME)
    max_attempts: int = Field(
        3,
        ge=1,
        description="Failed attempts in a row without progress, each from the last checkpoint",
        json_schema_extra=_RUNTIME,
    )
    heartbeat_seconds: float = Field(
        12.0, gt=0, description="Longest silence of a rank", json_schema_extra=_RUNTIME
    )
    step_seconds: float = Field(
        300.0, gt=0, description="Longest work on one step or validation", json_schema_extra=_RUNTIME
    )
    start_seconds: float = Field(
        180.0, gt=0, description="Longest start of a rank", json_schema_extra=_RUNTIME
    )
    join_seconds: float = Field(
        60.0,
        gt=0,
        description="Longest search of ranks that are all there for each other",
        json_schema_extra=_RUNTIME,
    )
    slots_seconds: float = Field(
        300.0, ge=0, description="Longest wait for lost executors to be replaced", json_schema_extra=_RUNTIME
    )
    mlflow_uri: str = Field("", description="MLflow store; empty: a local one", json_schema_extra=_RUNTIME)


class Start(BaseModel):
    """What a training starts from: a model directory; `random`: its configuration and tokenizer alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: str
    random: bool = False


class TrainingJob(BaseModel):
    """One training: what to read, what to learn, where to write. Travels to the ranks as JSON, manifests as files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: dict[str, Any]
    start: Start
    adapt: AdaptSettings = AdaptSettings()
    on_features: bool = False  # the samples hold what the head of a frozen network is given
    shaping: Shaping = Shaping()
    loop: LoopSettings
    spread: SpreadSettings = SpreadSettings()
    seed: int
    train_manifest: ManifestFile
    validation_manifest: ManifestFile
    reader: ReaderName
    feed: FeedSettings = FeedSettings()
    checkpoint_every_steps: int
    keep_checkpoints: int
    run_folder: str
    run_name: str
    tensorboard_folder: str
    mlflow_uri: str
    mlflow_store: str

    @model_validator(mode="after")
    def _random_trains_all(self) -> TrainingJob:
        if self.start.random and self.adapt.method != "full":
            raise ConfigError(
                "weights that are drawn anew have to be trained in full",
                got=f"adapt.method {self.adapt.method} with random weights",
                next_action="set adapt.method=full, or start from the model's weights",
            )
        return self

    @model_validator(mode="after")
    def _shapes_whole_networks(self) -> TrainingJob:
        if self.shaping.is_any and (self.adapt.method != "full" or self.spread.parallel != "data"):
            raise ConfigError(
                "a network is shaped where every rank holds and trains all of it",
                got=f"adapt.method {self.adapt.method}, parallel {self.spread.parallel}",
                next_action="set adapt.method=full and parallel=data",
            )
        if self.loop.compile and self.shaping.teaching is not None and self.shaping.teaching.beside:
            raise ConfigError(
                "what a compiled network computes on the way cannot be listened to",
                got=f"match {', '.join(self.shaping.teaching.beside)}",
                next_action="set compile=false",
            )
        return self

    def to_payload(self) -> dict[str, Any]:
        """JSON values for the launcher."""
        return self.model_dump(mode="json")

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> TrainingJob:
        """What `to_payload` gave."""
        return cls.model_validate(dict(payload))
