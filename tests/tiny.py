"""Tiny model directories for tests, as transformers loads them: hidden 32, two layers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from sparkml.models.directory import TASK_FILE, copy_inputs
from sparkml.models.folder import CONFIG_FILE, TOKENIZER_FILE, WEIGHTS_FILE, read_json, write_json
from sparkml.models.heads import build_network
from sparkml.models.inputs import TextInputs, read_text_inputs, special_fields
from sparkml.models.networks import kept_config, load_network, quiet, write_config
from sparkml.stages.shard.vocabulary import save_tokenizer, train_tokenizer
from sparkml.tasks.classify import Classify
from sparkml.tasks.classify_images import ClassifyImages, ImageOptions
from sparkml.tasks.retrieve import Retrieve, RetrieveOptions
from sparkml.tasks.task import Targets, Task, task_spec

SHAPE: dict[str, Any] = {
    "model_type": "bert",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 32,
}
# Weights far apart: other words are other vectors.
DECIDED: dict[str, Any] = {**SHAPE, "initializer_range": 1.0}
WORDS = (
    "spam offer money win prize now click free cash claim",
    "meeting tomorrow lunch friend home train late book",
)


def tiny_tokenizer(folder: Path, sentinels: int = 0) -> Path:
    """Train a byte-level BPE on a few words and write it into a folder as transformers loads it."""
    folder.mkdir(parents=True, exist_ok=True)
    content = train_tokenizer([f"{words} {words}" for words in WORDS], 400, sentinels)
    with tempfile.TemporaryDirectory() as artifacts:
        digest = save_tokenizer(content, artifacts, sentinels)
        copy_inputs(Path(artifacts) / "tokenizers" / digest, folder)
    return folder / TOKENIZER_FILE


def tiny_model(
    folder: Path,
    head: str = "AutoModelForMaskedLM",
    seed: int = 1,
    config: Mapping[str, Any] = SHAPE,
    labels: tuple[str, ...] = (),
    sentinels: int = 0,
) -> Path:
    """Write a network with random weights, its configuration and the tiny tokenizer into a folder."""
    tiny_tokenizer(folder, sentinels)
    inputs = read_text_inputs(folder)
    write_config(config, folder, vocab_size=inputs.vocab_size, **special_fields(inputs))
    network: Any = load_network(folder, head, labels=labels, seed=seed, random=True).network
    with quiet():
        network.save_pretrained(folder)
    write_json(folder / CONFIG_FILE, kept_config(read_json(folder / CONFIG_FILE)))
    return folder


def tiny_encoder(folder: Path, seed: int = 1) -> Path:
    """Write a masked language model with random weights into a folder, which is made where it is missing."""
    return tiny_model(folder, seed=seed)


def tiny_inputs(folder: Path) -> TextInputs:
    """What the tiny tokenizer says of its tokens, where no network limits their number."""
    return read_text_inputs(tiny_tokenizer(folder).parent)


def copy_of(folder: Path, target: Path) -> Path:
    """A copy of a model directory, to be damaged."""
    shutil.copytree(folder, target)
    return target


def tiny_classifier(
    folder: Path,
    labels: tuple[str, ...] = ("a", "b", "c"),
    seed: int = 5,
    task: type[Task[Any]] = Classify,
    config: Mapping[str, Any] = SHAPE,
) -> Path:
    """Write a classifier of 32 tokens whose weights are large enough for clear predictions, with its task.

    `task`: `classify`, or another that answers with labels of texts (`pairs`) or of words (`tag`). `config`: `DECIDED`
    for a network whose texts get different labels.
    """
    options, targets = task.Options(max_length=32), Targets(labels=labels)
    tiny_model(folder, _head_of(task, options, targets), seed, config, labels)
    state = load_file(folder / WEIGHTS_FILE)
    state["classifier.weight"] *= 0.8 / config.get("initializer_range", 0.02)  # what a spread of 0.8 takes
    save_file(state, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    write_json(folder / TASK_FILE, task_spec(task(options, targets, read_text_inputs(folder))))
    return folder


def _head_of(task: type[Task[Any]], options: Any, targets: Targets) -> str:
    with tempfile.TemporaryDirectory() as name:
        return task(options, targets, tiny_inputs(Path(name))).network().head


def tiny_retriever(folder: Path, seed: int = 5) -> Path:
    """Write an encoder of 32 tokens that gives vectors of texts, other texts other ones, with its task."""
    tiny_model(folder, "AutoModel", seed, DECIDED)
    task = Retrieve(RetrieveOptions(max_length=32), Targets(), read_text_inputs(folder))
    write_json(folder / TASK_FILE, task_spec(task))
    return folder


def tiny_image_classifier(folder: Path, labels: tuple[str, ...] = ("blue", "red"), seed: int = 5) -> Path:
    """Write a classifier of images of 16 pixels with random weights, with its task."""
    folder.mkdir(parents=True, exist_ok=True)
    ClassifyImages.begin({"model_type": "sparkml_resnet", "image_size": 16, "hidden_size": 8}, folder, None)
    task = ClassifyImages(ImageOptions(), Targets(labels=labels), ClassifyImages.read_inputs(str(folder)))
    network: Any = build_network(task.network(), folder, seed=seed, random=True)[0]
    with quiet():
        network.save_pretrained(folder)
    write_json(folder / TASK_FILE, task_spec(task))
    return folder
