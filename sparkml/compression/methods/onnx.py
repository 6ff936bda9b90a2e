"""The network as an ONNX file that ONNX Runtime runs, in floats or with static int8.

Dynamic int8 of ONNX Runtime is not offered: it takes one scale a batch for the activations, so that a row's answer
depends on its neighbours. `int8_dynamic` has one scale a token instead.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from sparkml.compression.methods import Given, Method, MethodOptions, check_answers_at_once
from sparkml.models.folder import ONNX_FOLDER


class OnnxOptions(MethodOptions):
    """Settings of `onnx`."""

    quantise: Literal["none", "static", "static_all"] = Field(
        "none",
        description="Static int8: of the products, or of all operators, which is seldom any good",
    )
    rows: int = Field(128, ge=1, description="Examples on which the file is checked, and calibrated")
    tolerance: float = Field(
        1e-4, gt=0, description="By how much outputs of the float file may differ from the network's"
    )


def _apply(given: Given, target: Path, options: OnnxOptions, kept: frozenset[str]) -> None:
    from sparkml.compression.inputs import input_batches
    from sparkml.models.heads import load_trained
    from sparkml.models.onnx_export import export_onnx, require_onnx

    check_answers_at_once(given, "onnx")
    require_onnx()
    network = load_trained(given.task.network(), given.folder)
    batches = list(input_batches(given, options.rows))
    export_onnx(network, batches, target / ONNX_FOLDER, tolerance=options.tolerance)
    if options.quantise != "none":
        from sparkml.models.onnx_static import quantise_static

        quantise_static(target / ONNX_FOLDER, batches, every_operator=options.quantise == "static_all")


METHOD = Method("an ONNX file, run by ONNX Runtime", "onnx", _apply, OnnxOptions)
