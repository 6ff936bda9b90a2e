"""The network as transformers has it, whatever the architecture."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from sparkml.models.engines import Engine
from sparkml.models.folder import COMPRESSION_FILE, ONNX_FOLDER, form_of, read_json
from sparkml.models.networks import NetworkSpec


def _why_not(spec: NetworkSpec, folder: Path) -> str:
    return "its weights are in ONNX alone" if form_of(folder) == ONNX_FOLDER else ""


def _load(spec: NetworkSpec, folder: Path) -> Any:
    from sparkml.models.heads import load_trained  # seconds of imports that other engines do without

    network = load_trained(spec, folder)
    done = read_json(folder / COMPRESSION_FILE) if (folder / COMPRESSION_FILE).is_file() else {}
    return _in_bfloat16(network) if done.get("precision") == "bfloat16" else network


def _in_bfloat16(network: Any) -> Any:
    """The network, computing as its weights were written."""
    import torch

    from sparkml.models.onednn import has_bfloat16

    inner = network.forward

    @functools.wraps(inner)  # who writes text looks at what it takes
    def forward(*inputs: Any, **named: Any) -> Any:
        kind = next(network.parameters()).device.type
        # Without instructions for it a processor would compute it in software, many times as slowly as float32.
        with torch.autocast(kind, torch.bfloat16, enabled=kind != "cpu" or has_bfloat16()):
            return inner(*inputs, **named)

    network.forward = forward
    return network


ENGINE = Engine("any architecture, by transformers", 1, _why_not, _load)
