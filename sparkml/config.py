"""Configuration: base YAML, an overlay per environment, `key=value` overrides; typed, frozen, with origins.

    conf/base/project.yaml        lake, artifacts, seed
    conf/base/<stage>.yaml        every field of a stage with its meaning and a safe default
    conf/<env>.yaml               only what differs in that environment
    conf/spark/<env>.conf         Spark properties, in the format of spark-defaults.conf
    key=value                     from the command line; the last word

A value `${shard.validation_fraction}` takes the value of another key. Unknown keys are errors.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.resources
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sparkml.errors import ConfigError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

TableRef = Annotated[
    str,
    Field(
        min_length=1,
        description="A table of the lake by its bare name, or a path, URI or catalog.schema.table",
    ),
]
ROOT_KEYS = ("lake", "artifacts", "seed")
_REFERENCE = re.compile(r"^\$\{([a-z_0-9.]+)\}$")


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
            for key, value in _flatten(config.model_dump(mode="json"), stage):
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
    tree, origins = _compose(root, env, stages)
    spark = _spark_properties(root, env, origins)
    for override in overrides:
        _apply_override(tree, spark, origins, override, stages)
    _check_top_level(tree, stages)
    _resolve_references(tree, origins)
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


def environments(root: Traversable) -> list[str]:
    """The environments that have an overlay."""
    return sorted(entry.name[: -len(".yaml")] for entry in root.iterdir() if entry.name.endswith(".yaml"))


def digest(value: object) -> str:
    """A stable hash of a JSON value: 16 lower-case hex digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _compose(
    root: Traversable, env: str, stages: Mapping[str, type[StageConfig]]
) -> tuple[dict[str, Any], dict[str, str]]:
    if env not in environments(root):
        raise ConfigError(
            f"there is no environment `{env}`",
            expected=", ".join(environments(root)),
            next_action="choose one with --env NAME",
        )
    tree: dict[str, Any] = {}
    origins: dict[str, str] = {}
    base = root.joinpath("base")
    for name in ("project", *stages):
        file = base.joinpath(f"{name}.yaml")
        if file.is_file():
            content = _load_yaml(file)
            _merge(tree, content if name == "project" else {name: content}, f"base/{name}.yaml", origins)
    _merge(tree, _load_yaml(root.joinpath(f"{env}.yaml")), f"{env}.yaml", origins)
    return tree, origins


def _load_yaml(file: Traversable) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(
            "a configuration file is not valid YAML", where=str(file), got=str(error)
        ) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(
            "a configuration file must hold a mapping", where=str(file), got=type(content).__name__
        )
    return content


def _merge(
    tree: dict[str, Any], content: Mapping[str, Any], origin: str, origins: dict[str, str], prefix: str = ""
) -> None:
    for key, value in content.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, dict) and isinstance(tree.get(key, {}), dict):
            _merge(tree.setdefault(key, {}), value, origin, origins, f"{dotted}.")
        else:
            tree[key] = value
        for leaf, _ in _flatten(value, dotted):
            origins[leaf] = origin


def _flatten(value: object, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flatten(inner, f"{prefix}.{key}")
    else:
        yield prefix, value


def _spark_properties(root: Traversable, env: str, origins: dict[str, str]) -> dict[str, str]:
    """Lines `key value`, as in spark-defaults.conf; `#` begins a comment."""
    file = root.joinpath("spark", f"{env}.conf")
    properties: dict[str, str] = {}
    if not file.is_file():
        return properties
    for line in file.read_text(encoding="utf-8").splitlines():
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            key, _, value = stripped.partition(" ")
            properties[key] = value.strip()
            origins[key] = f"spark/{env}.conf"
    logging_file = root.joinpath("spark", "log4j2.properties")
    if properties.get("spark.master", "").startswith("local") and isinstance(logging_file, Path):
        key = "spark.driver.extraJavaOptions"
        option = f"-Dlog4j2.configurationFile={logging_file.resolve().as_uri()}"
        properties[key] = f"{properties.get(key, '')} {option}".strip()
        origins[key] = f"spark/{env}.conf"
    return properties


def _apply_override(
    tree: dict[str, Any],
    spark: dict[str, str],
    origins: dict[str, str],
    override: str,
    stages: Mapping[str, type[StageConfig]],
) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(
            "an override must have the form key=value",
            got=override,
            expected="for example clean.min_words=20",
            next_action=_did_you_mean(override, [*stages, *ROOT_KEYS]),
        )
    origins[key] = "command line"
    if key.startswith("spark."):
        spark[key] = text
        return
    *parents, leaf = key.split(".")
    node = tree
    for parent in parents:
        if not isinstance(node.get(parent), dict):
            node[parent] = {}
        node = node[parent]
    node[leaf] = _parse_value(text)


def _parse_value(text: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    # A date or a mapping written on the command line is meant as the text it is.
    return value if isinstance(value, (str, int, float, bool, list, type(None))) else text


def _check_top_level(tree: Mapping[str, Any], stages: Mapping[str, type[StageConfig]]) -> None:
    known = [*stages, *ROOT_KEYS]
    for key, value in tree.items():
        if key not in known:
            raise ConfigError(
                f"unknown configuration key `{key}`", next_action=_did_you_mean(key, [*known, "spark"])
            )
        if key in stages and not isinstance(value, dict):
            raise ConfigError(
                f"`{key}` is a group of keys, not one value", got=repr(value), expected=f"{key}.FIELD=VALUE"
            )


def _resolve_references(tree: dict[str, Any], origins: dict[str, str]) -> None:
    flat = dict(_flatten(tree, "")) if tree else {}
    values = {key.lstrip("."): value for key, value in flat.items()}
    for dotted, value in values.items():
        match = _REFERENCE.match(value) if isinstance(value, str) else None
        if match is None:
            continue
        if match[1] not in values:
            raise ConfigError(
                f"`{dotted}` refers to a key that is not there",
                got=value,
                next_action=_did_you_mean(match[1], list(values)),
            )
        node = tree
        *parents, leaf = dotted.split(".")
        for parent in parents:
            node = node[parent]
        node[leaf] = values[match[1]]
        origins[dotted] = f"{origins.get(match[1], 'default')} ({match[1]})"


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
                f"unknown configuration key `{path}`", where=origin, next_action=_did_you_mean(path, known)
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


def _did_you_mean(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean `{close[0]}`?" if close else f"known: {', '.join(sorted(known))}"


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
