"""What a model directory says of the vector of a text, in the files of sentence-transformers beside its weights.

modules.json                        Transformer, Pooling, Normalize, in this order
1_Pooling/config.json               how one vector is made of those of the tokens
sentence_bert_config.json           the longest text that it was made for
config_sentence_transformers.json   what is put before queries and documents

A directory without them says nothing: the mean over the tokens is taken.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sparkml.errors import InputError
from sparkml.models.folder import read_json
from sparkml.models.inputs import TextInputs, read_text_inputs

VectorPooling = Literal["mean", "cls", "max", "last"]

MODULES_FILE, LENGTH_FILE, PROMPTS_FILE = (
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
)
_POOLING_FOLDER = "1_Pooling"
POOLING_FILE = f"{_POOLING_FOLDER}/config.json"
# What a copy of such a directory needs to be one again.
EMBEDDING_FILES = (MODULES_FILE, POOLING_FILE, LENGTH_FILE, PROMPTS_FILE)

# The unit vector of a mean is that of a sum divided by the root of the length.
_MODES: dict[str, VectorPooling] = {
    "cls": "cls", "cls_token": "cls", "mean": "mean", "mean_tokens": "mean", "mean_sqrt_len_tokens": "mean",
    "max": "max", "max_tokens": "max", "lasttoken": "last",
}  # fmt: skip
_MODE = "pooling_mode"
_FOLLOWED = ("Transformer", "Pooling", "Normalize")
_NEXT = f"take another model; or a copy of it without {MODULES_FILE}, and name the pooling: task.pooling=mean"


@dataclass(frozen=True)
class EmbeddingInputs(TextInputs):
    """The tokens of a model directory, and how it makes one vector of a text.

    `made_for`: tokens of the longest text that it was made for, where it says so. Prefixes it does not name are empty.
    """

    pooling: VectorPooling = "mean"
    made_for: int | None = None
    query_prefix: str = ""
    passage_prefix: str = ""


def read_embedding_inputs(folder: str | Path) -> EmbeddingInputs:
    """What a directory says of tokens and vectors; InputError where its vectors are made in a way of their own."""
    path = Path(folder)
    prompts = _read(path / PROMPTS_FILE).get("prompts") or {}
    length = _read(path / LENGTH_FILE).get("max_seq_length")
    return EmbeddingInputs(
        **read_text_inputs(path).to_payload(),
        pooling=read_pooling(path),
        made_for=int(length) if length else None,
        query_prefix=str(prompts.get("query") or ""),
        passage_prefix=str(prompts.get("document") or prompts.get("passage") or ""),
    )


def read_pooling(folder: Path) -> VectorPooling:
    """The pooling that modules.json names; `mean` where there is none. InputError for what is not followed here."""
    file = folder / MODULES_FILE
    if not file.is_file():
        return "mean"
    pooling: VectorPooling = "mean"
    for module in _modules(file):
        kind = str(module.get("type", "")).rpartition(".")[2]
        # A path of its own could lead out of the directory, and a copy would not take it along.
        is_known = kind in _FOLLOWED and (kind != "Pooling" or module.get("path") in (None, _POOLING_FOLDER))
        if not is_known:
            raise InputError(
                "the model makes its vectors by a layer that is not followed here",
                where=str(file),
                got=f"{module.get('type')} in `{module.get('path')}`",
                expected=f"{', '.join(_FOLLOWED)}; the second in `{_POOLING_FOLDER}`",
                next_action=_NEXT,
            )
        if kind == "Pooling":
            pooling = _mode_of(folder / POOLING_FILE)
    return pooling


def _modules(file: Path) -> list[dict[str, Any]]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError("cannot read JSON", where=str(file), got=str(error)) from error
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise InputError("not the modules of a model", where=str(file), expected="a list of JSON objects")
    return found


def _mode_of(file: Path) -> VectorPooling:
    config = read_json(file)
    named = config.get(_MODE)
    chosen = [named] if isinstance(named, str) else named or [
        key.removeprefix(f"{_MODE}_") for key, on in config.items() if key.startswith(f"{_MODE}_") and on
    ]  # fmt: skip
    if len(chosen) != 1 or chosen[0] not in _MODES:
        raise InputError(
            "the model pools its tokens in a way that is not followed here",
            where=str(file),
            got=" and ".join(map(str, chosen)) or "nothing",
            expected=f"one of {', '.join(_MODES)}",
            next_action=_NEXT,
        )
    return _MODES[chosen[0]]


def _read(file: Path) -> dict[str, Any]:
    return read_json(file) if file.is_file() else {}
