"""Models as artifacts: whole under their name or not there, and refused when a file is not as it was written."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from sparkml.errors import InputError
from sparkml.frame.artifacts import CHECKSUMS_FILE, localise, new_artifact
from sparkml.inference.scorer import load_scorer

FILES = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]


def fill(encoder_folder: Path, staging: Path) -> None:
    for name in FILES:
        shutil.copy(encoder_folder / name, staging)


@pytest.fixture
def artifact(encoder_folder: Path, tmp_path: Path) -> Path:
    """The tiny encoder as an artifact."""
    target = tmp_path / "models" / "encoder" / "v1"
    with new_artifact(str(target)) as staging:
        fill(encoder_folder, staging)
    return target


def test_its_files_are_named_with_their_bytes_and_checksums(artifact: Path) -> None:
    assert sorted(entry.name for entry in artifact.iterdir()) == [CHECKSUMS_FILE, *FILES]
    contents = {name: (artifact / name).read_bytes() for name in FILES}
    assert json.loads((artifact / CHECKSUMS_FILE).read_text()) == {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in contents.items()
    }
    assert localise(str(artifact)) == artifact


def test_a_failed_write_leaves_the_old_folder_and_no_rubbish(tmp_path: Path) -> None:
    target = tmp_path / "m" / "v1"
    with new_artifact(str(target)) as staging:
        (staging / "a").write_text("old")
    with pytest.raises(FileNotFoundError), new_artifact(str(target)) as staging:
        (staging / "no_such_folder" / "a").write_text("new")
    assert (target / "a").read_text() == "old"
    assert [entry.name for entry in target.parent.iterdir()] == ["v1"]


def test_writing_again_replaces_the_whole_folder(encoder_folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "v1"
    target.mkdir()
    (target / "left_behind").write_text("by a run that died")
    with new_artifact(str(target)) as staging:
        fill(encoder_folder, staging)
    assert sorted(entry.name for entry in target.iterdir()) == [CHECKSUMS_FILE, *FILES]


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_cut_off_altered_or_removed_is_named(artifact: Path, name: str) -> None:
    file = artifact / name
    whole = file.read_bytes()
    half = len(whole) // 2
    altered = whole[:half] + bytes([whole[half] ^ 1]) + whole[half + 1 :]
    for content, got in (
        (whole[:half], f"got: {half} bytes"),
        (altered, f"got: {len(whole)} bytes, altered"),
    ):
        file.write_bytes(content)
        with pytest.raises(InputError, match=got) as caught:
            localise(str(artifact))
        assert caught.value.where == str(file)
        assert "--force" in caught.value.next_action
    file.unlink()
    with pytest.raises(InputError, match="got: missing"):
        localise(str(artifact))


def test_a_folder_of_the_users_own_needs_no_checksums(classifier_folder: Path) -> None:
    assert not (classifier_folder / CHECKSUMS_FILE).exists()
    assert load_scorer(localise(str(classifier_folder))).labels == ("a", "b", "c")
