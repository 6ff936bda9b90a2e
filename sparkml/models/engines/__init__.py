"""What runs the network of a model directory to answer with it, one module an engine: its `ENGINE`.

An engine gives an object that is called as the network of transformers is. All engines of a directory answer alike, up
to rounding: what changes answers (int8, bfloat16, fewer layers) is in the directory, which is then another model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparkml.errors import InputError
from sparkml.frame.by_name import find_in, names_in
from sparkml.models.folder import ENGINE_FILE, read_json
from sparkml.models.networks import NetworkSpec

LOADED_BY_NAME = ("sparkml.models.engines.*",)


@dataclass(frozen=True)
class Engine:
    """One way to run a network. Of those that can, the one of the highest `rank` is taken."""

    summary: str
    rank: int
    why_not: Callable[[NetworkSpec, Path], str]  # empty: it can
    load: Callable[[NetworkSpec, Path], Any]


def engine_names() -> list[str]:
    """Every engine."""
    return names_in(__name__, "ENGINE")


def engine(name: str) -> Engine:
    """The engine of that name; ConfigError lists those there are."""
    found: Engine = find_in(__name__, "ENGINE", name, "engine", "auto")
    return found


def able_engines(spec: NetworkSpec, folder: Path) -> list[str]:
    """The engines that can run a model directory."""
    return [name for name in engine_names() if not engine(name).why_not(spec, folder)]


def choose(name: str, spec: NetworkSpec, folder: Path) -> str:
    """The engine of that name; of `auto` the one that was measured to be the fastest, else that of the highest rank.

    InputError where the one that is named cannot.
    """
    if name != "auto":
        reason = engine(name).why_not(spec, folder)
        if reason:
            raise InputError(f"the engine {name} cannot run this model", where=str(folder), got=reason)
        return name
    able = able_engines(spec, folder)
    measured = read_json(folder / ENGINE_FILE)["engine"] if (folder / ENGINE_FILE).is_file() else ""
    return measured if measured in able else max(able, key=lambda one: engine(one).rank)
