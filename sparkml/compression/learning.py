"""What methods that train have in common: where a training starts from, how it runs, what of its result stays."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from pydantic import Field

from sparkml.compression.methods import Given, MethodOptions
from sparkml.errors import ConfigError, InputError
from sparkml.frame.artifacts import CHECKSUMS_FILE
from sparkml.models.directory import copy_inputs
from sparkml.models.folder import ADAPTER_FILE, CONFIG_FILE
from sparkml.models.shaping.settings import Shaping, Sparsity

# In every training but one from random weights: what an earlier method has set to zero stays so.
ZEROS_STAY = Sparsity(share=0)


class LoopOptions(MethodOptions):
    """What a method may set otherwise than the step does; null: as the step says."""

    max_steps: int | None = Field(None, ge=1, description="Optimiser steps at most")
    max_epochs: float | None = Field(None, gt=0, description="Passes over the training rows at most")
    learning_rate: float | None = Field(None, gt=0, description="Highest learning rate")

    def loop(self) -> dict[str, Any]:
        """The settings that are given."""
        given = {name: getattr(self, name) for name in LoopOptions.model_fields}
        return {name: value for name, value in given.items() if value is not None}


def trained(
    given: Given,
    start: Path,
    target: Path,
    options: LoopOptions,
    shaping: Shaping,
    *,
    random: bool = False,
) -> None:
    """Train from the network in `start` and write what came of it into `target`; ConfigError where there is no host.

    `random`: of `start` the configuration alone.
    """
    if given.learning is None:
        raise ConfigError(
            "the method trains, and there is nothing to train on",
            got=given.making,
            next_action="name a table with labelled examples: source=TABLE",
        )
    result = given.learning.train(start, given.making, shaping, options.loop(), random=random)
    shutil.copytree(result, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(CHECKSUMS_FILE))


def trained_from(
    given: Given, target: Path, options: LoopOptions, shaping: Shaping, *, random: bool = False
) -> None:
    """As `trained`, from a network that was written into `target`; its weights give way to those that come of it."""
    with tempfile.TemporaryDirectory() as name:
        start = Path(name, "start")
        shutil.move(target, start)
        target.mkdir()
        copy_inputs(given.folder, start)
        trained(given, start, target, options, shaping, random=random)


def check_whole(given: Given) -> None:
    """InputError for a model whose adaptation lies apart from its base: there is no one network to change."""
    if (given.folder / ADAPTER_FILE).is_file() or not (given.folder / CONFIG_FILE).is_file():
        raise InputError(
            "the model's adaptation is kept apart from its base",
            where=str(given.folder),
            next_action="fine-tune it with adapt.merge=true",
        )
