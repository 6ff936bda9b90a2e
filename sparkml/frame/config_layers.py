"""The layers of a configuration: YAML files, an overlay, the pipeline file and `key=value` words, merged step by step.

Beside the values goes the origin of every dotted key: the file or the command line that had the last word on it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from sparkml.errors import ConfigError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

ROOT_KEYS = ("lake", "artifacts", "seed")
_REFERENCE = re.compile(r"^\$\{([A-Za-z_0-9.-]+)\}$")
_STEP_NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_-]*$")


class Layers:
    """The values of the project (`root`), of each step (`steps`) and of Spark, with their origins."""

    def __init__(self, conf: Traversable, env: str, pipeline: str) -> None:
        if env not in environments(conf):
            known = environments(conf)
            raise ConfigError(
                f"there is no environment `{env}`",
                expected=", ".join(known),
                next_action="choose one with --env NAME",
            )
        self._conf = conf
        self.origins: dict[str, str] = {}
        self.root: dict[str, Any] = {}
        self.steps: dict[str, dict[str, Any]] = {}
        self._stages: dict[str, str] = {}
        self._overlay = load_yaml(conf.joinpath(f"{env}.yaml"))
        self.pipeline_name, content = read_pipeline(conf, pipeline)
        for key in ROOT_KEYS:
            for origin, layer in (
                ("base/project.yaml", load_yaml(conf.joinpath("base", "project.yaml"))),
                (f"{env}.yaml", self._overlay),
            ):
                if key in layer:
                    self.root[key], self.origins[key] = layer[key], origin
        for name, given in _declared_steps(self.pipeline_name, content).items():
            self._add_step(name, given, env)
        self._check_overlay(env)
        self.spark = spark_properties(conf, env, self.origins)

    def stage_of(self, step: str) -> str:
        """The stage that a step uses."""
        return self._stages[step]

    def _add_step(self, name: str, given: Mapping[str, Any], env: str) -> None:
        own = dict(given)
        stage = own.pop("stage", name)
        values: dict[str, Any] = {}
        layers = [
            (f"base/{stage}.yaml", self._base(stage)),
            (f"{env}.yaml", self._overlay.get(stage) or {}),
            (f"pipelines/{self.pipeline_name}.yaml", own),
        ]
        if name != stage:  # what the environment says about this step only
            layers.insert(2, (f"{env}.yaml", self._overlay.get(name) or {}))
        for origin, layer in layers:
            if not isinstance(layer, dict):
                raise ConfigError(
                    f"`{name}` is a group of keys, not one value", where=origin, got=repr(layer)
                )
            _merge(values, layer, origin, self.origins, f"{name}.")
        self.steps[name], self._stages[name] = values, str(stage)

    def _base(self, stage: object) -> dict[str, Any]:
        file = self._conf.joinpath("base", f"{stage}.yaml")
        return load_yaml(file) if file.is_file() else {}

    def _check_overlay(self, env: str) -> None:
        # An overlay may name stages that this pipeline does not use, but nothing unknown.
        files = [entry.name for entry in self._conf.joinpath("base").iterdir()]
        known = {*self.steps, *self._stages.values(), *(name[: -len(".yaml")] for name in files), *ROOT_KEYS}
        for key in self._overlay:
            if key not in known:
                raise ConfigError(
                    f"unknown configuration key `{key}`",
                    where=f"{env}.yaml",
                    next_action=did_you_mean(key, sorted(known)),
                )

    def override_all(self, words: Sequence[str]) -> None:
        """Give keys the values of `key=value` words; what chooses a kind goes first."""
        for word in sorted(words, key=lambda word: word.partition("=")[0].rpartition(".")[2] not in _KINDS):
            self.override(word)

    def override(self, word: str) -> None:
        """Give a key the value of a `key=value` word."""
        key, equals, text = word.partition("=")
        known = [*self.steps, *ROOT_KEYS, "spark"]
        if not equals or not key:
            raise ConfigError(
                "an override must have the form key=value",
                got=word,
                expected="for example clean.max_text_bytes=1000000",
                next_action=did_you_mean(word, known),
            )
        head, dot, rest = key.partition(".")
        self.origins[key] = "command line"
        if key.startswith("spark."):
            self.spark[key] = text
        elif key in ROOT_KEYS:
            self.root[key] = parse_value(text)
        elif head not in self.steps:
            raise ConfigError(
                f"unknown configuration key `{head}`",
                where=f"pipeline `{self.pipeline_name}`",
                next_action=did_you_mean(head, known),
            )
        elif not dot:
            raise ConfigError(
                f"`{key}` is a group of keys, not one value", got=repr(text), expected=f"{key}.FIELD=VALUE"
            )
        else:
            *group, leaf = rest.split(".")
            value = parse_value(text)
            if group and _begins_anew(_group(self.steps[head], group), {leaf: value}):
                _place(self.steps[head], group, {})
            _place(self.steps[head], [*group, leaf], value)

    def resolve_references(self) -> None:
        """Replace each `${step.field}` by that field's value; without such a step, by the default of the stage."""
        values = {key: value for name, tree in self.steps.items() for key, value in flatten(tree, name)}
        values |= {key: self.root.get(key) for key in ROOT_KEYS}
        for dotted, value in list(values.items()):
            match = _REFERENCE.match(value) if isinstance(value, str) else None
            if match is None:
                continue
            if match[1] not in values:
                stage = match[1].partition(".")[0]
                defaults = self._base(stage)
                values |= {k: v for k, v in flatten(defaults, stage) if defaults and k not in values}
            if match[1] not in values:
                raise ConfigError(
                    f"`{dotted}` refers to a key that does not exist",
                    got=value,
                    next_action=did_you_mean(match[1], list(values)),
                )
            step, _, rest = dotted.partition(".")
            _place(self.steps[step], rest.split("."), values[match[1]])
            self.origins[dotted] = f"{self.origins.get(match[1], 'default')} ({match[1]})"


def environments(conf: Traversable) -> list[str]:
    """The environments that have an overlay."""
    return _yaml_names(conf)


def pipelines(conf: Traversable) -> list[str]:
    """The pipelines of a configuration folder."""
    folder = conf.joinpath("pipelines")
    return _yaml_names(folder) if folder.is_dir() else []


def _yaml_names(folder: Traversable) -> list[str]:
    return sorted(entry.name[: -len(".yaml")] for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def read_pipeline(conf: Traversable, name: str) -> tuple[str, dict[str, Any]]:
    """A pipeline of the configuration folder by its name, or any file by its path."""
    file = conf.joinpath("pipelines", f"{name}.yaml")
    if "/" in name or name.endswith((".yaml", ".yml")):
        file = Path(name)
    if not file.is_file():
        known = pipelines(conf)
        raise ConfigError(
            f"there is no pipeline `{name}`",
            expected=f"{', '.join(known)}, or a path to a YAML file",
            next_action=did_you_mean(name, known),
        )
    return file.name.rpartition(".")[0], load_yaml(file)


def _declared_steps(name: str, content: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    where = f"pipeline `{name}`"
    for key in content:
        if key not in ("description", "steps"):
            raise ConfigError(
                f"unknown key `{key}`", where=where, next_action=did_you_mean(key, ["description", "steps"])
            )
    steps = content.get("steps")
    if not isinstance(steps, dict) or not steps:
        raise ConfigError(
            "a pipeline has no steps", where=where, expected="steps: {NAME: {stage: STAGE, ...}}"
        )
    for step, given in steps.items():
        if not isinstance(step, str) or not _STEP_NAME.match(step) or step in (*ROOT_KEYS, "spark"):
            raise ConfigError(
                "a step cannot have this name",
                where=where,
                got=repr(step),
                expected="letters, digits, _ and -",
            )
        if not isinstance(given or {}, dict):
            raise ConfigError(f"step `{step}` must be a mapping", where=where, got=repr(given))
    return {step: dict(given or {}) for step, given in steps.items()}


def load_yaml(file: Traversable) -> dict[str, Any]:
    """A YAML file that holds a mapping."""
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


# What says of which kind a group is: the settings of one kind mean nothing to another.
_KINDS = ("name", "model_type", "method")


def _merge(
    tree: dict[str, Any], content: Mapping[str, Any], origin: str, origins: dict[str, str], prefix: str
) -> None:
    for key, value in content.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, dict) and isinstance(tree.get(key, {}), dict):
            if _begins_anew(tree.get(key, {}), value):
                tree[key] = {}
            _merge(tree.setdefault(key, {}), value, origin, origins, f"{dotted}.")
        else:
            tree[key] = value
        for leaf, _ in flatten(value, dotted):
            origins[leaf] = origin


def _begins_anew(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether settings replace the lower layer's: there are none, or for another kind of task, network or method."""
    return not new or any(kind in new and kind in old and new[kind] != old[kind] for kind in _KINDS)


def _group(tree: Mapping[str, Any], path: Sequence[str]) -> Mapping[str, Any]:
    for name in path:
        inner = tree.get(name)
        tree = inner if isinstance(inner, dict) else {}
    return tree


def _place(tree: dict[str, Any], path: Sequence[str], value: Any) -> None:
    *parents, leaf = path
    for parent in parents:
        if not isinstance(tree.get(parent), dict):
            tree[parent] = {}
        tree = tree[parent]
    tree[leaf] = value


def flatten(value: object, prefix: str) -> Iterator[tuple[str, Any]]:
    """Every dotted key below `prefix` with its value."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from flatten(inner, f"{prefix}.{key}")
    else:
        yield prefix, value


def spark_properties(conf: Traversable, env: str, origins: dict[str, str]) -> dict[str, str]:
    """Lines `key value`, as in spark-defaults.conf; `#` begins a comment."""
    file = conf.joinpath("spark", f"{env}.conf")
    properties: dict[str, str] = {}
    if not file.is_file():
        return properties
    for line in file.read_text(encoding="utf-8").splitlines():
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            key, _, value = stripped.partition(" ")
            properties[key] = value.strip()
            origins[key] = f"spark/{env}.conf"
    logging_file = conf.joinpath("spark", "log4j2.properties")
    if properties.get("spark.master", "").startswith("local") and isinstance(logging_file, Path):
        key = "spark.driver.extraJavaOptions"
        option = f"-Dlog4j2.configurationFile={logging_file.resolve().as_uri()}"
        properties[key] = f"{properties.get(key, '')} {option}".strip()
        origins[key] = f"spark/{env}.conf"
    return properties


def parse_settings(words: Sequence[str]) -> dict[str, Any]:
    """Words of the form key=value; ConfigError for another one."""
    found = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise ConfigError("a setting must have the form key=value", got=word)
        found[key] = parse_value(text)
    return found


def parse_value(text: str) -> Any:
    """A value as YAML reads it; a date stays text, and so does a mapping (`{a,b}` in a path) unless it is empty."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return value if value == {} or isinstance(value, (str, int, float, bool, list, type(None))) else text


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """A hint: the known word that is nearest, else all of them."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean `{close[0]}`?" if close else f"known: {', '.join(sorted(known))}"


def settings_error(what: str, place: str, known: Sequence[str], error: ValidationError) -> ConfigError:
    """Which setting is wrong of what a step chose by its name: `what` (a task, a method), set at `place`."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    return ConfigError(
        f"{what}: {first['msg']}",
        where=f"{place}.{field}" if field else place,
        got=repr(first["input"]),
        expected=f"settings of {what.rpartition(' ')[2]}: {', '.join(known) or 'none'}",
        next_action=did_you_mean(field, known) if first["type"] == "extra_forbidden" else "",
    )
