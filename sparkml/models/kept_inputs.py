"""What a model's files say of its tokenizer, kept beside them: to ask them takes transformers, whose import is slow.

inputs.json   the fields of `TextInputs` but the tokenizer itself, and the checksums of the files that they follow from
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparkml.models.folder import CONFIG_FILE, TOKENIZER_FILE, read_json, write_json

INPUTS_FILE = "inputs.json"
_SOURCES = (
    TOKENIZER_FILE,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    CONFIG_FILE,
)
_TOKENIZER = "tokenizer_json"


def keep_inputs(folder: Path, payload: Mapping[str, Any]) -> None:
    """Write what `kept_inputs` reads; nothing where the folder has no tokenizer.json."""
    if (folder / TOKENIZER_FILE).is_file():
        fields = {name: value for name, value in payload.items() if name != _TOKENIZER}
        write_json(folder / INPUTS_FILE, {"fields": fields, "files": _checksums(folder)})


def kept_inputs(folder: Path) -> dict[str, Any] | None:
    """The fields of `TextInputs`, where they were kept and the files are still those."""
    if not (folder / INPUTS_FILE).is_file():
        return None
    kept = read_json(folder / INPUTS_FILE)
    if kept.get("files") != _checksums(folder):
        return None
    return {**kept["fields"], _TOKENIZER: (folder / TOKENIZER_FILE).read_text(encoding="utf-8")}


def _checksums(folder: Path) -> dict[str, str]:
    files = (folder / name for name in _SOURCES)
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()}
