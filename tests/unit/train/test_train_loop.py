"""A training in one process: it learns, repeats itself bit for bit, and resumes as if nothing had happened."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from sparkml.distributed.collective import SingleProcess
from sparkml.distributed.reporter import Reporter
from sparkml.errors import InputError, TrainingError
from sparkml.feed.manifest import ShardFiles
from sparkml.feed.manifest_file import write_manifest
from sparkml.models.adapt import AdaptSettings, adapt
from sparkml.models.heads import build_network, load_trained
from sparkml.tasks.task import make_task, task_class
from sparkml.training import trainer
from sparkml.training.run import read_answers, train
from sparkml.training.settings import LoopSettings, TrainingJob
from sparkml.training.trainer import Trainer, device_of
from tests.unit.train.conftest import put_samples
from tests.unit.train.trainings import (
    DyingReporter,
    curve,
    killed,
    run,
    run_together,
    same,
    together,
    weights,
)

LORA = {"method": "lora", "rank": 2}
ADALORA = {"method": "adalora", "initial_rank": 3, "target_rank": 2, "delta_t": 2, "tfinal_fraction": 0.2}


def of(**given: Any) -> dict[str, Any]:
    return {"adapt": AdaptSettings(**given)}


def test_it_learns_and_writes_what_it_learnt(training_job) -> None:
    job = training_job(max_steps=40)
    measured = run(job)
    points = curve(job)
    assert [point["step"] for point in points] == list(range(1, 41))
    assert points[0]["train_loss"] > 0.5
    assert measured["train_loss"] < 0.4
    assert measured["validation_accuracy"] == 1.0
    assert [point["step"] for point in points if "validation_loss" in point] == list(range(4, 41, 4))
    folder = Path(job.run_folder) / "result"
    assert sorted(path.name for path in folder.iterdir()) == [
        "checksums.json",
        "config.json",
        "curve.jsonl",
        "model.safetensors",
        "training.json",
    ]
    written = json.loads((folder / "training.json").read_text())
    assert (written["ranks"], written["seed"]) == (1, 5)
    assert written["loop"] == job.loop.model_dump(mode="json")
    assert written["measured"] == measured


def test_every_held_out_sample_is_answered_by_the_trained_network(training_job, classify) -> None:
    job = training_job()
    run(job)
    answers = read_answers(job.run_folder)
    assert answers.column("sample_id").to_pylist() == list(range(24))
    outputs = [
        np.frombuffer(output, kind)
        for output, kind in zip(answers["output"].to_pylist(), answers["dtype"].to_pylist(), strict=True)
    ]
    network = load_trained(classify.network(), Path(job.run_folder) / "result")
    held_out = job.validation_manifest.read()
    rows = pq.read_table(held_out.files.path(0))
    columns = {name: rows.column(name).to_numpy() for name in ("input_ids", "type_ids")}
    with torch.inference_mode():
        expected = classify.outputs(network, classify.collate(columns, None))
    np.testing.assert_allclose(np.stack(outputs), np.stack(expected), atol=1e-5)


def test_two_runs_and_two_readers_give_the_same_bits(training_job) -> None:
    first, second = training_job("a"), training_job("b")
    other = training_job("c", of={"reader": "petastorm"})
    for job in (first, second, other):
        run(job)
        torch.manual_seed(99)  # whatever state the process is in
    assert same(weights(first), weights(second))
    assert same(weights(first), weights(other))
    seeded = training_job("d", of={"seed": 6})
    run(seeded)
    assert not same(weights(first), weights(seeded))


@pytest.mark.parametrize(
    ("killed_after", "how", "loop"),
    [
        (3, {}, {}),
        (4, {}, {}),
        (9, {}, {}),
        (9, {}, {"ema_decay": 0.8}),
        (9, {}, {"best_metric": "loss"}),
        (9, {}, {"ema_decay": 0.5, "best_metric": "accuracy"}),
        (7, LORA, {}),
        (9, ADALORA, {}),
        (9, {"unfreeze_epochs": 0.5, "layer_decay": 0.9}, {}),
        (10, {}, {"pool_steps": 5}),
        (10, {}, {"pool_steps": 1}),
    ],
)
def test_a_killed_run_goes_on_to_the_same_weights(training_job, killed_after, how, loop) -> None:
    undisturbed = training_job("undisturbed", of=of(**how), **loop)
    disturbed = training_job("disturbed", of=of(**how), **loop)
    run(undisturbed)
    killed(disturbed, killed_after)
    assert run(disturbed)["resumed_from_step"] == killed_after // 4 * 4
    assert same(weights(undisturbed), weights(disturbed))
    told = [
        [(point["step"], point["train_loss"], point.get("validation_loss")) for point in curve(job)]
        for job in (undisturbed, disturbed)
    ]
    assert told[0] == told[1]


def test_a_new_network_starts_from_counts_learns_and_resumes(pretraining_job) -> None:
    undisturbed, disturbed = pretraining_job("a", max_steps=60), pretraining_job("b", max_steps=60)
    measured = run(undisturbed)
    # The frequencies alone are log(30) = 3.4; without them it begins with log(vocabulary) = 5.8.
    assert curve(undisturbed)[0]["train_loss"] < 4.2
    assert measured["validation_loss"] < 3.0
    assert read_answers(undisturbed.run_folder).num_rows == 0
    killed(disturbed, 30)
    run(disturbed)
    assert same(weights(undisturbed), weights(disturbed))


def test_the_loss_that_is_told_is_the_tasks_own(training_job) -> None:
    found = []
    for weight in (0.0, 1000.0):
        job = training_job(f"w{weight}", of=of(**ADALORA, orthogonal_weight=weight), max_steps=10)
        run(job)
        found.append([point["train_loss"] for point in curve(job)])
    assert found[0][0] == found[1][0]  # of equal weights, whatever else is descended
    assert found[0] != found[1]


def test_old_checkpoints_are_removed_and_half_written_ones_ignored(training_job) -> None:
    job = training_job()
    checkpoints = Path(job.run_folder) / "checkpoints"
    (checkpoints / ".step-00000099.abc.partial").mkdir(parents=True)
    assert run(job)["resumed_from_step"] == 0
    assert sorted(path.name for path in checkpoints.glob("step-*")) == ["step-00000008", "step-00000012"]


@pytest.mark.parametrize("loop", [{}, {"ema_decay": 0.9}, {"best_metric": "loss"}])
def test_a_finished_run_is_not_trained_again(training_job, loop) -> None:
    job = training_job(**loop)
    first, written = run(job), weights(job)
    again = run(job)
    assert again["resumed_from_step"] == again["steps"] == 12
    assert again["validation_loss"] == first["validation_loss"]
    assert same(weights(job), written)


def test_a_checkpoint_of_another_feed_is_refused(training_job) -> None:
    run(training_job())
    with pytest.raises(TrainingError, match="belongs to another training"):
        run(training_job(batch_size=8))


@pytest.mark.parametrize("how", [{}, LORA, ADALORA])
def test_small_forward_passes_give_the_steps_of_large_ones(training_job, how) -> None:
    # Without dropout: what is dropped is drawn in the order of the rows of a pass.
    found = []
    for run_name, tokens in (("small", 30), ("large", 100_000)):
        job = training_job(run_name, of=of(**how), micro_batch_tokens=tokens, max_steps=4)
        instance = without_dropout(trainer_of(job))
        instance.run()
        found.append(dict(instance.network.state_dict()))
    assert found[0].keys() == found[1].keys()
    for name, tensor in found[0].items():
        torch.testing.assert_close(tensor, found[1][name], atol=1e-5, rtol=0)


def test_patience_ends_a_training_and_the_best_weights_are_kept(training_job) -> None:
    # The rate is far too high from the start: no validation is ever as good as the first one.
    shared = {"learning_rate": 0.3, "decay": "none", "warmup_fraction": 0.0, "best_metric": "loss"}
    shared |= {"validation_every_steps": 2, "max_steps": 40}
    job = training_job("patient", patience=3, **shared)
    measured = run(job)
    points = {point["step"]: point["validation_loss"] for point in curve(job) if "validation_loss" in point}
    best = min(points, key=points.__getitem__)
    assert measured["steps"] == best + 2 * 3 < 40
    short = training_job("short", **{**shared, "max_steps": int(best)})
    run(short)
    assert same(weights(job), weights(short))
    again = run(job)
    assert again["steps"] == again["resumed_from_step"] == measured["steps"]
    assert same(weights(job), weights(short))


def test_averaged_weights_are_the_mean_over_the_steps(training_job) -> None:
    job = training_job(ema_decay=0.6, max_steps=3)
    instance = trainer_of(job)
    seen = [{name: tensor.clone() for name, tensor in instance.state.weights().items()}]
    average = instance.state.average

    def note(decay: float) -> None:
        seen.append({name: tensor.clone() for name, tensor in instance.state.weights().items()})
        average(decay)

    instance.state.average = note
    instance.run()
    final = instance.state.weights()
    for name in final:
        expected = seen[0][name]
        for step in seen[1:]:
            expected = 0.6 * expected + 0.4 * step[name]
        torch.testing.assert_close(final[name], expected)
    assert not same(final, seen[-1])


def test_a_metric_that_the_task_has_not_is_named(training_job) -> None:
    with pytest.raises(TrainingError, match=r"best_metric bleu[\s\S]*accuracy, loss, macro_f1"):
        run(training_job(best_metric="bleu"))


def test_without_held_out_rows_there_is_no_validation_loss(training_job) -> None:
    job = training_job(best_metric="loss")
    empty = replace(job.validation_manifest.read(), files=ShardFiles.of([]), rows=0)
    measured = run(job.model_copy(update={"validation_manifest": write_manifest(empty, job.run_folder)}))
    assert "validation_loss" not in measured
    assert measured["train_loss"] > 0


class Removing(Reporter):
    """Takes the shard away when the second step is done."""

    def __init__(self, path: Path) -> None:
        super().__init__(None)
        self._path = path

    def progress(self, step: int, total: int, **values: float) -> None:
        if step == 2:
            self._path.unlink()


@pytest.mark.parametrize("reader", ["arrow", "petastorm"])
def test_a_shard_that_vanishes_is_named_and_the_training_goes_on_when_it_is_back(
    reader, training_job, classify, tmp_path
) -> None:
    manifest = put_samples(tmp_path, classify, "train", 100)
    path = Path(manifest.read().files[0].path)
    content = path.read_bytes()
    job = training_job(of={"train_manifest": manifest, "reader": reader}, max_steps=20)
    with pytest.raises(InputError, match=r"train\.parquet, row group \d+[\s\S]*FileNotFoundError"):
        train(job, SingleProcess(), Removing(path))
    path.write_bytes(content)
    assert run(job)["resumed_from_step"] >= 4


def test_a_diverging_training_writes_down_and_names_its_documents(training_job) -> None:
    job = training_job(learning_rate=1e30, gradient_clip=0.0, warmup_fraction=0.0, batch_size=4)
    with pytest.raises(TrainingError, match="gradients are not finite") as caught:
        run(job)
    written = json.loads((Path(job.run_folder) / "diverged-rank-00000.json").read_text())
    assert caught.value.where.startswith(f"step {written['step']};")
    documents = written["documents_by_sample"]
    assert len(documents) == 4
    assert documents == {sample: [f"train-{sample}"] for sample in documents}
    named = caught.value.got.split("documents ")[1].split(", ")
    assert named == sorted(f"train-{sample}" for sample in documents)
    assert "learning_rate" in caught.value.next_action


def trainer_of(job: TrainingJob, collective: Any = None, reporter: Reporter | None = None) -> Trainer:
    task = make_task(job.task, task_class(job.task["name"]).read_inputs(job.start.folder))
    network, new = build_network(task.network(), job.start.folder, seed=job.seed)
    steps = {"total_steps": job.loop.max_steps or 1, "epoch_steps": 7}
    adapted = adapt(network, job.adapt, new_modules=new, seed=job.seed, **steps)
    return Trainer(job, task, adapted, collective or SingleProcess(), reporter or Reporter(None))


def without_dropout(instance: Trainer) -> Trainer:
    for module in instance.network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return instance


def samples_of(job: TrainingJob, steps: int) -> Counter[int]:
    batches = trainer_of(job)._feed._batches(0)
    return Counter(int(number) for _ in range(steps) for number in next(batches).columns["sample_id"])


@pytest.mark.parametrize("pool_steps", [1, 2, 3, 50])
def test_pools_of_steps_hold_every_row_once(training_job, pool_steps) -> None:
    job = training_job(pool_steps=pool_steps)
    assert samples_of(job, 7) == Counter(range(100))  # an epoch: seven steps of 16, the last one short
    assert samples_of(job, 14) == Counter(dict.fromkeys(range(100), 2))


def test_ranks_keep_equal_weights_and_a_short_last_batch_weighs_what_it_holds(training_job) -> None:
    # 50 rows a rank in steps of 13: the last batch of the epoch holds 11.
    job = training_job(max_steps=5, batch_size=26, pool_steps=1)
    trainers = two_ranks(job)
    assert [one.state.others()["step.classifier.bias"].item() for one in trainers] == [5.0, 5.0]
    assert same(*(dict(one.network.state_dict()) for one in trainers))


def two_ranks(job: TrainingJob) -> list[Trainer]:
    """Two ranks, trained to the end without dropout, which each draws by itself."""
    trainers = [without_dropout(trainer_of(job, rank)) for rank in together(2)]
    run_together([one.run for one in trainers])
    return trainers


def one_rank(job: TrainingJob, reporter: Reporter | None = None) -> Trainer:
    trainer = without_dropout(trainer_of(job, reporter=reporter))
    trainer.run()
    return trainer


def check_close(found: Trainer, expected: Trainer) -> None:
    weights = dict(expected.network.state_dict())
    for name, value in found.network.state_dict().items():
        torch.testing.assert_close(value, weights[name], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("task", ["classify", "masked_lm"])
def test_two_ranks_take_the_steps_of_one(task, training_job, pretraining_job) -> None:
    """The same samples in every step, masked alike: the weights agree but for the rounding of sums."""
    make = training_job if task == "classify" else pretraining_job
    settings = {"max_steps": 9, "batch_size": 24, "pool_steps": 2 if task == "classify" else 1}
    check_close(two_ranks(make(**settings))[0], one_rank(make("alone", **settings)))


@pytest.mark.parametrize("killed_after", [5, 9])
def test_a_killed_training_goes_on_with_another_number_of_ranks(training_job, killed_after) -> None:
    disturbed = training_job("disturbed")
    with pytest.raises(KeyboardInterrupt):
        one_rank(disturbed, DyingReporter(killed_after))
    check_close(two_ranks(disturbed)[0], one_rank(training_job("whole")))


@pytest.mark.parametrize(
    ("n_gpus", "local_rank", "device"),
    [(0, 3, "cpu"), (1, 0, "cuda:0"), (1, 1, "cuda:0"), (4, 2, "cuda:2"), (4, 5, "cuda:1")],
)
def test_a_rank_takes_its_gpu_by_its_number_on_its_host(monkeypatch, n_gpus, local_rank, device) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)
    assert device_of(local_rank) == torch.device(device)


def test_the_trainer_asks_for_the_local_rank(training_job, monkeypatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(trainer, "device_of", lambda local: asked.append(local) or torch.device("cpu"))
    group = together(1)[0]
    group.local_rank = 7
    trainer_of(training_job(), group)
    assert asked == [7]


def test_a_training_needs_an_end_and_patience_a_metric() -> None:
    with pytest.raises(ValueError, match="max_steps or max_epochs"):
        LoopSettings(max_epochs=None)
    with pytest.raises(ValueError, match="best_metric"):
        LoopSettings(max_steps=3, patience=1)
    assert LoopSettings(max_steps=10, max_epochs=2).steps(4) == 8
    assert LoopSettings(max_steps=10, max_epochs=3).steps(4) == 10
    assert LoopSettings(max_epochs=0.1).steps(4) == 1
