"""What a tokenizer's files say is read once, as long as they stay the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from sparkml.models.directory import keep_text_inputs
from sparkml.models.inputs import read_text_inputs
from sparkml.models.kept_inputs import INPUTS_FILE, kept_inputs
from tests.tiny import copy_of

ANSWERS = """
import sys
from sparkml.inference.scorer import load_scorer
scorer = load_scorer(sys.argv[1])
print(scorer.engine, scorer.answer(["win a prize"])[0].prediction, "transformers" in sys.modules)
"""


def test_what_was_kept_is_what_the_files_say(classifier_folder: Path, tmp_path: Path) -> None:
    folder = copy_of(classifier_folder, tmp_path / "model")
    read = read_text_inputs(folder)
    keep_text_inputs(folder)
    assert kept_inputs(folder) is not None
    assert read_text_inputs(folder) == read
    assert "tokenizer_json" not in json.loads((folder / INPUTS_FILE).read_text())["fields"]


def test_files_that_have_changed_are_read_again(classifier_folder: Path, tmp_path: Path) -> None:
    folder = copy_of(classifier_folder, tmp_path / "model")
    keep_text_inputs(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 16}))
    assert kept_inputs(folder) is None
    assert read_text_inputs(folder).longest == 16


def test_our_encoder_answers_without_transformers(classifier_folder: Path, tmp_path: Path) -> None:
    folder = copy_of(classifier_folder, tmp_path / "model")
    keep_text_inputs(folder)
    done = subprocess.run(
        [sys.executable, "-c", ANSWERS, str(folder)], capture_output=True, text=True, check=True
    )
    engine, prediction, imported = done.stdout.split()
    assert (engine, imported) == ("encoder", "False")
    assert prediction in ("a", "b", "c")
