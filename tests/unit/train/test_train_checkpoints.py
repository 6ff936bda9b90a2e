"""Checkpoints that were damaged: found out, passed over, never loaded in part."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import fsspec
import pytest
import torch
from safetensors.torch import load_file, save_file

from sparkml.errors import TrainingError
from sparkml.frame.artifacts import new_artifact
from sparkml.training.checkpoint import Checkpoints, Position, Tensors, load_checkpoint
from tests.unit.train.trainings import killed, run, same, weights

POSITION = Position(step=0, batch_size=4, n_streams=8, seed=1, manifest_id="m")


def at(step: int) -> Position:
    return Position(**{**vars(POSITION), "step": step})


def tensors(value: float = 0.0) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Weights, and what else a training goes on with: moments, and a count of steps without dimensions."""
    trained = {
        "embedding.weight": torch.full((3, 2), float(value)),
        "head.bias": torch.full((3,), float(value)),
    }
    moments = {f"exp_avg.{name}": tensor.clone() for name, tensor in trained.items()}
    return trained, {**moments, "step.head.bias": torch.tensor(float(value))}


def filled_with(value: float, *groups: Tensors) -> bool:
    return all(bool((tensor == value).all()) for group in groups for tensor in group.values())


@pytest.fixture
def checkpoints(tmp_path) -> Checkpoints:
    """Those of steps 4 and 8, whose weights are 4 and 8."""
    made = Checkpoints(str(tmp_path), keep=2)
    for step in (4, 8):
        made.save(*tensors(step), at(step))
    return made


def folder_of(tmp_path: Path, step: int) -> Path:
    return tmp_path / "checkpoints" / f"step-{step:08d}"


def test_weights_and_moments_come_back(checkpoints, tmp_path):
    trained, others = tensors()
    folders = checkpoints.latest()
    assert folders == [folder_of(tmp_path, 8)]
    assert load_checkpoint(folders, trained, others, POSITION) == 8
    assert filled_with(8, trained, others)


def test_a_tensor_that_is_a_view_of_another_is_filled_in_place(checkpoints, tmp_path):
    trained, others = tensors()
    buffer = torch.zeros(9)
    trained["embedding.weight"] = buffer[:6].view(3, 2)
    load_checkpoint([folder_of(tmp_path, 4)], trained, others, POSITION)
    assert buffer.tolist() == [4.0] * 6 + [0.0] * 3


def test_none_yet(tmp_path):
    assert Checkpoints(str(tmp_path / "nothing"), keep=2).latest() == []


def truncate(folder: Path) -> str:
    file = folder / "model.safetensors"
    os.truncate(file, file.stat().st_size - 1)
    return "model.safetensors"


def flip_a_byte(folder: Path) -> str:
    file = folder / "optimizer.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    return "optimizer.safetensors"


def change_the_step(folder: Path) -> str:
    file = folder / "state.json"
    file.write_text(file.read_text().replace('"step": ', '"step": 1'))
    return "state.json"


def delete_the_state(folder: Path) -> str:
    (folder / "state.json").unlink()
    return "state.json"


def delete_the_checksums(folder: Path) -> str:
    (folder / "checksums.json").unlink()
    return "there is no checksum"


def empty_the_checksums(folder: Path) -> str:
    (folder / "checksums.json").write_text("")
    return "checksums.json"


def forget_a_checksum(folder: Path) -> str:
    file = folder / "checksums.json"
    sums = json.loads(file.read_text())
    del sums["optimizer.safetensors"]
    file.write_text(json.dumps(sums))
    return "none of optimizer.safetensors"


DAMAGES = [
    truncate,
    flip_a_byte,
    change_the_step,
    delete_the_state,
    delete_the_checksums,
    empty_the_checksums,
    forget_a_checksum,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(checkpoints, tmp_path, damage, caplog):
    named = damage(folder_of(tmp_path, 8))
    assert checkpoints.latest() == [folder_of(tmp_path, 4)]
    (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert f"checkpoint {folder_of(tmp_path, 8)} is damaged, trying the one before" in warning.getMessage()
    assert named in warning.getMessage()


@pytest.mark.parametrize("damage", DAMAGES)
def test_all_damaged_is_an_error_that_names_them(checkpoints, tmp_path, damage):
    truncate(folder_of(tmp_path, 4))
    named = damage(folder_of(tmp_path, 8))
    with pytest.raises(TrainingError, match="every checkpoint of the training is damaged") as caught:
        checkpoints.latest()
    assert f"{folder_of(tmp_path, 4)}: " in caught.value.got
    assert f"{folder_of(tmp_path, 8)}: " in caught.value.got
    assert named in caught.value.got
    assert "remove the folder to train from the first step" in caught.value.next_action


def rewrite(folder: Path, file: str, change) -> None:
    """The same checkpoint with other tensors, and checksums that fit."""
    tensors = load_file(folder / file)
    change(tensors)
    with new_artifact(str(folder)) as staging:
        for source in folder.iterdir():
            shutil.copy(source, staging)
        save_file(tensors, staging / file)


@pytest.mark.parametrize(
    ("file", "change", "got"),
    [
        ("model.safetensors", lambda t: t.pop("head.bias"), "missing: head.bias (1 in all)"),
        ("model.safetensors", lambda t: t.pop("embedding.weight"), "missing: embedding.weight (1 in all)"),
        ("model.safetensors", lambda t: t.update(more=torch.ones(1)), "not in the network: more (1 in all)"),
        (
            "model.safetensors",
            lambda t: t.update({"head.bias": torch.ones(4)}),
            "of another shape or type: head.bias (1 in all)",
        ),
        (
            "model.safetensors",
            lambda t: t.update({"head.bias": torch.ones(3, dtype=torch.float16)}),
            "of another shape or type: head.bias (1 in all)",
        ),
        (
            "optimizer.safetensors",
            lambda t: t.pop("exp_avg.head.bias"),
            "missing: exp_avg.head.bias (1 in all)",
        ),
        (
            "optimizer.safetensors",
            lambda t: t.update({"step.head.bias": torch.ones(1)}),
            "of another shape or type: step.head.bias (1 in all)",
        ),
    ],
)
def test_weights_of_another_network_are_refused_and_nothing_is_loaded(
    checkpoints, tmp_path, file, change, got
):
    rewrite(folder_of(tmp_path, 8), file, change)
    trained, others = tensors()
    (folder,) = checkpoints.latest()
    assert folder == folder_of(tmp_path, 8)  # whole, as far as checksums can tell
    with pytest.raises(TrainingError, match="does not fit the network") as caught:
        load_checkpoint([folder], trained, others, POSITION)
    assert (caught.value.where, caught.value.got) == (str(folder / file), got)
    assert filled_with(0, trained, others)


def test_old_ones_go_and_a_damaged_one_ahead_does_not_count_as_kept(checkpoints, tmp_path):
    flip_a_byte(folder_of(tmp_path, 8))
    for step, left in ((5, [4, 5]), (6, [5, 6])):
        checkpoints.save(*tensors(step), at(step))
        assert sorted(folder_of(tmp_path, 0).parent.iterdir()) == [folder_of(tmp_path, s) for s in left]


def test_on_an_object_store_an_unfinished_upload_is_as_if_it_had_not_begun(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("SPARKML_CACHE", str(tmp_path / "cache"))
    store = fsspec.filesystem("memory")
    checkpoints = Checkpoints("memory://bucket/run", keep=2)
    for step in (4, 8, 12):
        checkpoints.save(*tensors(step), at(step))
    below = "/bucket/run/checkpoints"
    assert [Path(name).name for name in sorted(store.ls(below, detail=False))] == [
        "step-00000008",
        "step-00000012",
    ]
    store.rm(f"{below}/step-00000012/checksums.json")
    assert load_checkpoint(checkpoints.latest(), *tensors(), POSITION) == 8
    assert caplog.records == []
    store.rm(f"{below}/step-00000008/checksums.json")
    assert checkpoints.latest() == []
    store.rm("/bucket", recursive=True)


def test_everything_is_on_the_disk_before_the_checkpoint_has_its_name(tmp_path, monkeypatch):
    events: list[tuple[str, str]] = []
    fsync, rename = os.fsync, os.rename

    def note_fsync(descriptor: int) -> None:
        events.append(("fsync", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
        fsync(descriptor)

    def note_rename(source, target) -> None:
        events.append(("rename", Path(target).name))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "rename", note_rename)
    Checkpoints(str(tmp_path), keep=1).save(*tensors(), at(4))
    before = {name for _, name in events[: events.index(("rename", "step-00000004"))]}
    files = {"model.safetensors", "optimizer.safetensors", "state.json", "checksums.json"}
    assert files <= before
    assert any(name.startswith(".step-00000004") for name in before)  # the folder itself


def test_a_run_whose_newest_checkpoint_is_cut_off_ends_with_the_same_weights(training_job, caplog):
    undisturbed, damaged = training_job("undisturbed"), training_job("damaged")
    run(undisturbed)
    killed(damaged, 9)
    truncate(Path(damaged.run_folder) / "checkpoints" / "step-00000008")
    assert run(damaged)["resumed_from_step"] == 4
    assert "step-00000008 is damaged" in caplog.text
    assert same(weights(undisturbed), weights(damaged))
