"""Configuration: a pipeline's steps, each from base YAML, an overlay, the pipeline file and the command line.

    conf/base/project.yaml        lake, artifacts, seed
    conf/base/<stage>.yaml        every field of a stage with its meaning and a safe default
    conf/<env>.yaml               what differs in that environment: by stage, or by step
    conf/pipelines/<name>.yaml    the steps of a pipeline, and what each says of itself
    conf/spark/<env>.conf         Spark properties, in the format of spark-defaults.conf
    key=value                     from the command line (`step.field=value`); the last word

A value `${shard.validation_fraction}` takes the value of another step's field. Unknown keys are errors.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError

from sparkml.errors import ConfigError
from sparkml.frame import storage
from sparkml.frame.config_layers import (
    Layers,
    did_you_mean,
    flatten,
)
from sparkml.frame.pipeline import Pipeline, Step
from sparkml.frame.stage import Stage, StageConfig, load_stage

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

DEFAULT_PIPELINE = "default"


@dataclass(frozen=True)
class ProjectConfig:
    """Everything resolved: the lake, the pipeline's steps, and where each value came from."""

    env: str
    lake: str
    artifacts: str
    seed: int
    spark: Mapping[str, str]
    pipeline: Pipeline
    origins: Mapping[str, str]

    def flat(self) -> Iterator[tuple[str, Any, str]]:
        """Every key with its value and its origin, in the order of the steps; secrets and credentials hidden."""
        head = {"lake": self.lake, "artifacts": self.artifacts, "seed": self.seed}
        for key, value in head.items():
            yield key, value, self.origins.get(key, "default")
        for step in self.pipeline.steps:
            for key, value in flatten(step.config.model_dump(mode="json"), step.name):
                shown = storage.redacted(value) if isinstance(value, str) else value
                yield key, shown, self.origins.get(key, "default")
        for key, value in sorted(storage.describe(self.spark).items()):
            yield key, value, self.origins.get(key, "default")


def load_config(
    env: str,
    overrides: Sequence[str] = (),
    *,
    pipeline: str = DEFAULT_PIPELINE,
    conf_dir: str | None = None,
    known: Callable[[str], Callable[[str], bool]] = lambda lake: lambda ref: False,
) -> ProjectConfig:
    """Compose the configuration of a pipeline in an environment; ConfigError for anything that is not allowed.

    `known(lake)(ref)` says which tables and models a lake already has: a pipeline may read them.
    """
    layers = Layers(find_conf(conf_dir), env, pipeline)
    layers.override_all(overrides)
    layers.resolve_references()
    lake = _lake(layers.root.get("lake"))
    steps = [_step(name, layers) for name in layers.steps]
    return ProjectConfig(
        env=env,
        lake=lake,
        artifacts=_artifacts(layers.root.get("artifacts"), lake),
        seed=_seed(layers.root.get("seed", 17)),
        spark=layers.spark,
        pipeline=Pipeline.of(layers.pipeline_name, steps, known(lake)),
        origins=layers.origins,
    )


def _step(name: str, layers: Layers) -> Step:
    stage = load_stage(layers.stage_of(name))
    values = dict(layers.steps[name])
    for field in stage.fields("makes"):
        values[field] = values.get(field) or name
    for field in stage.fields("writes"):
        if not values.get(field) and stage.config.model_fields[field].default == "":
            values[field] = f"{name}_{field}"
    return Step(name, stage, _build(stage, name, values, layers.origins))


def find_conf(conf_dir: str | None = None) -> Traversable:
    """The configuration folder: the given one, `./conf`, the checkout's, or the one inside the package."""
    if conf_dir is not None:
        given = Path(conf_dir)
        if not (given / "base").is_dir():
            raise ConfigError(
                "the configuration folder has no `base` folder", got=conf_dir, next_action="check --conf-dir"
            )
        return given
    package = importlib.resources.files("sparkml")
    candidates: list[Traversable] = [Path("conf"), package.joinpath("_conf")]
    if isinstance(package, Path):
        candidates.insert(1, package.parent / "conf")
    for candidate in candidates:
        if candidate.joinpath("base").is_dir():
            return candidate
    raise ConfigError(
        "no configuration folder found", expected="./conf/base", next_action="give --conf-dir DIR"
    )


def _build(stage: Stage, step: str, values: Mapping[str, Any], origins: Mapping[str, str]) -> StageConfig:
    try:
        return stage.config(**values)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in (step, *first["loc"]))
        origin = origins.get(path, "default")
        if first["type"] == "extra_forbidden":
            known = [key for key, _ in model_keys(stage.config, step)]
            raise ConfigError(
                f"unknown configuration key `{path}`", where=origin, next_action=did_you_mean(path, known)
            ) from error
        said = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:  # a rule for several fields
            raise ConfigError(f"the settings of `{step}` do not go together", expected=said) from error
        raise ConfigError(
            f"`{path}` cannot have this value", where=origin, got=repr(first["input"]), expected=said
        ) from error


def model_keys(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str]]:
    """Every dotted key of a configuration model with its description."""
    for name, field in model.model_fields.items():
        nested = [
            kind
            for kind in (field.annotation, *get_args(field.annotation))
            if isinstance(kind, type) and issubclass(kind, BaseModel)
        ]
        if nested:
            yield from model_keys(nested[0], f"{prefix}.{name}")
        else:
            yield f"{prefix}.{name}", field.description or ""


def _lake(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError("no lake is given", expected="lake=DIR, lake=URI or lake=catalog.schema")
    return value if storage.is_catalog(value) else storage.normalise(value)


def _artifacts(value: object, lake: str) -> str:
    """Folder or URI of models and reports; by default one that no other lake has."""
    if value is None:
        if storage.is_catalog(lake):
            # A catalog's tables have no folder that we may write to: the schema's Volume `sparkml` takes its place.
            return "/Volumes/{}/{}/sparkml".format(*lake.split("."))
        return storage.join(lake, "_artifacts")
    if not isinstance(value, str) or storage.is_catalog(value):
        raise ConfigError("`artifacts` must be a folder or a URI", got=repr(value))
    return storage.normalise(value)


def _seed(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ConfigError("`seed` must be a whole number >= 0", got=repr(value))
    return value
