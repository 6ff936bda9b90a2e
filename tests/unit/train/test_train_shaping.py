"""Trainings that shape the network: zeros by a schedule, rounding, a teacher."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from sparkml.errors import ConfigError
from sparkml.feed.manifest_file import write_manifest
from sparkml.inference.teaching import Teacher
from sparkml.models.directory import TASK_FILE, copy_inputs, read_task
from sparkml.models.folder import write_json
from sparkml.models.heads import build_network, load_trained
from sparkml.models.int8 import to_int8
from sparkml.models.quantisable import quantisable
from sparkml.models.shaping.beside import Beside
from sparkml.models.shaping.rounding import round_layers
from sparkml.models.shaping.settings import Shaping, Sparsity, Teaching
from sparkml.models.shaping.sparse import Zeros, cut, sparse_matrices
from sparkml.tasks.task import Task, task_of, task_spec
from sparkml.tasks.taught import TAUGHT
from sparkml.training.settings import Start, TrainingJob
from tests.tiny import SHAPE, tiny_classifier, tiny_model
from tests.unit.train.conftest import manifest_of
from tests.unit.train.trainings import curve, killed, run, same, weights

MakeJob = Callable[..., TrainingJob]
SPARSE = Shaping(sparsity=Sparsity(share=0.6, until=0.5))


def shares(job: TrainingJob) -> list[float]:
    found = weights(job)
    return [
        float((tensor == 0).float().mean())
        for name, tensor in found.items()
        if ".layer." in name and tensor.dim() == 2
    ]


def test_the_share_of_zeros_rises_by_a_cubic_to_what_was_asked_for() -> None:
    zeros = Zeros([], Sparsity(share=0.8, until=0.5), total_steps=40)
    assert [round(zeros.share_at(done), 4) for done in (0, 10, 20, 40)] == [0.0, 0.7, 0.8, 0.8]
    matrix = torch.tensor([[0.5, -0.1], [3.0, 0.2]])
    cut(matrix, 0.5)
    assert matrix.tolist() == [[0.5, 0.0], [3.0, 0.0]]


def test_a_sparse_training_ends_with_the_share_and_goes_on_after_a_kill(training_job: MakeJob) -> None:
    job = training_job("whole", of={"shaping": SPARSE})
    run(job)
    assert shares(job) == pytest.approx([0.6] * len(shares(job)), abs=1e-3)
    assert len(shares(job)) == 12
    again = training_job("again", of={"shaping": SPARSE})
    killed(again, after=6)
    run(again)
    assert same(weights(job), weights(again))


def test_averaged_and_best_weights_have_all_zeros(training_job: MakeJob) -> None:
    for number, loop in enumerate(({"ema_decay": 0.9}, {"best_metric": "loss"})):
        job = training_job(f"run-{number}", of={"shaping": SPARSE}, **loop)
        run(job)
        assert min(shares(job)) == pytest.approx(0.6, abs=1e-3)


def test_what_is_zero_stays_zero(training_job: MakeJob, encoder: Path, tmp_path: Path) -> None:
    sparse = training_job("sparse", of={"shaping": SPARSE})
    run(sparse)
    start = Path(sparse.run_folder) / "result"
    of = {"start": Start(folder=str(with_inputs(start, encoder)))}
    kept = training_job("kept", of={**of, "shaping": Shaping(sparsity=Sparsity(share=0))})
    free = training_job("free", of=of)
    run(kept)
    run(free)
    assert shares(kept) == shares(sparse)
    assert max(shares(free)) < 0.01
    assert not same(weights(kept), weights(sparse))


def with_inputs(folder: Path, inputs: Path) -> Path:
    copy_inputs(inputs, folder)
    return folder


def test_rounded_layers_say_what_int8_says(tmp_path: Path) -> None:
    folder = tiny_classifier(tmp_path / "model")
    spec = task_network(folder)
    exact, rounded, quantised = (load_trained(spec, folder) for _ in range(3))
    round_layers(rounded)
    to_int8(quantised)
    ids = torch.tensor([[2, 9, 10, 11, 12, 3], [2, 14, 15, 16, 17, 3]])
    with torch.inference_mode():
        exactly, floats, ints = (
            one(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
            for one in (exact, rounded, quantised)
        )
    torch.testing.assert_close(floats, ints, rtol=1e-4, atol=1e-4)
    assert (exactly - ints).abs().max() > 1e-3


def task_network(folder: Path) -> Any:
    return task_of(read_task(folder), folder).network()


def test_a_training_learns_through_the_rounding_and_gives_floats(training_job: MakeJob) -> None:
    plain, rounds = training_job("plain"), training_job("rounds", of={"shaping": Shaping(rounds=True)})
    run(plain)
    found = run(rounds)
    assert found["validation_loss"] < curve(rounds)[3]["validation_loss"]
    assert weights(rounds).keys() == weights(plain).keys()
    assert not same(weights(rounds), weights(plain))
    again = training_job("again", of={"shaping": Shaping(rounds=True)})
    killed(again, after=6)
    run(again)
    assert same(weights(rounds), weights(again))


def test_every_layer_that_int8_rounds_gets_gradients(tmp_path: Path) -> None:
    folder = tiny_classifier(tmp_path / "model")
    network, _ = build_network(task_network(folder), folder, seed=1)
    round_layers(network)
    ids = torch.tensor([[2, 9, 10, 3]])
    network(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.square().sum().backward()
    layers = quantisable(network)
    assert (len(layers), len(sparse_matrices(network))) == (14, 13)  # the pooler is of the base
    assert all(layer.weight.grad.abs().sum() > 0 for layer in layers.values())


@pytest.fixture
def taught(tmp_path: Path, encoder: Path, classify: Task[Any], manifests: dict[str, Any]) -> dict[str, Any]:
    """The samples with what a teacher says of them, which is not what their labels say."""
    teacher = tiny_model(
        tmp_path / "teacher", "AutoModelForSequenceClassification", 9, labels=classify.targets.labels
    )
    write_json(teacher / TASK_FILE, task_spec(classify))
    made: dict[str, Any] = {}
    for split, kept in manifests.items():
        manifest = kept.read()
        table = pq.read_table(manifest.files[0].path).combine_chunks()
        said = Teacher(str(teacher), "t").apply(classify, table.to_batches()[0])
        path = tmp_path / f"{split}.parquet"
        pq.write_table(pa.Table.from_batches([said]), path, row_group_size=32)
        made[f"{split}_manifest"] = write_manifest(manifest_of(path, split, manifest.rows, 0), str(tmp_path))
    return made


def test_a_student_comes_to_say_what_the_teacher_says(training_job: MakeJob, taught: dict[str, Any]) -> None:
    teaching = Shaping(teaching=Teaching(weight=1.0, temperature=2.0))
    job = training_job("run", of={**taught, "shaping": teaching}, max_steps=40)
    found = run(job)
    told = [line["validation_from_teacher"] for line in curve(job) if "validation_from_teacher" in line]
    assert told[-1] == found["validation_from_teacher"] < 0.5 * told[0]
    # The task's own loss is none of its concern: the teacher says nothing of labels.
    mixed = training_job(
        "mixed",
        of={**taught, "shaping": Shaping(teaching=Teaching(weight=0.01, temperature=2.0))},
        max_steps=40,
    )
    assert run(mixed)["validation_loss"] < found["validation_loss"]
    again = training_job("again", of={**taught, "shaping": teaching}, max_steps=40)
    killed(again, after=17)
    run(again)
    assert same(weights(job), weights(again))


@pytest.mark.parametrize("match", ["hidden", "attention"])
def test_the_last_block_comes_to_give_what_the_teachers_gives(
    training_job: MakeJob, taught: dict[str, Any], tmp_path: Path, classify: Task[Any], match: str
) -> None:
    spec, teacher = classify.network(), str(tmp_path / "teacher")
    inputs = {
        "input_ids": torch.tensor([[2, 9, 10, 3, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1, 0]]),
    }

    def apart(folder: str) -> float:
        student, fresh = load_trained(spec, folder), load_trained(spec, teacher)
        beside = Beside(student, fresh, [match])  # type: ignore[list-item]
        with torch.no_grad():
            student(**inputs)
            return float(beside(inputs))

    assert apart(teacher) == 0
    found = {}
    for kind in ("logits", match):
        teaching = Teaching(weight=0.9, temperature=1.0, match=(kind,), teacher=teacher)
        job = training_job(kind, of={**taught, "shaping": Shaping(teaching=teaching)}, max_steps=24)
        run(job)
        found[kind] = apart(f"{job.run_folder}/result")
    assert 0 < found[match] < 0.7 * found["logits"]


def test_blocks_of_another_shape_are_not_matched(tmp_path: Path) -> None:
    wide = tiny_classifier(tmp_path / "wide")
    spec = task_network(wide)
    narrow = tiny_model(
        tmp_path / "narrow",
        "AutoModelForSequenceClassification",
        config={**SHAPE, "num_attention_heads": 4},
        labels=("a", "b", "c"),
    )
    with pytest.raises(ConfigError, match=r"num_attention_heads[\s\S]*4 and 2"):
        Beside(load_trained(spec, narrow), load_trained(spec, wide), ["attention"])
    Beside(load_trained(spec, narrow), load_trained(spec, wide), ["hidden"])


def test_what_the_samples_hold_are_the_logits_of_the_teacher(
    tmp_path: Path, taught: dict[str, Any], classify: Task[Any]
) -> None:
    table = pq.read_table(tmp_path / "validation.parquet").slice(0, 1)
    said = np.frombuffer(table[TAUGHT[0]][0].as_py(), np.float32)
    ids = torch.from_numpy(np.frombuffer(table["input_ids"][0].as_py(), np.int32).astype(np.int64))[None]
    network = load_trained(classify.network(), tmp_path / "teacher")
    with torch.inference_mode():
        wanted = network(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0].numpy()
    np.testing.assert_allclose(said, wanted, atol=1e-5)


def test_a_network_in_parts_is_not_shaped(training_job: MakeJob) -> None:
    with pytest.raises(ConfigError, match="every rank holds"):
        training_job("run", of={"shaping": SPARSE, "adapt": {"method": "lora"}})
