"""Model folders shared by the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sparkml.models.classifier import FLOAT32, fill_encoder, new_classifier, write_classifier
from sparkml.models.folder import read_json
from tests.tiny import tiny_encoder


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny masked LM."""
    return tiny_encoder(tmp_path_factory.mktemp("models") / "encoder")


@pytest.fixture(scope="session")
def classifier_folder(encoder_folder: Path) -> Path:
    """A tiny classifier with weights large enough for clear predictions."""
    model = new_classifier(encoder_folder, 3, "mean", seed=5)
    fill_encoder(model, encoder_folder)
    with torch.no_grad():
        model.classifier.weight.mul_(40.0)
    config = {**read_json(encoder_folder / "config.json"), "pooling": "mean", "precision": FLOAT32}
    target = encoder_folder.parent / "classifier"
    target.mkdir()
    write_classifier(target, model, ["a", "b", "c"], config, encoder_folder / "tokenizer.json")
    return target
