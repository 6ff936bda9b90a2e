"""What the tests of tasks share: a tiny encoder's inputs, and batches of examples."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparkml.models.inputs import TextInputs, read_text_inputs
from tests.tiny import tiny_encoder


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny masked LM."""
    return tiny_encoder(tmp_path_factory.mktemp("tasks") / "encoder")


@pytest.fixture(scope="session")
def inputs(encoder_folder: Path) -> TextInputs:
    """What its directory says of its tokens."""
    return read_text_inputs(encoder_folder)
