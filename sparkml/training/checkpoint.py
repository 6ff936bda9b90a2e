"""Checkpoints: weights and optimizer as safetensors, the position as JSON; whole or not there at all.

    <run folder>/checkpoints/step-00000200/  model.safetensors  optimizer.safetensors  state.json  checksums.json

Each is an artifact: on disk before it gets its name, and verified by its checksums before anything is read from it.
Where the ranks hold parts of the model, each writes an artifact of its own (step-00000200-00001-of-00002), and the
checkpoint is there when the last of them is; `pieces.json` says which part of a tensor a file has. Either kind is read
by any number of ranks, whether they hold parts or all.
Random numbers need no state: every step draws them from (seed, step, rank). The feed's position is the step.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from sparkml.errors import InputError, SparkmlError, TrainingError
from sparkml.frame import storage
from sparkml.frame.artifacts import checksums, localise, new_artifact
from sparkml.log import get_logger
from sparkml.models.folder import read_json, write_json
from sparkml.training.pieces import WHOLE, Piece, Share, volume

_log = get_logger(__name__)
_WEIGHTS, _OPTIMIZER, _STATE = "model.safetensors", "optimizer.safetensors", "state.json"
_NAME = re.compile(r"step-(\d{8,})(?:-(\d{5})-of-(\d{5}))?")
_PIECES = "pieces.json"
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
    """The checkpoints of one run, in a folder or below a URI."""

    def __init__(self, run_folder: str, keep: int) -> None:
        self._location = storage.join(run_folder, "checkpoints")
        self._keep = keep

    def latest(self) -> list[Path]:
        """The newest checkpoint that is undamaged, as folders of this machine; none where there is none yet.

        A warning names each damaged one that is passed over. TrainingError where all are damaged: to start anew
        without a word would throw the work away.
        """
        damaged: list[str] = []
        found = self._names()
        whole = _whole(found)
        for name, (step, _, of) in found.items():
            if step not in whole:
                _log.warning("of checkpoint %s there are not all %d parts; it is passed over", name, of)
        for _, names in sorted(whole.items(), reverse=True):
            try:
                return self._folders(names)
            except _UnfinishedError:
                continue
            except (SparkmlError, OSError) as error:
                location = storage.join(self._location, names[0])
                reason = _reason(error)
                damaged.append(f"{location}: {reason}")
                _log.warning("checkpoint %s is damaged, trying the one before: %s", location, reason)
        if damaged:
            raise _all_damaged(self._location, damaged)
        return []

    def of_step(self, step: int) -> list[Path]:
        """The checkpoint that rank 0 has found, as folders of this machine; TrainingError where it is not seen here."""
        names = _whole(self._names()).get(step)
        if names is None:
            raise TrainingError(
                "a rank does not see the checkpoint that rank 0 has found",
                where=self._location,
                got=f"no whole checkpoint of step {step}",
                next_action="put `artifacts` on storage that every host sees: each rank keeps its part there",
            )
        return self._folders(names)

    def _folders(self, names: Sequence[str]) -> list[Path]:
        """Its artifacts, verified."""
        return [_verified(storage.join(self._location, name)) for name in names]

    def save(self, weights: Tensors, others: Tensors, position: Position, share: Share = WHOLE) -> None:
        """Write one, or this rank's part of it; the first rank then removes those before it beyond `keep`, and damaged
        ones that lie ahead of it.
        """
        name = f"step-{position.step:08d}"
        if share.of > 1:
            name += f"-{share.number:05d}-of-{share.of:05d}"
        with new_artifact(storage.join(self._location, name)) as staging:
            pieces: dict[str, dict[str, tuple[int, ...]]] = {}
            for file, tensors in ((_WEIGHTS, weights), (_OPTIMIZER, others)):
                written = {}
                for key, tensor in tensors.items():
                    piece = share.piece(key, tuple(tensor.shape))
                    if piece.is_own and (piece.numbers or not volume(piece.whole)):
                        written[key] = tensor
                        if piece.shape != piece.whole:
                            pieces[key] = {"offset": piece.offset, "whole": piece.whole}
                save_file(_on_disk(written), staging / file, metadata={"format": "pt"})
            if share.of > 1:
                write_json(staging / _PIECES, pieces)
            write_json(staging / _STATE, asdict(position))
        if share.number == 0:
            self._remove_others(position.step)

    def _remove_others(self, step: int) -> None:
        names = self._names()
        # Training passed over those ahead: one of them must not count as the newest of those that are kept. The parts
        # of this one may still be on their way.
        kept = {*sorted(found for found in _whole(names) if found <= step)[-self._keep :], step}
        for name, (found, _, _) in names.items():
            if found in kept:
                continue
            location = storage.join(self._location, name)
            try:
                storage.remove(location)
            except OSError as error:
                _log.warning("checkpoint %s could not be removed: %s", location, error)

    def _names(self) -> dict[str, tuple[int, int, int]]:
        """Names of artifacts with their step, which part they are, and of how many."""
        found = {name: _NAME.fullmatch(name) for name in storage.names(self._location)}
        return {
            name: (int(match[1]), int(match[2] or 0), int(match[3] or 1))
            for name, match in found.items()
            if match
        }


def _whole(names: Mapping[str, tuple[int, int, int]]) -> dict[int, list[str]]:
    """The steps of which all parts are there, with their names."""
    parts: dict[tuple[int, int], list[str]] = {}
    for name, (step, _, of) in sorted(names.items()):
        parts.setdefault((step, of), []).append(name)
    return {step: found for (step, of), found in parts.items() if len(found) == of}


def load_checkpoint(
    folders: Sequence[Path], weights: Tensors, others: Tensors, expected: Position, share: Share = WHOLE
) -> int:
    """Fill the tensors from a checkpoint, in place; returns the steps done.

    TrainingError, with all unchanged, where it is another run's or another network's.
    """
    state, wanted = read_json(folders[0] / _STATE), asdict(expected)
    if state.keys() != wanted.keys() or state | {"step": 0} != wanted | {"step": 0}:
        raise TrainingError(
            "a checkpoint belongs to another training",
            where=str(folders[0]),
            got=str(state),
            expected=str(wanted),
            next_action="remove the folder to start anew",
        )
    with ExitStack() as stack:
        files = [
            (tensors, _Saved(folders, file, stack))
            for file, tensors in ((_WEIGHTS, weights), (_OPTIMIZER, others))
        ]
        for tensors, saved in files:
            saved.check_fit(tensors, share)
        with torch.no_grad():
            for tensors, saved in files:
                for name, tensor in tensors.items():
                    saved.fill(name, tensor, share.piece(name, tuple(tensor.shape)))
    return step_of(folders)


def step_of(folders: Sequence[Path]) -> int:
    """The steps done when a checkpoint was written."""
    return int(read_json(folders[0] / _STATE)["step"])


class _Saved:
    """The tensors of one kind in a checkpoint, put together from the files of all its parts as they are asked for."""

    def __init__(self, folders: Sequence[Path], file: str, stack: ExitStack) -> None:
        self._where = str(folders[0] / file)
        self._pieces: dict[str, list[tuple[Any, Piece, torch.dtype]]] = {}
        for folder in folders:
            said = read_json(folder / _PIECES) if (folder / _PIECES).exists() else {}
            opened = stack.enter_context(safe_open(folder / file, "pt"))
            for name in opened.keys():  # noqa: SIM118  # not a mapping
                part = opened.get_slice(name)
                shape = tuple(part.get_shape())
                entry = said.get(name, {"offset": (0,) * len(shape), "whole": shape})
                piece = Piece(tuple(entry["offset"]), shape, tuple(entry["whole"]))
                kind = (part[0:0] if shape else opened.get_tensor(name)).dtype
                self._pieces.setdefault(name, []).append((opened, piece, kind))

    def check_fit(self, wanted: Tensors, share: Share) -> None:
        """TrainingError unless both have the same names, shapes and types: no weight keeps its random start unseen."""
        found = self._pieces
        both = found.keys() & wanted.keys()
        kinds = {
            "missing": wanted.keys() - found.keys(),
            "not in the network": found.keys() - wanted.keys(),
            "of another shape or type": {name for name in both if not self._fits(name, wanted[name], share)},
        }
        wrong = [_named(kind, names) for kind, names in kinds.items() if names]
        if wrong:
            raise TrainingError(
                "a checkpoint does not fit the network",
                where=self._where,
                got="; ".join(wrong),
                expected=f"{len(wanted)} tensors, of the names and shapes that the network has",
                next_action="train with the shape that wrote it, or remove the folder to start anew",
            )

    def _fits(self, name: str, tensor: Tensor, share: Share) -> bool:
        """Of the same type and shape, and nothing of it is missing."""
        pieces = self._pieces[name]
        whole = share.piece(name, tuple(tensor.shape)).whole
        right = all(piece.whole == whole and kind == tensor.dtype for _, piece, kind in pieces)
        return right and sum(piece.numbers for _, piece, _ in pieces) == volume(whole)

    def fill(self, name: str, tensor: Tensor, wanted: Piece) -> None:
        """Copy what a rank holds of a tensor."""
        for opened, piece, _ in self._pieces[name]:
            both = wanted.overlap(piece)
            if both is None:
                continue
            here, there = both
            tensor[here].copy_(opened.get_slice(name)[there] if there else opened.get_tensor(name))


def _on_disk(tensors: Tensors) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


class _UnfinishedError(Exception):
    """An upload that was never finished."""


def _verified(location: str) -> Path:
    """One artifact of a checkpoint as a folder of this machine.

    InputError where a file is missing, cut off or altered.
    """
    sums = checksums(location)
    if sums is None and storage.is_remote(location):
        raise _UnfinishedError  # a folder gets its name when it is whole; on an object store the checksums come last
    missing = sorted({_WEIGHTS, _OPTIMIZER, _STATE} - set(sums or {}))
    if missing:
        raise InputError("there is no checksum", where=location, got=f"none of {', '.join(missing)}")
    return localise(location)


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
