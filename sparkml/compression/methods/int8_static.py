"""Weights and activations in int8: weights once, activations at one fixed scale a layer, found out on examples."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from sparkml.compression.methods import Given, Method, MethodOptions, check_answers_at_once
from sparkml.compression.methods.int8_dynamic import groups
from sparkml.models.folder import INT8_FOLDER

Calibration = Literal["minmax", "percentile", "entropy"]


class Int8StaticOptions(MethodOptions):
    """Settings of `int8_static`."""

    calibration: Calibration = Field(
        "minmax", description="Where the range of a layer's input ends; what is larger saturates"
    )
    percentile: float = Field(
        99.99, gt=50, le=100, description="Of the magnitudes that stay within the range, with `percentile`"
    )
    rows: int = Field(256, ge=1, description="Examples to calibrate on")


def _apply(given: Given, target: Path, options: Int8StaticOptions, kept: frozenset[str]) -> None:
    from sparkml.compression.calibration import input_scales
    from sparkml.compression.inputs import input_batches
    from sparkml.models.heads import load_trained
    from sparkml.models.int8 import save_int8, to_int8
    from sparkml.models.quantisable import names_of

    check_answers_at_once(given, "int8_static")
    network = load_trained(given.task.network(), given.folder)
    batches = list(input_batches(given, options.rows))
    names = names_of(network, kept)
    scales = input_scales(network, names, batches, options.calibration, options.percentile)
    save_int8(to_int8(network, kept, scales), target / INT8_FOLDER)


METHOD = Method("weights and tokens in int8, one scale a layer", "int8", _apply, Int8StaticOptions, groups)
