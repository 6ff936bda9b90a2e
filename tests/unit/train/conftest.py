"""Two small trainings: texts of two labels for a tiny classifier, and packed samples for a masked language model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparkml.feed.manifest import Manifest, ShardFile, ShardFiles
from sparkml.feed.manifest_file import ManifestFile, write_manifest
from sparkml.models.inputs import read_text_inputs
from sparkml.tasks.classify import Classify, ClassifyOptions
from sparkml.tasks.masked_lm import MaskedLM, MaskedLMOptions
from sparkml.tasks.task import Targets, Task, task_spec
from sparkml.training.settings import LoopSettings, Start, TrainingJob
from tests.tiny import WORDS, tiny_encoder

SEQUENCE_LENGTH = 16
MakeJob = Callable[..., TrainingJob]
LOOP = {
    "max_steps": 12,
    "max_epochs": None,
    "batch_size": 16,
    "learning_rate": 3e-3,
    "pool_steps": 2,
    "validation_every_steps": 4,
    "validation_rows": 24,
}


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model directory that trainings start from."""
    return tiny_encoder(tmp_path_factory.mktemp("train") / "encoder")


@pytest.fixture(scope="session")
def classify(encoder: Path) -> Task[Any]:
    """One of two labels, from texts of at most 24 tokens."""
    targets = Targets(labels=("home", "spam"), counts={"home": 50, "spam": 50})
    return Classify(ClassifyOptions(max_length=24), targets, read_text_inputs(encoder))


@pytest.fixture(scope="session")
def manifests(classify: Task[Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, ManifestFile]:
    """100 training samples in row groups of 32, 24 held-out ones."""
    folder = tmp_path_factory.mktemp("samples")
    return {
        split: put_samples(folder, classify, split, rows)
        for split, rows in (("train", 100), ("validation", 24))
    }


@pytest.fixture
def training_job(
    tmp_path: Path, encoder: Path, classify: Task[Any], manifests: dict[str, ManifestFile]
) -> MakeJob:
    """Makes a job on the texts; `run` names another run folder, other names are settings of the loop."""

    def make(run: str = "run", *, of: dict[str, Any] | None = None, **loop: Any) -> TrainingJob:
        given: dict[str, Any] = {
            "task": task_spec(classify),
            "start": Start(folder=str(encoder)),
            "train_manifest": manifests["train"],
            "validation_manifest": manifests["validation"],
            **(of or {}),
        }
        return job_of(tmp_path, run, LoopSettings(**{**LOOP, **loop}), given)

    return make


@pytest.fixture
def pretraining_job(tmp_path: Path, encoder: Path) -> MakeJob:
    """Makes a job on packed samples for a network that begins anew."""
    inputs = read_text_inputs(encoder)
    train, validation = (
        write_manifest(put_packed(tmp_path / f"{split}.parquet", split, groups, seed), str(tmp_path))
        for split, groups, seed in (("train", (32, 32, 32), 1), ("validation", (20,), 2))
    )

    def make(run: str = "run", *, of: dict[str, Any] | None = None, **loop: Any) -> TrainingJob:
        options = MaskedLMOptions(embedding_start="spectral")
        given: dict[str, Any] = {
            "task": task_spec(MaskedLM(options, Targets(), inputs)),
            "start": Start(folder=str(encoder), random=True),
            "train_manifest": train,
            "validation_manifest": validation,
            **(of or {}),
        }
        return job_of(tmp_path, run, LoopSettings(**{**LOOP, "learning_rate": 1e-2, **loop}), given)

    return make


def job_of(tmp_path: Path, run: str, loop: LoopSettings, given: dict[str, Any]) -> TrainingJob:
    fixed = {
        "seed": 5,
        "reader": "arrow",
        "checkpoint_every_steps": 4,
        "keep_checkpoints": 2,
        "run_folder": str(tmp_path / run),
        "run_name": run,
        "tensorboard_folder": str(tmp_path / "tensorboard" / run),
        "mlflow_uri": "",
        "mlflow_store": "",
    }
    return TrainingJob(loop=loop, **{**fixed, **given})


def put_samples(folder: Path, task: Task[Any], split: str, rows: int) -> ManifestFile:
    """Texts of words of one list or the other, of different lengths, encoded by the task."""
    random = np.random.default_rng(len(split))
    labels = [("home", "spam")[n % 2] for n in range(rows)]
    texts = [" ".join(random.choice(WORDS[1 - n % 2].split(), random.integers(2, 15))) for n in range(rows)]
    ids, splits = [f"{split}-{n}" for n in range(rows)], [split] * rows
    examples = {"doc_id": ids, "split": splits, "text": texts, "label": labels}
    samples = pa.Table.from_batches(
        [task.encode(pa.RecordBatch.from_pydict(examples), purpose="train").samples]
    )
    path = folder / f"{split}.parquet"
    named = samples.append_column("sample_id", pa.array(np.arange(rows))).append_column(
        "doc_id", pa.array(ids)
    )
    pq.write_table(named, path, row_group_size=32)
    return write_manifest(manifest_of(path, split, rows, 0), str(folder))


def put_packed(path: Path, split: str, groups: tuple[int, ...], seed: int) -> Manifest:
    """Each sample repeats one word: a masked token follows from its neighbours."""
    rng = np.random.default_rng(seed)
    kind = pa.list_(pa.int32())
    first = 0
    with pq.ParquetWriter(path, pa.schema([("sample_id", pa.int64()), ("input_ids", kind)])) as writer:
        for rows in groups:
            ids = np.repeat(rng.integers(10, 40, (rows, 1)), SEQUENCE_LENGTH, axis=1)
            columns = {"sample_id": np.arange(first, first + rows), "input_ids": pa.array(ids.tolist(), kind)}
            writer.write_table(pa.table(columns), row_group_size=rows)
            first += rows
    return manifest_of(path, split, first, SEQUENCE_LENGTH)


def manifest_of(path: Path, split: str, rows: int, length: int) -> Manifest:
    metadata = pq.ParquetFile(path).metadata
    groups = tuple(metadata.row_group(number).num_rows for number in range(metadata.num_row_groups))
    files = ShardFiles.of([ShardFile(str(path), groups, path.stat().st_size, "0" * 64)])
    return Manifest(f"m-{split}-{length}", "samples", 0, split, files, rows, "t" * 64, length, 17)
