"""Weights in 8 or 4 bits on disk, one scale a group of weights; they are floats again when the model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from sparkml.compression.methods import Given, Method, MethodOptions
from sparkml.compression.methods.int8_dynamic import groups
from sparkml.models.folder import PACKED_FOLDER


class WeightOnlyOptions(MethodOptions):
    """Settings of `weight_only`."""

    bits: Literal[4, 8] = Field(8, description="Bits of a weight")
    group: int = Field(64, ge=8, le=4096, description="Weights of an output that share a scale")


def _apply(given: Given, target: Path, options: WeightOnlyOptions, kept: frozenset[str]) -> None:
    from sparkml.models.heads import load_trained
    from sparkml.models.packed import save_packed

    network = load_trained(given.task.network(), given.folder)
    save_packed(network, target / PACKED_FOLDER, bits=options.bits, group=options.group, kept=kept)


METHOD = Method("weights in 8 or 4 bits on disk", "weight_only", _apply, WeightOnlyOptions, groups)
