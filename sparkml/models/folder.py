"""Model folders: safetensors, JSON and nothing that could run code when it is opened.

A folder appears under its name complete or not at all: it is written beside its place and renamed into it.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sparkml.errors import InputError

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
TOKENIZER_FILE = "tokenizer.json"

# Formats whose loaders unpickle, that is: run whatever the file says.
_PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".dill"})


@contextmanager
def new_folder(folder: str | Path) -> Iterator[Path]:
    """Yield an empty staging folder that takes the place of `folder` when the block ends well.

    Whatever a run that died left under the name is replaced; on an error nothing is left behind.
    """
    target = Path(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.partial"
    staging.mkdir()
    try:
        yield staging
        _replace_folder(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _replace_folder(staging: Path, target: Path) -> None:
    # rename() cannot replace a folder that has files: the old one steps aside first.
    if target.exists():
        aside = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.old"
        os.rename(target, aside)
        os.rename(staging, target)
        shutil.rmtree(aside, ignore_errors=True)
    else:
        os.rename(staging, target)


def check_folder(folder: str | Path, *required: str) -> Path:
    """Return the folder as a Path; `InputError` when it is missing, incomplete, or holds a pickle format."""
    path = Path(folder)
    if not path.is_dir():
        raise InputError(
            "model folder not found", where=str(path), next_action="run the stage that writes it"
        )
    names = {entry.name for entry in path.iterdir()}
    pickled = sorted(name for name in names if Path(name).suffix.lower() in _PICKLE_SUFFIXES)
    if pickled:
        raise InputError(
            "model folder holds weights in a pickle format, which can run code when loaded",
            where=str(path),
            got=", ".join(pickled),
            expected="safetensors or ONNX weights only",
            next_action="convert the weights to safetensors and delete these files",
        )
    missing = sorted(set(required) - names)
    if missing:
        raise InputError(
            "model folder is incomplete",
            where=str(path),
            got=", ".join(sorted(names)) or "an empty folder",
            expected=", ".join(required),
            next_action="run the stage that writes it again",
        )
    return path


def read_json(path: Path) -> dict[str, Any]:
    """Read one JSON object from a file of a model folder; `InputError` when it is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            "cannot read JSON", where=str(path), got=str(error), expected="a JSON object"
        ) from error
    if not isinstance(value, dict):
        raise InputError(
            "not a JSON object", where=str(path), got=type(value).__name__, expected="a JSON object"
        )
    return value


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object with sorted keys, so that equal content is equal bytes."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def folder_bytes(folder: str | Path, *names: str) -> int:
    """Bytes on disk of the named files of a folder (of all its files when none is named)."""
    path = Path(folder)
    files = (
        [path / name for name in names] if names else [entry for entry in path.iterdir() if entry.is_file()]
    )
    return sum(file.stat().st_size for file in files)
