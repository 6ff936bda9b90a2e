"""The model directory: what transformers loads, and beside it what the task is, where it comes from, and a card.

config.json  model.safetensors  tokenizer or processor files
task.json      task, its options and labels
lineage.json   parent, data, step and settings of the training
evaluation.json, curve.jsonl, training.json     what was measured, and how it was trained
inputs.json    what the tokenizer's files say
README.md      the card
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparkml.errors import InputError
from sparkml.frame.artifacts import CHECKSUMS_FILE
from sparkml.models.folder import CONFIG_FILE, TOKENIZER_FILE, check_folder, read_json, write_json
from sparkml.models.inputs import read_text_inputs
from sparkml.models.kept_inputs import keep_inputs

TASK_FILE, LINEAGE_FILE, CARD_FILE, EVALUATION_FILE = (
    "task.json",
    "lineage.json",
    "README.md",
    "evaluation.json",
)
# What belongs to texts, images and sounds rather than to weights.
_INPUT_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt",
    "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "chat_template.jinja",
    "preprocessor_config.json", "processor_config.json", "feature_extractor_config.json",
)  # fmt: skip

# What the name of an architecture says of its task.
_TASKS = {"ForSequenceClassification": "classify", "ForTokenClassification": "tag"}
_SEVERAL = "multi_label_classification"


def copy_inputs(source: Path, target: Path, *further: str) -> None:
    """Copy the files of the tokenizer or processor, and `further` ones that are there."""
    for name in (*_INPUT_FILES, *further):
        if (source / name).is_file():
            (target / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(source / name, target / name)


def read_task(folder: str | Path) -> dict[str, Any]:
    """The task of a model: task.json, else what the architecture of config.json says.

    InputError for a directory that is something to start from and answers nothing.
    """
    path = Path(folder) / TASK_FILE
    spec = read_json(path) if path.is_file() else _task_of_architecture(Path(folder))
    missing = sorted({"name", "options", "targets"} - set(spec))
    if missing:
        raise InputError("not the task of a model", where=str(path), got=f"no {', '.join(missing)}")
    return spec


def _task_of_architecture(folder: Path) -> dict[str, Any]:
    config = read_json(check_folder(folder, CONFIG_FILE) / CONFIG_FILE)
    names = config.get("architectures") or [""]
    task = next((task for end, task in _TASKS.items() if str(names[0]).endswith(end)), None)
    labels = [
        str(label) for _, label in sorted((config.get("id2label") or {}).items(), key=lambda one: int(one[0]))
    ]
    if task is None:
        raise InputError(
            "the model has no task: it is something to start from",
            where=str(folder),
            got=f"architectures {', '.join(map(str, names))}",
            expected=f"a directory with {TASK_FILE}, or an architecture that ends in {', '.join(_TASKS)}",
            next_action="make a model of it that answers (the stage finetune), or name a task that needs no training:"
            " task.name=retrieve",
        )
    options: dict[str, Any] = {}
    if task == "classify" and config.get("problem_type") == _SEVERAL:
        options["several"] = True
    if task == "tag":
        options["constrained"] = False  # nothing says that I- follows B-: many models begin an entity with I-
    return {"name": task, "options": options, "targets": {"labels": labels}}


def keep_text_inputs(folder: Path) -> None:
    """Keep beside a tokenizer what its files say, for whoever loads the model without transformers."""
    if (folder / TOKENIZER_FILE).is_file():
        keep_inputs(folder, read_text_inputs(folder).to_payload())


def publish(
    folder: Path,
    *,
    result: Path,
    inputs: Path,
    task: Mapping[str, Any],
    lineage: Mapping[str, Any],
    metrics: Mapping[str, float],
) -> None:
    """Fill a model directory: the trained network of `result`, the tokenizer of `inputs`, task, lineage and card."""
    shutil.copytree(result, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(CHECKSUMS_FILE))
    copy_inputs(inputs, folder)
    keep_text_inputs(folder)
    write_json(folder / TASK_FILE, dict(task))
    write_json(folder / LINEAGE_FILE, dict(lineage))
    (folder / CARD_FILE).write_text(card(task, lineage, metrics), encoding="utf-8")


def card(task: Mapping[str, Any], lineage: Mapping[str, Any], metrics: Mapping[str, float]) -> str:
    """A model card in Markdown: what it does, what it was made of, how well it does."""
    labels = task["targets"].get("labels", ())
    lines = [
        f"# {lineage['model']}",
        "",
        f"Task `{task['name']}`" + (f", {len(labels)} labels." if labels else "."),
        f"Made by step `{lineage['step']}` from `{lineage['parent'] or 'random weights'}`,"
        f" trained on `{lineage['table']}` version {lineage['version']}.",
        "",
        "| held-out metric | value |",
        "| --- | --- |",
        *(f"| {name} | {value:.4g} |" for name, value in sorted(metrics.items())),
        "",
        "Labels: " + ", ".join(f"`{label}`" for label in labels[:50]) if labels else "",
        "",
        "`task.json` holds the settings, `lineage.json` the origin, `training.json` how it was trained.",
    ]
    return "\n".join(lines).rstrip() + "\n"
