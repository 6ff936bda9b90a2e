"""A small training: 96 samples of 16 tokens that can be learnt, and a tokenizer of 32 tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from sparkml.feed.manifest import Manifest, ShardFile, ShardFiles
from sparkml.feed.manifest_file import write_manifest
from sparkml.models.encoder import EncoderShape
from sparkml.models.tokenizer import SPECIAL_TOKENS, TokenizerFile
from sparkml.training.settings import LoopSettings, TrainingJob

VOCABULARY = 32
SEQUENCE_LENGTH = 16
TINY = EncoderShape(hidden=32, layers=1, heads=2, intermediate=64, max_length=SEQUENCE_LENGTH)


@pytest.fixture
def training_job(tmp_path: Path) -> Callable[..., TrainingJob]:
    """Makes a job; the data are written once, `run` names another run folder on the same data."""
    tokenizer_file = tmp_path / "tokenizer.json"
    words = [*SPECIAL_TOKENS, *(f"w{i}" for i in range(VOCABULARY - len(SPECIAL_TOKENS)))]
    Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, "[UNK]")).save(str(tokenizer_file))
    tokenizer = TokenizerFile(str(tokenizer_file), hashlib.sha256(tokenizer_file.read_bytes()).hexdigest())
    train, validation = (
        write_manifest(write_samples(tmp_path / f"{split}.parquet", split, groups, seed), str(tmp_path))
        for split, groups, seed in (("train", (32, 32, 32), 1), ("validation", (20,), 2))
    )

    def make(run: str = "run", reader: str = "arrow", **changed: object) -> TrainingJob:
        settings = {
            "shape": TINY,
            "embedding_start": "spectral",
            "seed": 5,
            "max_steps": 12,
            "micro_batch": 16,
            "learning_rate": 1e-2,
            "warmup_steps": 2,
            "decay": "linear",
            "weight_decay": 0.01,
            "gradient_clip": 1.0,
            "mask_fraction": 0.15,
            "validation_every_steps": 6,
            "validation_rows": 20,
            "checkpoint_every_steps": 4,
            "keep_checkpoints": 2,
        }
        return TrainingJob(
            settings=LoopSettings(**{**settings, **changed}),
            train_manifest=train,
            validation_manifest=validation,
            tokenizer=tokenizer,
            reader=reader,
            run_folder=str(tmp_path / run),
            model_folder=str(tmp_path / run / "model"),
            run_name=run,
            tensorboard_folder=str(tmp_path / "tensorboard" / run),
            mlflow_uri="",
            mlflow_store=str(tmp_path / "mlflow"),
        )

    return make


def write_samples(path: Path, split: str, groups: tuple[int, ...], seed: int) -> Manifest:
    """Each sample repeats one word: a masked token follows from its neighbours."""
    rng = np.random.default_rng(seed)
    kind = pa.list_(pa.int32())
    with pq.ParquetWriter(path, pa.schema([("input_ids", kind)])) as writer:
        for rows in groups:
            words = rng.integers(5, VOCABULARY, (rows, 1))
            ids = np.repeat(words, SEQUENCE_LENGTH, axis=1)
            writer.write_table(pa.table({"input_ids": pa.array(ids.tolist(), kind)}), row_group_size=rows)
    files = ShardFiles.of([ShardFile(str(path), groups, path.stat().st_size, "0" * 64)])
    return Manifest(f"m-{split}", "samples", 0, split, files, sum(groups), "t", SEQUENCE_LENGTH, 17)
