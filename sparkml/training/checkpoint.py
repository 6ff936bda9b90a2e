"""Checkpoints: weights and optimizer as safetensors, the position as JSON; whole or not there at all.

    <run folder>/checkpoints/step-00000200/  model.safetensors  optimizer.safetensors  state.json

Random numbers need no state: every step draws them from (seed, step, rank). The feed's position
is the step.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sparkml.errors import TrainingError
from sparkml.frame.artifacts import new_artifact
from sparkml.models.encoder import untied_state
from sparkml.models.folder import read_json, write_json

_WEIGHTS, _OPTIMIZER, _STATE = "model.safetensors", "optimizer.safetensors", "state.json"
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass(frozen=True)
class Position:
    """How far the training is: `step` steps are done. The rest must stay, or the feed would differ."""

    step: int
    world_size: int
    micro_batch: int
    seed: int
    manifest_id: str


class Checkpoints:
    """The checkpoints of one run; only rank 0 writes."""

    def __init__(self, run_folder: str, keep: int) -> None:
        self._folder = Path(run_folder) / "checkpoints"
        self._keep = keep

    def latest(self) -> Path | None:
        """The newest complete checkpoint."""
        found = sorted(self._folder.glob("step-*"))
        return found[-1] if found else None

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, position: Position) -> Path:
        """Write one, and remove the oldest beyond those that are kept."""
        target = self._folder / f"step-{position.step:08d}"
        with new_artifact(str(target)) as staging:
            save_file(untied_state(model), staging / _WEIGHTS, metadata={"format": "pt"})
            save_file(_moments(model, optimizer), staging / _OPTIMIZER)
            write_json(staging / _STATE, asdict(position))
        for old in sorted(self._folder.glob("step-*"))[: -self._keep]:
            shutil.rmtree(old, ignore_errors=True)
        return target


def load_checkpoint(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, expected: Position
) -> int:
    """Fill model and optimizer from a checkpoint; returns the steps done. TrainingError: another run's."""
    state: dict[str, Any] = read_json(folder / _STATE)
    position = Position(**state)
    if asdict(position) | {"step": 0} != asdict(expected) | {"step": 0}:
        raise TrainingError(
            "a checkpoint belongs to another training",
            where=str(folder),
            got=str(position),
            expected=str(expected),
            next_action="remove the folder to start anew",
        )
    model.load_state_dict(load_file(folder / _WEIGHTS), strict=False)
    saved = load_file(folder / _OPTIMIZER)
    for name, tensor in _moments(model, optimizer).items():
        tensor.copy_(saved[name])
    return position.step


def fill_moments(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Give every parameter its AdamW state now, as the first step would, to load or broadcast it."""
    for parameter in model.parameters():
        optimizer.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }


def training_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Every tensor that must be alike on all ranks, in one order."""
    return [*(parameter.data for parameter in model.parameters()), *_moments(model, optimizer).values()]


def _moments(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{moment}.{name}": optimizer.state[parameter][moment]
        for name, parameter in model.named_parameters()
        for moment in _MOMENTS
    }
