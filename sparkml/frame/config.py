"""Configuration: base YAML, an overlay per environment, `key=value` overrides; typed, frozen, with origins.

    conf/base/project.yaml        lake, artifacts, seed
    conf/base/<stage>.yaml        every field of a stage with its meaning and a safe default
    conf/<env>.yaml               only what differs in that environment
    conf/spark/<env>.conf         Spark properties, in the format of spark-defaults.conf
    key=value                     from the command line; the last word

A value `${shard.validation_fraction}` takes the value of another key. Unknown keys are errors.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sparkml.errors import ConfigError
from sparkml.frame.config_layers import (
    ROOT_KEYS,
    apply_override,
    compose,
    did_you_mean,
    flatten,
    resolve_references,
    spark_properties,
)

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

TableRef = Annotated[
    str,
    Field(
        min_length=1,
        description="A table of the lake by its bare name, or a path, URI or catalog.schema.table",
    ),
]


class StageConfig(BaseModel):
    """Base of every stage's configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def semantic(self) -> dict[str, Any]:
        """The fields that decide the result; where work runs or logs is left out of the fingerprint."""
        dumped = self.model_dump(mode="json")
        return {name: value for name, value in dumped.items() if _is_semantic(type(self), name)}


def _is_semantic(model: type[BaseModel], name: str) -> bool:
    extra = model.model_fields[name].json_schema_extra
    return not (isinstance(extra, dict) and extra.get("semantic") is False)


@dataclass(frozen=True)
class ProjectConfig:
    """Everything resolved: the lake, the stages' configurations, and where each value came from."""

    env: str
    lake: str
    artifacts: str
    seed: int
    spark: Mapping[str, str]
    stages: Mapping[str, StageConfig]
    origins: Mapping[str, str]

    def flat(self) -> Iterator[tuple[str, Any, str]]:
        """Every key with its value and its origin, in the order of the stages."""
        head = {"lake": self.lake, "artifacts": self.artifacts, "seed": self.seed}
        for key, value in head.items():
            yield key, value, self.origins.get(key, "default")
        for stage, config in self.stages.items():
            for key, value in flatten(config.model_dump(mode="json"), stage):
                yield key, value, self.origins.get(key, "default")
        for key, value in sorted(self.spark.items()):
            yield key, value, self.origins.get(key, "default")


def load_config(
    env: str,
    overrides: Sequence[str] = (),
    *,
    stages: Mapping[str, type[StageConfig]],
    conf_dir: str | None = None,
) -> ProjectConfig:
    """Compose the configuration of an environment; ConfigError for anything that cannot be meant."""
    root = find_conf(conf_dir)
    tree, origins = compose(root, env, stages)
    spark = spark_properties(root, env, origins)
    for override in overrides:
        apply_override(tree, spark, origins, override, stages)
    _check_top_level(tree, stages)
    resolve_references(tree, origins)
    built = {name: _build(model, name, tree.get(name) or {}, origins) for name, model in stages.items()}
    lake = _lake(tree.get("lake"))
    return ProjectConfig(
        env=env,
        lake=lake,
        artifacts=_artifacts(tree.get("artifacts"), lake),
        seed=_seed(tree.get("seed", 17)),
        spark=spark,
        stages=built,
        origins=origins,
    )


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


def digest(value: object) -> str:
    """A stable hash of a JSON value: 16 lower-case hex digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _check_top_level(tree: Mapping[str, Any], stages: Mapping[str, type[StageConfig]]) -> None:
    known = [*stages, *ROOT_KEYS]
    for key, value in tree.items():
        if key not in known:
            raise ConfigError(
                f"unknown configuration key `{key}`", next_action=did_you_mean(key, [*known, "spark"])
            )
        if key in stages and not isinstance(value, dict):
            raise ConfigError(
                f"`{key}` is a group of keys, not one value", got=repr(value), expected=f"{key}.FIELD=VALUE"
            )


def _build(
    model: type[StageConfig], stage: str, values: Mapping[str, Any], origins: Mapping[str, str]
) -> StageConfig:
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in (stage, *first["loc"]))
        origin = origins.get(path, "default")
        if first["type"] == "extra_forbidden":
            known = [key for key, _ in _model_keys(model, stage)]
            raise ConfigError(
                f"unknown configuration key `{path}`", where=origin, next_action=did_you_mean(path, known)
            ) from error
        raise ConfigError(
            f"`{path}` cannot have this value", where=origin, got=repr(first["input"]), expected=first["msg"]
        ) from error


def _model_keys(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str]]:
    """Every dotted key of a configuration model with its description."""
    for name, field in model.model_fields.items():
        nested = [
            kind
            for kind in (field.annotation, *get_args(field.annotation))
            if isinstance(kind, type) and issubclass(kind, BaseModel)
        ]
        if nested:
            yield from _model_keys(nested[0], f"{prefix}.{name}")
        else:
            yield f"{prefix}.{name}", field.description or ""


def _lake(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError("no lake is given", expected="lake=DIR, lake=URI or lake=catalog.schema")
    return value if is_remote(value) else str(Path(value).expanduser().resolve())


def is_remote(location: str) -> bool:
    """True for a URI or a `catalog.schema`; False for a folder of this machine."""
    return "://" in location or re.fullmatch(r"\w+\.\w+", location) is not None


def _artifacts(value: object, lake: str) -> str:
    if value is None:
        if re.fullmatch(r"\w+\.\w+", lake):
            raise ConfigError(
                "a lake of catalog tables needs a folder for models and reports",
                expected="artifacts=/Volumes/CATALOG/SCHEMA/VOLUME/sparkml",
            )
        return f"{lake.rstrip('/')}/_artifacts"
    if not isinstance(value, str):
        raise ConfigError("`artifacts` must be a folder or a URI", got=repr(value))
    return value if is_remote(value) else str(Path(value).expanduser().resolve())


def _seed(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ConfigError("`seed` must be a whole number >= 0", got=repr(value))
    return value
