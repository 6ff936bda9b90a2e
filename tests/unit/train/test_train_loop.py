"""The loop in one process: it learns, repeats itself bit for bit, and resumes as if nothing had happened."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sparkml.distributed.collective import SingleProcess
from sparkml.distributed.reporter import Reporter
from sparkml.errors import InputError, TrainingError
from sparkml.feed.manifest import ShardFiles
from sparkml.feed.manifest_file import write_manifest
from sparkml.training import loop
from sparkml.training.curves import read_curve
from sparkml.training.loop import Trainer, _device
from sparkml.training.pretrain import pretrain


def train(job):
    return pretrain(job, SingleProcess(), Reporter(None))


def weights(job) -> dict[str, torch.Tensor]:
    return load_file(Path(job.model_folder) / "model.safetensors")


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_it_learns_and_writes_a_model_folder(training_job):
    job = training_job(max_steps=150, validation_every_steps=50, warmup_steps=10)
    measured = train(job)
    assert measured["steps"] == 150
    assert measured["validation_loss"] < 2.0  # log(27) = 3.3 for a guess
    names = {path.name for path in Path(job.model_folder).iterdir()}
    assert names == {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "curve.jsonl",
        "training.json",
        "checksums.json",
    }
    curve = read_curve(Path(job.model_folder) / "curve.jsonl")
    assert [point["step"] for point in curve] == list(range(1, 151))
    assert [point["step"] for point in curve if "validation_loss" in point] == [50, 100, 150]
    assert json.loads((Path(job.model_folder) / "training.json").read_text())["ranks"] == 1


def test_a_tokenizer_that_was_altered_since_the_samples_were_made_is_refused(training_job):
    job = training_job()
    file = Path(job.tokenizer.location)
    whole = file.read_text()
    file.write_text(whole.replace("w7", "W7"))  # loads, and has as many tokens: nothing else would notice
    with pytest.raises(InputError, match="not the one that the samples were made with") as caught:
        train(job)
    assert (caught.value.where, job.tokenizer.sha256 in caught.value.expected) == (str(file), True)
    assert not Path(job.model_folder).exists()
    file.write_text(whole)
    train(job)
    assert (Path(job.model_folder) / "tokenizer.json").read_text() == whole


def test_two_runs_and_two_readers_give_the_same_bits(training_job):
    first, second, other = training_job("a"), training_job("b"), training_job("c", reader="petastorm")
    for job in (first, second, other):
        train(job)
    assert same(weights(first), weights(second))
    assert same(weights(first), weights(other))
    seeded = training_job("d", seed=6)
    train(seeded)
    assert not same(weights(first), weights(seeded))


@pytest.mark.parametrize("killed_after", [3, 4, 7, 9])
def test_a_killed_run_goes_on_to_the_same_weights(training_job, killed_after):
    undisturbed, disturbed = training_job("undisturbed"), training_job("disturbed")
    train(undisturbed)

    class DyingReporter(Reporter):
        def progress(self, step, total, **values):
            if step > killed_after:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(disturbed, SingleProcess(), DyingReporter(None))
    measured = train(disturbed)
    assert measured["resumed_from_step"] == killed_after // 4 * 4
    assert same(weights(undisturbed), weights(disturbed))
    curves = [read_curve(Path(job.model_folder) / "curve.jsonl") for job in (undisturbed, disturbed)]
    losses = [[(point["step"], point["train_loss"]) for point in curve] for curve in curves]
    assert losses[0] == losses[1]


def test_old_checkpoints_are_removed_and_half_written_ones_ignored(training_job):
    job = training_job()
    checkpoints = Path(job.run_folder) / "checkpoints"
    half_written = checkpoints / ".step-00000099.abc.partial"
    half_written.mkdir(parents=True)
    assert train(job)["resumed_from_step"] == 0
    assert sorted(p.name for p in checkpoints.glob("step-*")) == ["step-00000008", "step-00000012"]


def test_a_finished_run_is_not_trained_again(training_job):
    job = training_job()
    first = train(job)
    again = train(job)
    assert again["resumed_from_step"] == 12
    assert again["validation_loss"] == first["validation_loss"]


def test_a_checkpoint_of_another_feed_is_refused(training_job):
    train(training_job())
    with pytest.raises(TrainingError, match="belongs to another training"):
        train(training_job(micro_batch=8))


def test_without_held_out_rows_there_is_no_validation_loss(training_job):
    job = training_job()
    empty = replace(job.validation_manifest.read(), files=ShardFiles.of([]), rows=0)
    measured = train(job.model_copy(update={"validation_manifest": write_manifest(empty, job.run_folder)}))
    assert "validation_loss" not in measured
    assert measured["train_loss"] > 0


def test_a_diverging_training_says_so(training_job):
    with pytest.raises(TrainingError, match="gradients are not finite"):
        train(training_job(learning_rate=1e30, gradient_clip=0.0))


class _Together:
    """Two ranks as two threads: sums through a shared barrier, for comparison with one rank."""

    def __init__(self, rank: int, barrier: threading.Barrier, slots: list[torch.Tensor]) -> None:
        self.rank, self.size, self.local_rank = rank, 2, rank
        self._barrier, self._slots = barrier, slots

    def allreduce_(self, tensor: torch.Tensor) -> None:
        self._slots[self.rank] = tensor.clone()
        self._barrier.wait()
        total = self._slots[0] + self._slots[1]
        self._barrier.wait()
        tensor.copy_(total)

    def broadcast_(self, tensor: torch.Tensor, root: int = 0) -> None:
        if self.rank == root:
            self._slots[0] = tensor.clone()
        self._barrier.wait()
        heard = self._slots[0]
        self._barrier.wait()
        tensor.copy_(heard)

    def barrier(self) -> None:
        self._barrier.wait()

    def shutdown(self) -> None:
        pass


def test_ranks_keep_equal_weights(training_job):
    job = training_job(max_steps=7, micro_batch=10)  # an epoch of 48 rows a rank: its last batch is short
    barrier, slots = threading.Barrier(2), [torch.zeros(0), torch.zeros(0)]
    trainers: list[Trainer | None] = [None, None]

    def work(rank: int) -> None:
        trainers[rank] = Trainer(job, 32, _Together(rank, barrier, slots), Reporter(None))
        trainers[rank].run()

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    states = [dict(trainer.model.state_dict()) for trainer in trainers]
    assert same(states[0], states[1])


@pytest.mark.parametrize(
    ("n_gpus", "local_rank", "device"),
    [(0, 3, "cpu"), (1, 0, "cuda:0"), (1, 1, "cuda:0"), (4, 2, "cuda:2"), (4, 5, "cuda:1")],
)
def test_a_rank_takes_its_gpu_by_its_number_on_its_host(monkeypatch, n_gpus, local_rank, device):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)
    assert _device(local_rank) == torch.device(device)


def test_the_trainer_asks_for_the_local_rank(training_job, monkeypatch):
    asked = []
    monkeypatch.setattr(loop, "_device", lambda local_rank: asked.append(local_rank) or torch.device("cpu"))
    group = _Together(1, threading.Barrier(1), [])
    group.local_rank = 7
    Trainer(training_job(), 32, group, Reporter(None))
    assert asked == [7]
