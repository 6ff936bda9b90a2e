"""Model folders shared by the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny import tiny_classifier, tiny_encoder


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny masked LM."""
    return tiny_encoder(tmp_path_factory.mktemp("models") / "encoder")


@pytest.fixture(scope="session")
def classifier_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny classifier with weights large enough for clear predictions."""
    return tiny_classifier(tmp_path_factory.mktemp("models") / "classifier")
