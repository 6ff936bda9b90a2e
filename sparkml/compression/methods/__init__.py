"""Ways to make a model smaller or faster, one module a way: its `METHOD`.

A method makes a model directory of another one. What it writes there is what the engines of `sparkml.models` read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sparkml.errors import ConfigError
from sparkml.frame.by_name import find_in, names_in
from sparkml.frame.config_layers import settings_error
from sparkml.models.shaping.settings import Shaping
from sparkml.tasks.task import Task

LOADED_BY_NAME = ("sparkml.compression.methods.*",)
NOTHING = frozenset[str]()


class MethodOptions(BaseModel):
    """Base of a method's settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Learning(Protocol):
    """What a host offers to methods that train."""

    @property
    def teacher(self) -> str:
        """Where the model lies that all forms are made of."""
        ...

    def examples(self, rows: int) -> pa.RecordBatch:
        """Some labelled examples to train on, with the columns that the task reads."""
        ...

    def train(
        self, start: Path, name: str, shaping: Shaping, loop: Mapping[str, Any], *, random: bool
    ) -> Path:
        """A folder with the network that a training from `start` (config.json, weights, inputs) has given.

        `name` tells the trainings of a step apart; `loop`: settings that are others than the step's; `random`: the
        weights are drawn anew.
        """
        ...


@dataclass(frozen=True)
class Given:
    """What a method starts from: a model directory, its task, and examples of what it is used on (columns as read).

    `learning`: what it can train with, where there is something; `making`: the recipe up to this method.
    """

    folder: Path
    task: Task[Any]
    examples: pa.RecordBatch
    seed: int = 0
    learning: Learning | None = None
    making: str = ""


@dataclass(frozen=True)
class Method:
    """One way. `kind` is that of a model which it made, in the table `models`.

    `apply(given, target, options, kept)` writes weights and, where it changes, config.json; `kept` are groups of layers
    that stay as they are. `groups(given)` names those that may; None where the method changes all or nothing.
    `trains(options)`: it needs `given.learning`; `taught`: samples must hold what the first model says of them.
    """

    summary: str
    kind: str
    apply: Callable[[Given, Path, Any, frozenset[str]], None]
    Options: type[MethodOptions] = MethodOptions
    groups: Callable[[Given], tuple[str, ...]] | None = None
    trains: Callable[[Any], bool] = lambda options: False
    taught: bool = False


def check_answers_at_once(given: Given, name: str) -> None:
    """ConfigError for a model that writes text: what it is given at each step is what it has written itself."""
    if given.task.network().writes:
        raise ConfigError(
            f"the method {name} is not for models that write text",
            where=str(given.folder),
            got=f"task {given.task.name}",
            next_action="take int8_dynamic, bf16, weight_only, qat, or prune with sparsity",
        )


def method_names() -> list[str]:
    """Every method."""
    return names_in(__name__, "METHOD")


def method(name: str) -> Method:
    """The method of that name; ConfigError lists those there are."""
    found: Method = find_in(__name__, "METHOD", name, "method")
    return found


class MethodChoice(BaseModel):
    """One step of a recipe: a method's name, or its name and settings."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str = Field(description="Which method; what else stands here are its settings")

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _known(self) -> MethodChoice:
        _ = self.options
        return self

    @property
    def method(self) -> Method:
        """The method."""
        return method(self.name)

    @property
    def options(self) -> Any:
        """Its settings; ConfigError names the one that is wrong."""
        try:
            return self.method.Options(**(self.model_extra or {}))
        except ValidationError as error:
            known = list(self.method.Options.model_fields)
            raise settings_error(f"method {self.name}", "method", known, error) from error

    @property
    def trains(self) -> bool:
        """Whether it needs something to train on."""
        return self.method.trains(self.options)

    def __str__(self) -> str:
        given = ", ".join(f"{name} {value}" for name, value in (self.model_extra or {}).items())
        return f"{self.name} ({given})" if given else self.name
