"""Which configuration a command works on: three options that most commands share, declared here alone."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from sparkml.frame.checks import known_in_lake
from sparkml.frame.config import DEFAULT_PIPELINE, ProjectConfig, load_config

PipelineName = Annotated[
    str,
    typer.Option(
        "--pipeline", help="A pipeline of the configuration folder, or a YAML file.", metavar="NAME|FILE"
    ),
]
Env = Annotated[str, typer.Option("--env", help="Environment: an overlay in the configuration folder.")]
ConfDir = Annotated[str | None, typer.Option("--conf-dir", help="Configuration folder. Default: ./conf.")]


@dataclass(frozen=True)
class Choice:
    """What the options say of the configuration."""

    pipeline: PipelineName = DEFAULT_PIPELINE
    env: Env = "local"
    conf_dir: ConfDir = None

    def load(
        self,
        overrides: Sequence[str] | None = None,
        known: Callable[[str], Callable[[str], bool]] = known_in_lake,
    ) -> ProjectConfig:
        """The resolved configuration; a pipeline may read what the lake has already."""
        return load_config(
            self.env, overrides or (), pipeline=self.pipeline, conf_dir=self.conf_dir, known=known
        )


def chosen(command: Callable[..., None]) -> Callable[..., None]:
    """A command that has the fields of `Choice` as options where `command` has a parameter `choice`."""
    options = inspect.signature(Choice, eval_str=True).parameters
    own = inspect.signature(command, eval_str=True).parameters

    @functools.wraps(command)
    def called(**given: Any) -> None:
        choice = Choice(**{name: given.pop(name) for name in options})
        command(choice=choice, **given)

    parameters = [*(own[name] for name in own if name != "choice"), *options.values()]
    # Typer reads a command's parameters from both.
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    called.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # any function may have one
        [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    )
    return called
