"""The layers of a configuration: YAML files, an environment's overlay, `key=value` words, merged into one tree of keys.

Beside the tree goes the origin of every dotted key: the file or the command line that had the last word on it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from sparkml.errors import ConfigError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

ROOT_KEYS = ("lake", "artifacts", "seed")
_REFERENCE = re.compile(r"^\$\{([a-z_0-9.]+)\}$")


def environments(root: Traversable) -> list[str]:
    """The environments that have an overlay."""
    return sorted(entry.name[: -len(".yaml")] for entry in root.iterdir() if entry.name.endswith(".yaml"))


def compose(root: Traversable, env: str, stages: Collection[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """The tree of an environment from its files, and the origin of every key."""
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
        for leaf, _ in flatten(value, dotted):
            origins[leaf] = origin


def flatten(value: object, prefix: str) -> Iterator[tuple[str, Any]]:
    """Every dotted key below `prefix` with its value."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from flatten(inner, f"{prefix}.{key}")
    else:
        yield prefix, value


def spark_properties(root: Traversable, env: str, origins: dict[str, str]) -> dict[str, str]:
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


def apply_override(
    tree: dict[str, Any],
    spark: dict[str, str],
    origins: dict[str, str],
    override: str,
    stages: Collection[str],
) -> None:
    """Give a key the value of a `key=value` word."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(
            "an override must have the form key=value",
            got=override,
            expected="for example clean.min_words=20",
            next_action=did_you_mean(override, [*stages, *ROOT_KEYS]),
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


def resolve_references(tree: dict[str, Any], origins: dict[str, str]) -> None:
    """Replace each `${group.key}` by the value of that key."""
    flat = dict(flatten(tree, "")) if tree else {}
    values = {key.lstrip("."): value for key, value in flat.items()}
    for dotted, value in values.items():
        match = _REFERENCE.match(value) if isinstance(value, str) else None
        if match is None:
            continue
        if match[1] not in values:
            raise ConfigError(
                f"`{dotted}` refers to a key that is not there",
                got=value,
                next_action=did_you_mean(match[1], list(values)),
            )
        node = tree
        *parents, leaf = dotted.split(".")
        for parent in parents:
            node = node[parent]
        node[leaf] = values[match[1]]
        origins[dotted] = f"{origins.get(match[1], 'default')} ({match[1]})"


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """A hint: the known word that is nearest, else all of them."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean `{close[0]}`?" if close else f"known: {', '.join(sorted(known))}"
