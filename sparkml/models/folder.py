"""Model folders: safetensors, JSON and nothing that could run code when it is opened."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from sparkml.errors import InputError

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
GENERATION_FILE = "generation_config.json"  # with which tokens a network that writes begins and ends
TOKENIZER_FILE = "tokenizer.json"
HEAD_FILE = "head.safetensors"  # our layer on the mean of the tokens
ADAPTER_FILE = "adapter_config.json"
COMPRESSION_FILE = "compression.json"  # what was done to a model to make it smaller or faster
INT8_FOLDER, PACKED_FOLDER, ONNX_FOLDER = "int8", "packed", "onnx"
ONNX_FILE = "model.onnx"  # in its folder
ENGINE_FILE = "engine.json"  # the engine that was measured to be the fastest
FORM_FOLDERS = (INT8_FOLDER, PACKED_FOLDER, ONNX_FOLDER)  # weights that only engines read
GGUF = ".gguf"

# Formats whose loaders unpickle, that is: run whatever the file says.
_PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".dill"})


def check_folder(folder: str | Path, *required: str) -> Path:
    """Return the folder as a Path; `InputError` when it is missing, incomplete, or holds a pickle format."""
    path = Path(folder)
    if not path.is_dir():
        raise InputError(
            "model folder not found", where=str(path), next_action="run the stage that writes it"
        )
    names = {entry.name for entry in path.iterdir()}
    pickled = sorted(filter(is_pickle, names))
    if pickled:
        raise InputError(
            "model folder holds weights in a pickle format, which can run code when loaded",
            where=str(path),
            got=", ".join(pickled),
            expected="safetensors or ONNX weights only",
            next_action=conversion(path),
        )
    foreign = sorted(name for name in names if name.endswith(GGUF))
    if foreign and WEIGHTS_FILE not in names:
        raise InputError(
            "model folder holds quantised weights of another format",
            where=str(path),
            got=", ".join(foreign),
            expected="safetensors weights",
            next_action=conversion(path),
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


def form_of(folder: Path) -> str:
    """Which of `FORM_FOLDERS` holds the weights of a directory; empty where they lie in it as they were trained.

    A network in ONNX beside such weights, as directories from elsewhere have it, is one more way to run them.
    """
    for name in FORM_FOLDERS:
        if (folder / name).is_dir() and not (name == ONNX_FOLDER and any(folder.glob("*.safetensors"))):
            return name
    return ""


def is_pickle(name: str) -> bool:
    """Whether a file's name says that opening it may run code."""
    return Path(name).suffix.lower() in _PICKLE_SUFFIXES


def conversion(path: Path) -> str:
    """The command that writes a directory of foreign weights as safetensors."""
    return shlex.join(["sparkml", "convert", str(path), f"{path}-safetensors"])


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
