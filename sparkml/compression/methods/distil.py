"""A student that learns what the model at the recipe's start says: the form so far, or a new network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from sparkml.compression.learning import ZEROS_STAY, LoopOptions, check_whole, trained, trained_from
from sparkml.compression.methods import Given, Method, check_answers_at_once
from sparkml.errors import ConfigError
from sparkml.frame.config_layers import did_you_mean
from sparkml.models.folder import CONFIG_FILE, read_json, write_json
from sparkml.models.shaping.settings import Matched, Shaping, Teaching


class DistilOptions(LoopOptions):
    """Settings of `distil`."""

    weight: float = Field(
        0.5, gt=0, le=1, description="Of the teacher's part of the loss; the labels' has the rest"
    )
    temperature: float = Field(2.0, gt=0, description="Softens what both say")
    match: tuple[Matched, ...] = Field(
        ("logits",),
        min_length=1,
        description="What is learnt of the teacher: logits, which samples hold; hidden, attention: the vectors and "
        "attention of its last block, which it computes beside the student",
    )
    student: dict[str, Any] = Field(
        default_factory=dict,
        description="A new network with random weights: fields of config.json that differ from the form's; "
        "empty: the form itself is the student",
    )


def _apply(given: Given, target: Path, options: DistilOptions, kept: frozenset[str]) -> None:
    check_answers_at_once(given, "distil")
    check_whole(given)
    teaching = Teaching(
        weight=options.weight,
        temperature=options.temperature,
        match=options.match,
        teacher=given.learning.teacher if given.learning else "",
    )
    if not options.student:
        shaping = Shaping(teaching=teaching, sparsity=ZEROS_STAY)
        trained(given, given.folder, target, options, shaping)
        return
    write_json(target / CONFIG_FILE, _config(given.folder, options.student))
    trained_from(given, target, options, Shaping(teaching=teaching), random=True)


def _config(folder: Path, student: dict[str, Any]) -> dict[str, Any]:
    config = read_json(folder / CONFIG_FILE)
    for name in student:
        if name not in config:
            known = sorted(config)
            raise ConfigError(
                "the student's configuration has no such field",
                where="distil.student",
                got=name,
                expected=f"a field of {folder / CONFIG_FILE}",
                next_action=did_you_mean(name, known),
            )
    return {**config, **student}


METHOD = Method(
    "a student that learns a teacher's answers",
    "distilled",
    _apply,
    DistilOptions,
    trains=lambda options: True,
    taught=True,
)
