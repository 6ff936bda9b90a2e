"""Checkpoints: weights and optimizer as safetensors, the position as JSON; whole or not there at all.

    <run folder>/checkpoints/step-00000200/  model.safetensors  optimizer.safetensors  state.json  checksums.json

Each is an artifact: on disk before it gets its name, and verified by its checksums before anything is read from it.
Random numbers need no state: every step draws them from (seed, step, rank). The feed's position is the step.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sparkml.errors import InputError, SparkmlError, TrainingError
from sparkml.frame import storage
from sparkml.frame.artifacts import checksums, localise, new_artifact
from sparkml.log import get_logger
from sparkml.models.folder import read_json, write_json

_log = get_logger(__name__)
_WEIGHTS, _OPTIMIZER, _STATE = "model.safetensors", "optimizer.safetensors", "state.json"
_NAME = re.compile(r"step-(\d{8,})")
_NAMED_WEIGHTS = 3
# Tensors by name: the trained weights, and everything else that a training goes on with.
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Position:
    """How far the training is: `step` steps are done. The rest must stay, or the feed would differ."""

    step: int
    batch_size: int
    n_streams: int
    seed: int
    manifest_id: str


class Checkpoints:
    """The checkpoints of one run, in a folder or below a URI; only rank 0 reads and writes them."""

    def __init__(self, run_folder: str, keep: int) -> None:
        self._location = storage.join(run_folder, "checkpoints")
        self._keep = keep

    def latest(self) -> Path | None:
        """The newest checkpoint that is undamaged, as a folder of this machine; None where there is none yet.

        A warning names each damaged one that is passed over. TrainingError where all are damaged: to start anew
        without a word would throw the work away.
        """
        damaged: list[str] = []
        for step in sorted(self._steps(), reverse=True):
            location = self._location_of(step)
            try:
                folder = _verified(location)
            except (SparkmlError, OSError) as error:
                reason = _reason(error)
                damaged.append(f"{location}: {reason}")
                _log.warning("checkpoint %s is damaged, trying the one before: %s", location, reason)
                continue
            if folder is not None:
                return folder
        if damaged:
            raise _all_damaged(self._location, damaged)
        return None

    def save(self, weights: Tensors, others: Tensors, position: Position) -> None:
        """Write one; then remove those before it beyond `keep`, and damaged ones that lie ahead of it."""
        with new_artifact(self._location_of(position.step)) as staging:
            save_file(_on_disk(weights), staging / _WEIGHTS, metadata={"format": "pt"})
            save_file(_on_disk(others), staging / _OPTIMIZER)
            write_json(staging / _STATE, asdict(position))
        found = self._steps()
        # Training passed over those ahead: one of them must not count as the newest of those that are kept.
        kept = sorted(step for step in found if step <= position.step)[-self._keep :]
        for step in set(found) - set(kept):
            try:
                storage.remove(self._location_of(step))
            except OSError as error:
                _log.warning("checkpoint %s could not be removed: %s", self._location_of(step), error)

    def _steps(self) -> list[int]:
        names = map(_NAME.fullmatch, storage.names(self._location))
        return [int(name[1]) for name in names if name is not None]

    def _location_of(self, step: int) -> str:
        return storage.join(self._location, f"step-{step:08d}")


def load_checkpoint(folder: Path, weights: Tensors, others: Tensors, expected: Position) -> int:
    """Fill the tensors from a checkpoint, in place; returns the steps done.

    TrainingError, with all unchanged, where it is another run's or another network's.
    """
    state, wanted = read_json(folder / _STATE), asdict(expected)
    if state.keys() != wanted.keys() or state | {"step": 0} != wanted | {"step": 0}:
        raise TrainingError(
            "a checkpoint belongs to another training",
            where=str(folder),
            got=str(state),
            expected=str(wanted),
            next_action="remove the folder to start anew",
        )
    files = {_WEIGHTS: weights, _OPTIMIZER: others}
    found = {name: load_file(folder / name) for name in files}
    for name, tensors in files.items():
        _check_fit(folder / name, found[name], tensors)
    with torch.no_grad():
        for name, tensors in files.items():
            for key, tensor in tensors.items():
                tensor.copy_(found[name][key])
    return int(state["step"])


def _on_disk(tensors: Tensors) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _verified(location: str) -> Path | None:
    """The checkpoint as a folder of this machine; None where its upload was never finished.

    InputError where a file is missing, cut off or altered.
    """
    sums = checksums(location)
    if sums is None and storage.is_remote(location):
        return None  # a folder gets its name when it is whole; on an object store the checksums come last
    missing = sorted({_WEIGHTS, _OPTIMIZER, _STATE} - set(sums or {}))
    if missing:
        raise InputError("there is no checksum", where=location, got=f"none of {', '.join(missing)}")
    return localise(location)


def _check_fit(file: Path, found: Tensors, wanted: Tensors) -> None:
    """TrainingError unless both have the same names, shapes and types: no weight keeps its random start unseen."""
    both = found.keys() & wanted.keys()
    kinds = {
        "missing": wanted.keys() - found.keys(),
        "not in the network": found.keys() - wanted.keys(),
        "of another shape or type": {name for name in both if _kind(found[name]) != _kind(wanted[name])},
    }
    wrong = [_named(kind, names) for kind, names in kinds.items() if names]
    if wrong:
        raise TrainingError(
            "a checkpoint does not fit the network",
            where=str(file),
            got="; ".join(wrong),
            expected=f"{len(wanted)} tensors, of the names and shapes that the network has",
            next_action="train with the shape that wrote it, or remove the folder to start anew",
        )


def _kind(tensor: Tensor) -> tuple[torch.Size, torch.dtype]:
    return tensor.shape, tensor.dtype


def _named(kind: str, names: set[str]) -> str:
    return f"{kind}: {', '.join(sorted(names)[:_NAMED_WEIGHTS])} ({len(names)} in all)"


def _reason(error: SparkmlError | OSError) -> str:
    # What an artifact's error says to do next holds for models: here there may be a checkpoint before.
    return f"{error.what}: {error.where}: {error.got}" if isinstance(error, SparkmlError) else str(error)


def _all_damaged(location: str, damaged: list[str]) -> TrainingError:
    return TrainingError(
        "every checkpoint of the training is damaged",
        where=location,
        got="".join(f"\n    {text}" for text in damaged),
        expected="one whose files are as they were written",
        next_action="restore one from a backup, or remove the folder to train from the first step",
    )
