"""Weights of 8 or 4 bits on disk, symmetric, with one scale a group of neighbours: floats again when they are loaded.

packed/model.safetensors   for a layer NAME: NAME.packed uint8 [out, bytes], NAME.group_scale float16 [out, groups];
                           all else as it was. Its metadata say bits, group and width.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from sparkml.errors import InputError
from sparkml.models.folder import WEIGHTS_FILE
from sparkml.models.networks import take_state, untied_state

_PACKED, _SCALE, _METADATA = ".packed", ".group_scale", "packed"
# Parts of the largest magnitude at which the levels may end: of outliers more is lost than of all others together.
_CLIPS = (1.0, 0.9, 0.8, 0.7)
_SMALLEST = 1e-8


def save_packed(network: nn.Module, folder: Path, *, bits: int, group: int, kept: frozenset[str]) -> None:
    """Write the weights of a network; groups of layers that are `kept` stay floats."""
    from sparkml.models.quantisable import names_of  # it needs transformers: who reads does not

    folder.mkdir()
    state = untied_state(network)
    widths: dict[str, int] = {}
    for name in (f"{layer}.weight" for layer in names_of(network, kept)):
        if name in state:  # not where two names are one tensor
            weight = state.pop(name).float()
            widths[name] = weight.shape[1]
            state[name + _PACKED], state[name + _SCALE] = _pack(weight, bits, group)
    facts = json.dumps({"bits": bits, "group": group, "widths": widths}, sort_keys=True)
    save_file(state, folder / WEIGHTS_FILE, metadata={"format": "pt", _METADATA: facts})


def read_packed(folder: Path) -> dict[str, Tensor]:
    """All weights as floats, by name; InputError where the file is not of `save_packed`."""
    file = folder / WEIGHTS_FILE
    try:
        with safe_open(file, framework="pt") as opened:
            facts: dict[str, Any] = json.loads((opened.metadata() or {})[_METADATA])
            state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # not a mapping
        for name, width in facts["widths"].items():
            packed, scale = state.pop(name + _PACKED), state.pop(name + _SCALE)
            state[name] = _unpack(packed, scale, int(facts["bits"]), int(facts["group"]), int(width))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            "not weights of a few bits",
            where=str(file),
            got=f"{type(error).__name__}: {error}",
            next_action="compress the model again",
        ) from error
    return state


def load_packed(network: nn.Module, folder: Path) -> nn.Module:
    """The network with the weights of `folder` in place of its own; InputError where they do not fit."""
    return take_state(network, untied_state(network), read_packed(folder), "packed", folder)


def _pack(weight: Tensor, bits: int, group: int) -> tuple[Tensor, Tensor]:
    levels = 2 ** (bits - 1) - 1
    rows = F.pad(weight, (0, -weight.shape[1] % group)).reshape(len(weight), -1, group)
    largest = rows.abs().amax(dim=2, keepdim=True)
    best, scale = None, largest
    for clip in _CLIPS:
        # As it will be read: float16.
        step = (largest * (clip / levels)).clamp_min(_SMALLEST).half().float().clamp_min(_SMALLEST)
        rounded = (rows / step).round_().clamp_(-levels, levels)
        error = (rounded * step - rows).square().sum(dim=2, keepdim=True)
        if best is None:
            best, scale, values = error, step, rounded
        else:
            better = error < best
            best, scale = torch.where(better, error, best), torch.where(better, step, scale)
            values = torch.where(better, rounded, values)
    flat = (values + levels).to(torch.uint8).reshape(len(weight), -1)
    if bits == 4:
        flat = flat[:, ::2] | (flat[:, 1::2] << 4)
    return flat.contiguous(), scale.squeeze(2).half().contiguous()


def _unpack(packed: Tensor, scale: Tensor, bits: int, group: int, width: int) -> Tensor:
    if bits == 4:
        packed = torch.stack([packed & 15, packed >> 4], dim=2).reshape(len(packed), -1)
    values = packed.float().sub_(2 ** (bits - 1) - 1).reshape(len(packed), -1, group)
    values *= scale.float().clamp_min(_SMALLEST).unsqueeze(2)
    return values.reshape(len(packed), -1)[:, :width].contiguous()
