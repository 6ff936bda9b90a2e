"""A model in parts over real ranks: the weights, resumption and files are those of a rank that has all of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from sparkml.errors import ConfigError, TrainingError
from sparkml.hosting.training import TrainingConfig
from sparkml.models.folder import CONFIG_FILE, read_json, write_json
from sparkml.training.checkpoint import Checkpoints, Position, load_checkpoint
from sparkml.training.pieces import Piece, Share
from sparkml.training.run import read_answers
from sparkml.training.settings import SpreadSettings, Start, TrainingJob
from sparkml.training.spread import recompute_blocks
from tests.unit.train.groups import compare_architectures, texts_in_parts, train_on_ranks
from tests.unit.train.trainings import run, weights
from tests.writers import LLAMA, T5, tiny_writer

FSDP = SpreadSettings(parallel="fsdp")
RECOMPUTED = SpreadSettings(parallel="fsdp", activation_checkpointing=True)
TENSOR = SpreadSettings(parallel="fsdp", tensor_ranks=2)
LORA = {"method": "lora", "rank": 4, "dropout": 0.0}


@pytest.fixture
def start(encoder: Path, tmp_path: Path) -> Start:
    """The encoder without dropout, which each rank draws by itself."""
    folder = tmp_path / "without-dropout"
    shutil.copytree(encoder, folder)
    config = read_json(folder / CONFIG_FILE)
    zero = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    write_json(folder / CONFIG_FILE, {**config, **zero})
    return Start(folder=str(folder))


def check_close(found: TrainingJob, expected: TrainingJob) -> None:
    own, wanted = weights(found), weights(expected)
    assert own.keys() == wanted.keys()
    for name, tensor in own.items():
        torch.testing.assert_close(
            tensor, wanted[name], atol=1e-5, rtol=1e-5, msg=lambda text, n=name: f"{n}: {text}"
        )
    answers, others = read_answers(found.run_folder), read_answers(expected.run_folder)
    assert answers["sample_id"].to_pylist() == others["sample_id"].to_pylist()


def checkpoints_of(job: TrainingJob) -> list[str]:
    return sorted(path.name for path in (Path(job.run_folder) / "checkpoints").iterdir())


def set_back(job: TrainingJob, made: TrainingJob, step: int) -> TrainingJob:
    """What a run leaves that was killed after the checkpoint of a step."""
    shutil.copytree(made.run_folder, job.run_folder, ignore=shutil.ignore_patterns("result", "answers"))
    for folder in (Path(job.run_folder) / "checkpoints").iterdir():
        if not folder.name.startswith(f"step-{step:08d}"):
            shutil.rmtree(folder)
    return job


@pytest.mark.rare
def test_ranks_with_a_part_each_learn_what_one_with_all_does(training_job, pretraining_job, start) -> None:
    def make(
        name: str, spread: SpreadSettings = FSDP, of: dict[str, Any] | None = None, **loop: Any
    ) -> TrainingJob:
        given = {"start": start, "spread": spread, "keep_checkpoints": 5, **(of or {})}
        return training_job(name, of=given, **loop)

    alone = make("alone", SpreadSettings())
    averaged = {"ema_decay": 0.5, "best_metric": "loss"}
    alone_averaged = make("alone averaged", SpreadSettings(), **averaged)
    alone_lora = make("alone lora", SpreadSettings(), {"adapt": LORA})
    measured = [run(job) for job in (alone, alone_averaged, alone_lora)]
    recomputed = make("recomputed alone", SpreadSettings(activation_checkpointing=True))
    run(recomputed)
    check_close(recomputed, alone)
    # Rows one by one: in one of fourteen no token is hidden.
    anew = {"start": start.model_copy(update={"random": True})}
    alone_masked = pretraining_job("alone masked", of=anew, micro_batch_tokens=16)
    run(alone_masked)
    expected = {
        "fsdp": alone,
        "masked": alone_masked,
        "recomputed in small passes": alone,
        "tensor": alone,
        "averaged": alone_averaged,
        "lora": alone_lora,
        "from a whole checkpoint": alone,
    }
    jobs = {
        "fsdp": make("fsdp"),
        "masked": pretraining_job("masked", of={**anew, "spread": FSDP}, micro_batch_tokens=16),
        # Two ranks seldom have equally many passes of so few tokens.
        "recomputed in small passes": make("small", RECOMPUTED, micro_batch_tokens=60),
        "tensor": make("tensor", TENSOR),
        "averaged": make("averaged", **averaged),
        "lora": make("lora", of={"adapt": LORA}),
        "from a whole checkpoint": set_back(make("from whole"), alone, 8),
    }
    found = dict(zip(jobs, train_on_ranks(list(jobs.values()), 2), strict=True))
    for name, job in jobs.items():
        check_close(job, expected[name])
    assert found["fsdp"]["validation_loss"] == pytest.approx(measured[0]["validation_loss"], abs=1e-5)
    assert found["tensor"]["validation_loss"] == pytest.approx(measured[0]["validation_loss"], abs=1e-5)
    assert found["fsdp"]["trainable_parameters"] == measured[0]["trainable_parameters"]
    assert found["from a whole checkpoint"]["resumed_from_step"] == 8

    # A checkpoint is in as many parts as there were ranks, about a half each, and one rank goes on from it.
    last = [name for name in checkpoints_of(jobs["fsdp"]) if "00000012" in name]
    assert last == ["step-00000012-00000-of-00002", "step-00000012-00001-of-00002"]
    sizes = [
        (Path(jobs["fsdp"].run_folder) / "checkpoints" / name / "optimizer.safetensors").stat().st_size
        for name in last
    ]
    assert 0.8 < sizes[0] / sizes[1] < 1.25
    for name in ("fsdp", "tensor"):
        again = set_back(make(f"{name} on one rank", SpreadSettings()), jobs[name], 8)
        assert run(again)["resumed_from_step"] == 8
        check_close(again, alone)


def test_every_architecture_in_parts_computes_what_it_does_whole() -> None:
    found = compare_architectures(2)
    assert len(found) == 20
    assert max(difference for _, difference in found) < 1e-5, found


def test_a_model_in_parts_writes_what_a_whole_one_does(tmp_path: Path) -> None:
    """Ranks whose texts have ended go on with the passes of the others."""
    folders = [
        tiny_writer(tmp_path / name, config, steps=30) for name, config in (("t5", T5), ("llama", LLAMA))
    ]
    for whole, in_parts in texts_in_parts([str(folder) for folder in folders], 2):
        assert in_parts == whole
        assert len(set(whole)) > 2


def test_a_network_that_cannot_compute_its_blocks_again_is_refused() -> None:
    network = torch.nn.Module()
    network.base_model = torch.nn.Linear(1, 1)
    with pytest.raises(ConfigError, match="cannot compute its blocks again"):
        recompute_blocks(network)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"parallel": "fsdp"}, "needs collective=torch"),
        ({"tensor_ranks": 2}, "tensor_ranks need parallel=fsdp"),
        (
            {"parallel": "fsdp", "collective": "torch", "ranks": 3, "tensor_ranks": 2},
            "do not make groups of 2",
        ),
        (
            {"parallel": "fsdp", "collective": "torch", "compile": True},
            "neither gradient_type=float16 nor compile",
        ),
    ],
)
def test_what_ranks_cannot_share_is_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**settings)


def test_rectangles_overlap_where_both_have_something() -> None:
    upper = Piece((0, 0), (3, 4), (6, 4))
    right = Piece((0, 2), (6, 2), (6, 4))
    both = upper.overlap(right)
    assert both == ((slice(0, 3), slice(2, 4)), (slice(0, 3), slice(0, 2)))
    assert upper.overlap(Piece((3, 0), (3, 4), (6, 4))) is None
    scalar = Piece((), (), ())
    assert scalar.overlap(scalar) == ((), ())


class Written:
    """A matrix of 5 x 4 that two ranks have written in parts, the second one fewer rows."""

    position = Position(step=0, batch_size=4, n_streams=8, seed=1, manifest_id="m")

    def __init__(self, folder: Path, keep: int = 1) -> None:
        self.whole = torch.arange(20.0).view(5, 4)
        self.checkpoints = Checkpoints(str(folder), keep=keep)

    def write(self, step: int, number: int) -> None:
        rows = (slice(0, 3), slice(3, 5))[number]
        own = self.whole[rows] + step
        piece = Piece((rows.start, 0), tuple(own.shape), (5, 4))
        position = Position(**{**vars(self.position), "step": step})
        share = Share(number, 2, {"w": piece, "exp_avg.w": piece})
        others = {"exp_avg.w": own * 2, "numbers": torch.tensor([1.0, 2.0])}
        self.checkpoints.save({"w": own}, others, position, share)


def test_parts_are_put_together_once_the_last_one_is_there(tmp_path, caplog) -> None:
    made = Written(tmp_path)
    made.write(4, 1)
    made.write(4, 0)
    made.write(8, 0)  # the other rank was killed before it
    folders = made.checkpoints.latest()
    assert "of checkpoint step-00000008-00000-of-00002 there are not all 2 parts" in caplog.text
    with pytest.raises(TrainingError, match="does not see the checkpoint that rank 0 has found"):
        made.checkpoints.of_step(8)
    assert [folder.name for folder in folders] == [
        "step-00000004-00000-of-00002",
        "step-00000004-00001-of-00002",
    ]
    trained, others = {"w": torch.zeros(5, 4)}, {"exp_avg.w": torch.zeros(5, 4), "numbers": torch.zeros(2)}
    assert load_checkpoint(folders, trained, others, made.position) == 4
    assert torch.equal(trained["w"], made.whole + 4)
    assert torch.equal(others["exp_avg.w"], 2 * (made.whole + 4))
    # Three ranks: this one has a row of either part.
    middle = Piece((2, 0), (2, 4), (5, 4))
    share = Share(1, 3, {"w": middle, "exp_avg.w": middle})
    trained, others = {"w": torch.zeros(2, 4)}, {"exp_avg.w": torch.zeros(2, 4), "numbers": torch.zeros(2)}
    load_checkpoint(folders, trained, others, made.position, share)
    assert torch.equal(trained["w"], (made.whole + 4)[2:4])
    assert others["numbers"].tolist() == [1.0, 2.0]


def test_a_part_that_is_damaged_is_passed_over_with_its_checkpoint(tmp_path, caplog) -> None:
    made = Written(tmp_path, keep=2)
    for step in (4, 8):
        made.write(step, 1)
        made.write(step, 0)
    file = tmp_path / "checkpoints" / "step-00000008-00001-of-00002" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert [folder.name[:13] for folder in made.checkpoints.latest()] == ["step-00000004"] * 2
    assert "is damaged, trying the one before" in caplog.text


def test_a_tensor_of_which_a_part_is_missing_is_not_loaded(tmp_path) -> None:
    made = Written(tmp_path)
    made.write(4, 0)
    folder = tmp_path / "checkpoints" / "step-00000004-00000-of-00002"
    trained, others = {"w": torch.zeros(5, 4)}, {"exp_avg.w": torch.zeros(5, 4), "numbers": torch.zeros(2)}
    with pytest.raises(TrainingError, match="of another shape or type: w"):
        load_checkpoint([folder], trained, others, made.position)
    assert not trained["w"].any()
    said = json.loads((folder / "pieces.json").read_text())
    assert said["w"] == {"offset": [0, 0], "whole": [5, 4]}


def test_old_parts_are_removed_by_the_first_rank(tmp_path) -> None:
    made = Written(tmp_path)
    for step in (4, 8, 12):
        made.write(step, 1)
        made.write(step, 0)
    left = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert left == ["step-00000012-00000-of-00002", "step-00000012-00001-of-00002"]
