"""The whole way as one tuple: every stage, what it reads and what it writes."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from sparkml.errors import UsageError
from sparkml.frame.config import StageConfig
from sparkml.frame.runs import RunReport, StageRun


class StageModule(Protocol):
    """What a stage's module offers to the runner."""

    def run(self, job: StageRun, config: StageConfig) -> RunReport:
        """Read, transform, write kept and rejects, and report."""
        ...


@dataclass(frozen=True)
class Stage:
    """One stage. `reads`, `writes`, `models` and `makes` name fields of its configuration."""

    name: str
    summary: str
    config_class: str
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    models: tuple[str, ...] = ()  # models that it starts from
    makes: str = ""  # the model that it registers
    code: tuple[str, ...] = ()  # packages besides its own whose code decides the result
    always: bool = False  # runs whenever asked: cheap, and its inputs are everything

    @property
    def module(self) -> str:
        """Where the stage lives."""
        package = f"sparkml.stages.{self.name}"
        found = importlib.util.find_spec(package)
        return package if found is None or found.submodule_search_locations is None else f"{package}.stage"

    def config_type(self) -> type[StageConfig]:
        """The class of its configuration."""
        found = getattr(importlib.import_module(self.module), self.config_class)
        if not (isinstance(found, type) and issubclass(found, StageConfig)):
            raise UsageError(f"{self.module}.{self.config_class} is no StageConfig")
        return found

    def entry(self) -> Callable[[StageRun, StageConfig], RunReport]:
        """Its `run` function."""
        module: StageModule = importlib.import_module(self.module)
        return module.run

    def source_state(self) -> Callable[[StageConfig], str] | None:
        """For a stage that reads files, not tables: a hash that changes when the files do."""
        found: Callable[[StageConfig], str] | None = getattr(
            importlib.import_module(self.module), "source_state", None
        )
        return found

    def refs(self, config: StageConfig, fields: tuple[str, ...]) -> list[str]:
        """The tables or models that the configuration names in `fields`."""
        return [str(getattr(config, field)) for field in fields]


STAGES: tuple[Stage, ...] = (
    Stage(
        "ingest",
        "files or the installed documentation -> bronze",
        "IngestConfig",
        writes=("target",),
        code=("kernels",),
    ),
    Stage(
        "clean",
        "normalise, Gopher repetition and quality rules -> clean",
        "CleanConfig",
        reads=("source",),
        writes=("target",),
        code=("kernels",),
    ),
    Stage(
        "dedupe",
        "exact and near duplicates, one document a cluster -> kept",
        "DedupeConfig",
        reads=("source",),
        writes=("target", "duplicates"),
        code=("kernels",),
    ),
    Stage(
        "shard",
        "tokenizer, packing, split, equal row groups -> samples, manifests",
        "ShardConfig",
        reads=("source", "duplicates"),
        writes=("target", "manifests"),
        code=("kernels", "feed"),
    ),
    Stage(
        "train",
        "masked-LM pretraining: Horovod ranks in a barrier stage -> model `encoder`",
        "TrainConfig",
        reads=("manifests",),
        makes="model_id",
        code=("feed", "distributed", "models", "compat"),
    ),
    Stage(
        "finetune",
        "classify documents by label, from the encoder -> model `classifier`",
        "FinetuneConfig",
        reads=("source", "duplicates"),
        models=("encoder_id",),
        makes="model_id",
        code=("models",),
    ),
    Stage(
        "compress",
        "dynamic int8 of the classifier -> model `classifier-int8`",
        "CompressConfig",
        models=("source_id",),
        makes="model_id",
        code=("models",),
    ),
    Stage(
        "score",
        "every kept document, once per model version -> scores",
        "ScoreConfig",
        reads=("source",),
        writes=("target",),
        models=("model_id",),
        code=("models",),
    ),
    Stage("report", "one HTML file of the whole run", "ReportConfig", always=True),
)


def stage_named(name: str) -> Stage:
    """The stage of that name; UsageError lists those there are."""
    for stage in STAGES:
        if stage.name == name:
            return stage
    raise UsageError(f"there is no stage `{name}`", expected=", ".join(stage.name for stage in STAGES))


def config_types() -> Mapping[str, type[StageConfig]]:
    """Every stage's configuration class, in the order of the way."""
    return {stage.name: stage.config_type() for stage in STAGES}


def until(name: str | None) -> tuple[Stage, ...]:
    """The way up to and including stage `name`; the whole way for None."""
    if name is None:
        return STAGES
    last = STAGES.index(stage_named(name))
    return STAGES[: last + 1]


def upstream(stage: Stage, configs: Mapping[str, StageConfig]) -> tuple[str, ...]:
    """The stages that write what `stage` reads; for a stage that reads everything, all before it."""
    earlier = STAGES[: STAGES.index(stage)]
    if stage.always:
        return tuple(other.name for other in earlier)
    wanted = set(stage.refs(configs[stage.name], (*stage.reads, *stage.models)))
    return tuple(
        other.name
        for other in earlier
        if wanted
        & set(other.refs(configs[other.name], (*other.writes, *((other.makes,) if other.makes else ()))))
    )
