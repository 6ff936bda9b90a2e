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
from torch import nn

from sparkml.distributed.collective import SingleProcess
from sparkml.distributed.reporter import Reporter
from sparkml.errors import TrainingError
from sparkml.frame.artifacts import new_artifact
from sparkml.training.checkpoint import Checkpoints, Position, fill_moments, load_checkpoint
from sparkml.training.pretrain import pretrain

POSITION = Position(step=0, world_size=1, micro_batch=4, seed=1, manifest_id="m")


def at(step: int) -> Position:
    return Position(**{**vars(POSITION), "step": step})


class Tied(nn.Module):
    """Two names for one matrix, as a language model has, and a bias."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(3, 2)
        self.head = nn.Linear(2, 3)
        self.head.weight = self.embedding.weight
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.fill_(value)


def optimizer_of(model: nn.Module, value: float = 0.0) -> torch.optim.AdamW:
    optimizer = torch.optim.AdamW(model.parameters())
    fill_moments(model, optimizer)
    for state in optimizer.state.values():
        for moment in state.values():
            moment.fill_(value)
    return optimizer


@pytest.fixture
def checkpoints(tmp_path) -> Checkpoints:
    """Those of steps 4 and 8, whose weights are 4 and 8."""
    made = Checkpoints(str(tmp_path), keep=2)
    for step in (4, 8):
        model = Tied(step)
        made.save(model, optimizer_of(model, step), at(step))
    return made


def folder_of(tmp_path: Path, step: int) -> Path:
    return tmp_path / "checkpoints" / f"step-{step:08d}"


def test_weights_and_moments_come_back(checkpoints, tmp_path):
    model = Tied()
    optimizer = optimizer_of(model)
    folder = checkpoints.latest()
    assert folder == folder_of(tmp_path, 8)
    assert load_checkpoint(folder, model, optimizer, POSITION) == 8
    assert all((parameter == 8).all() for parameter in model.parameters())
    assert model.head.weight is model.embedding.weight
    assert all((moment == 8).all() for state in optimizer.state.values() for moment in state.values())


def test_none_yet(tmp_path):
    assert Checkpoints(str(tmp_path / "nothing"), keep=2).latest() is None


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
    assert checkpoints.latest() == folder_of(tmp_path, 4)
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
    model = Tied()
    folder = checkpoints.latest()
    assert folder == folder_of(tmp_path, 8)  # whole, as far as checksums can tell
    with pytest.raises(TrainingError, match="does not fit the network") as caught:
        load_checkpoint(folder, model, optimizer_of(model), POSITION)
    assert (caught.value.where, caught.value.got) == (str(folder / file), got)
    assert all((parameter == 0).all() for parameter in model.parameters())


def test_old_ones_go_and_a_damaged_one_ahead_does_not_count_as_kept(checkpoints, tmp_path):
    flip_a_byte(folder_of(tmp_path, 8))
    for step, left in ((5, [4, 5]), (6, [5, 6])):
        model = Tied(step)
        checkpoints.save(model, optimizer_of(model, step), at(step))
        assert sorted(folder_of(tmp_path, 0).parent.iterdir()) == [folder_of(tmp_path, s) for s in left]


def test_on_an_object_store_an_unfinished_upload_is_as_if_it_had_not_begun(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("SPARKML_CACHE", str(tmp_path / "cache"))
    store = fsspec.filesystem("memory")
    checkpoints = Checkpoints("memory://bucket/run", keep=2)
    for step in (4, 8, 12):
        model = Tied(step)
        checkpoints.save(model, optimizer_of(model, step), at(step))
    below = "/bucket/run/checkpoints"
    assert [Path(name).name for name in sorted(store.ls(below, detail=False))] == [
        "step-00000008",
        "step-00000012",
    ]
    store.rm(f"{below}/step-00000012/checksums.json")
    model = Tied()
    assert load_checkpoint(checkpoints.latest(), model, optimizer_of(model), POSITION) == 8
    assert caplog.records == []
    store.rm(f"{below}/step-00000008/checksums.json")
    assert checkpoints.latest() is None
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
    model = Tied()
    Checkpoints(str(tmp_path), keep=1).save(model, optimizer_of(model), at(4))
    before = {name for _, name in events[: events.index(("rename", "step-00000004"))]}
    files = {"model.safetensors", "optimizer.safetensors", "state.json", "checksums.json"}
    assert files <= before
    assert any(name.startswith(".step-00000004") for name in before)  # the folder itself


def test_a_run_whose_newest_checkpoint_is_cut_off_ends_with_the_same_weights(training_job, caplog):
    class DyingReporter(Reporter):
        def progress(self, step, total, **values):
            if step > 9:
                raise KeyboardInterrupt

    undisturbed, damaged = training_job("undisturbed"), training_job("damaged")
    pretrain(undisturbed, SingleProcess(), Reporter(None))
    with pytest.raises(KeyboardInterrupt):
        pretrain(damaged, SingleProcess(), DyingReporter(None))
    truncate(Path(damaged.run_folder) / "checkpoints" / "step-00000008")
    measured = pretrain(damaged, SingleProcess(), Reporter(None))
    assert measured["resumed_from_step"] == 4
    assert "step-00000008 is damaged" in caplog.text
    expected, found = (
        load_file(Path(job.model_folder) / "model.safetensors") for job in (undisturbed, damaged)
    )
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
