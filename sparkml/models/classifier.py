"""The document classifier as a model folder: weights, labels, tokenizer; float or int8."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from sparkml.errors import InputError
from sparkml.models.bert import POOLINGS, BertClassifier, BertShape, initialise
from sparkml.models.encoder import check_bert_folder
from sparkml.models.folder import CONFIG_FILE, TOKENIZER_FILE, WEIGHTS_FILE, read_json, write_json
from sparkml.models.int8 import to_int8

FLOAT32, INT8 = "float32", "int8"


@dataclass(frozen=True)
class ClassifierFolder:
    """A classifier as its folder describes it."""

    model: BertClassifier
    labels: list[str]
    config: dict[str, Any]
    precision: str


def new_classifier(
    encoder_folder: str | Path, n_labels: int, pooling: str, seed: int, dropout: float = 0.0
) -> BertClassifier:
    """A classifier of the shape of an encoder folder, with random weights drawn from `seed`.

    Their spread is the one that the encoder's own pretraining began with. `dropout` (a share) is that of the
    training to come, not of the encoder's.
    """
    path = check_bert_folder(encoder_folder)
    config = read_json(path / CONFIG_FILE)
    model = BertClassifier(replace(_shape(config, path), dropout=dropout), n_labels, pooling)
    initialise(model, seed, float(config.get("initializer_range", 0.02)))
    return model


def fill_encoder(model: BertClassifier, encoder_folder: str | Path) -> None:
    """Take the encoder's weights from a pretrained folder; the head keeps what it has."""
    path = check_bert_folder(encoder_folder)
    state = {name.removeprefix("bert."): tensor for name, tensor in load_file(path / WEIGHTS_FILE).items()}
    wanted = model.bert.state_dict()
    _check_weights(state, wanted, path)
    model.bert.load_state_dict({name: state[name] for name in wanted})


def write_classifier(
    staging: Path,
    model: BertClassifier,
    labels: Sequence[str],
    config: dict[str, Any],
    tokenizer_file: Path,
) -> None:
    """Write weights, config.json and tokenizer.json into a staging folder.

    `config` is that of the encoder or of the classifier it comes from, with `pooling` and `precision`.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, staging / WEIGHTS_FILE, metadata={"format": "pt"})
    named = {
        **config,
        "architectures": ["BertClassifier"],
        "id2label": {str(index): label for index, label in enumerate(labels)},
        "label2id": {label: index for index, label in enumerate(labels)},
    }
    write_json(staging / CONFIG_FILE, named)
    shutil.copyfile(tokenizer_file, staging / TOKENIZER_FILE)


def load_classifier(folder: str | Path) -> ClassifierFolder:
    """Load a float or int8 classifier in eval mode; `InputError` when the folder is not one."""
    path = check_bert_folder(folder)
    config = read_json(path / CONFIG_FILE)
    precision, pooling = config.get("precision"), config.get("pooling")
    names = config.get("id2label")
    if precision not in (FLOAT32, INT8) or pooling not in POOLINGS or not isinstance(names, dict):
        raise InputError(
            "this model folder is no classifier",
            where=str(path / CONFIG_FILE),
            got=f"precision {precision!r}, pooling {pooling!r}",
            expected=f"precision {FLOAT32} or {INT8}, pooling one of {', '.join(POOLINGS)}, id2label",
            next_action="give the folder of a model of kind finetuned or int8",
        )
    model = BertClassifier(_shape(config, path), len(names), pooling)
    if precision == INT8:
        to_int8(model)
    state = load_file(path / WEIGHTS_FILE)
    _check_weights(state, model.state_dict(), path)
    model.load_state_dict(state)
    labels = [str(names[str(index)]) for index in range(len(names))]
    return ClassifierFolder(model.eval(), labels, config, precision)


def _shape(config: dict[str, Any], path: Path) -> BertShape:
    return BertShape.from_config(config, where=str(path / CONFIG_FILE))


def _check_weights(state: dict[str, Any], wanted: dict[str, Any], path: Path) -> None:
    wrong = [
        name for name, tensor in wanted.items() if name not in state or state[name].shape != tensor.shape
    ]
    if wrong:
        raise InputError(
            "the weights do not fit the network of config.json",
            where=str(path / WEIGHTS_FILE),
            got=f"missing or of another shape: {', '.join(sorted(wrong)[:3])} ({len(wrong)} in all)",
            next_action="write the model folder again with the stage that made it",
        )
