"""Training that rounds as int8 does, so that `int8_dynamic` after it changes little; the weights stay floats."""

from __future__ import annotations

from pathlib import Path

from sparkml.compression.learning import ZEROS_STAY, LoopOptions, check_whole, trained
from sparkml.compression.methods import Given, Method
from sparkml.models.shaping.settings import Shaping


class QatOptions(LoopOptions):
    """Settings of `qat`."""


def _apply(given: Given, target: Path, options: QatOptions, kept: frozenset[str]) -> None:
    check_whole(given)
    trained(given, given.folder, target, options, Shaping(rounds=True, sparsity=ZEROS_STAY))


METHOD = Method(
    "training that gets used to int8", "finetuned", _apply, QatOptions, trains=lambda options: True
)
