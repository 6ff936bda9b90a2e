"""BERT and its relatives without transformers: loaded in a second, in few calls, int8 in fused passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sparkml.models.engines import Engine
from sparkml.models.folder import ADAPTER_FILE, CONFIG_FILE, ONNX_FOLDER, form_of, read_json
from sparkml.models.networks import NetworkSpec


def _why_not(spec: NetworkSpec, folder: Path) -> str:
    from sparkml.models.engines.layout import why_not

    if spec.writes:
        return "it writes text, and this engine runs encoders alone"
    if (folder / ADAPTER_FILE).is_file():
        return "its adaptation is kept apart from its base"
    if form_of(folder) == ONNX_FOLDER:
        return "its weights are in ONNX alone"
    return why_not(spec, read_json(folder / CONFIG_FILE))


def _load(spec: NetworkSpec, folder: Path) -> Any:
    from sparkml.models.engines.encoder_float import Encoder
    from sparkml.models.engines.encoder_int8 import Int8Encoder
    from sparkml.models.engines.layout import read_encoder
    from sparkml.models.onednn import has_bfloat16

    weights = read_encoder(spec, folder)
    is_int8 = any(layer.scale is not None for block in weights.blocks for layer in block.layers)
    if is_int8:
        return Int8Encoder(weights)
    return Encoder(weights if has_bfloat16() else weights.in_float32())


ENGINE = Engine("BERT's relatives, of our own", 2, _why_not, _load)
