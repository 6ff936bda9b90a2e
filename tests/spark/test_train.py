"""The train stage on two real ranks: registers a model, survives a killed rank with the same weights."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from sparkml.errors import ConfigError, InputError, SlotsError, TableError
from sparkml.feed.manifest import Manifest, ShardFile, ShardFiles
from sparkml.frame.artifacts import check, checksums
from sparkml.frame.registry import TrainedOn
from sparkml.frame.schemas import MANIFESTS
from sparkml.models.folder import TOKENIZER_FILE
from sparkml.stages.shard.vocabulary import SPECIAL_TOKENS, save_tokenizer
from sparkml.stages.train import TrainConfig, run
from sparkml.training.curves import read_curve

SEQUENCE_LENGTH, VOCABULARY = 16, 32
TINY = {
    "model_type": "bert",
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": SEQUENCE_LENGTH,
    "hidden_dropout_prob": 0.0,
}
CONFIG = TrainConfig(
    model_id="encoder",
    network=TINY,
    ranks=2,
    max_steps=400,
    max_epochs=None,
    batch_size=16,
    learning_rate=3e-3,
    validation_every_steps=200,
    checkpoint_every_steps=20,
)


def manifest(folder: Path, split: str, groups: tuple[int, ...], tokenizer_hash: str) -> Manifest:
    rng = np.random.default_rng(len(split))
    kind = pa.list_(pa.int32())
    path = folder / f"{split}.parquet"
    with pq.ParquetWriter(path, pa.schema([("sample_id", pa.int64()), ("input_ids", kind)])) as writer:
        for number, rows in enumerate(groups):
            ids = np.repeat(rng.integers(5, VOCABULARY, (rows, 1)), SEQUENCE_LENGTH, axis=1)
            numbers = pa.array(range(100 * number, 100 * number + rows), pa.int64())
            samples = pa.table({"sample_id": numbers, "input_ids": pa.array(ids.tolist(), kind)})
            writer.write_table(samples, row_group_size=rows)
    files = ShardFiles.of([ShardFile(path.as_uri(), groups, path.stat().st_size, "0" * 64)])
    return Manifest(
        f"m-{split}", "samples", 4, split, files, sum(groups), tokenizer_hash, SEQUENCE_LENGTH, 17
    )


@pytest.fixture
def train_run(stage_run):
    """Makes a run of the stage whose samples are pinned to a version, as the runner pins them."""

    def make(samples_version: int = 4, **options):
        job = stage_run("train", **options)
        job.inputs["samples"] = samples_version
        return job

    return make


@pytest.fixture
def sharded(tmp_path, stage_run):
    """Two splits and their manifests, as the shard stage leaves them."""

    def write(train: tuple[int, ...] = (32, 32, 20), validation: tuple[int, ...] = (24,)) -> None:
        words = [*SPECIAL_TOKENS, *(f"w{i}" for i in range(VOCABULARY - len(SPECIAL_TOKENS)))]
        tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, "[UNK]"))
        tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
        digest = save_tokenizer(tokenizer.to_str(), str(tmp_path / "artifacts"))
        splits = {"train": train, "validation": validation}
        manifests = [manifest(tmp_path, split, groups, digest) for split, groups in splits.items()]
        stage_run("shard").put_rows("manifests", [m.to_record() for m in manifests], "manifest_id", MANIFESTS)

    return write


def weights(folder: str):
    return load_file(Path(folder) / "model.safetensors")


def kill_a_rank_after(checkpoint: str, checkpoints: Path) -> None:
    """Ends one process of a rank by SIGKILL, once there is such a checkpoint of the second run to go on from."""
    deadline = time.monotonic() + 120
    while not list(checkpoints.glob(f"*-second/checkpoints/{checkpoint}")) and time.monotonic() < deadline:
        time.sleep(0.02)
    ours = psutil.Process().children(recursive=True)
    ranks = [process for process in ours if "sparkml.distributed.rank" in command_of(process)]
    ranks[-1].kill()


def command_of(process: psutil.Process) -> list[str]:
    """The words of a command line; none of a process that has just ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_two_ranks_register_a_model_and_a_killed_rank_changes_nothing(train_run, sharded, tmp_path, caplog):
    sharded()
    job = train_run(fingerprint="first")
    store = tmp_path / "mlflow"
    report = run(job, CONFIG.model_copy(update={"mlflow_uri": store.as_uri()}))
    (made,) = job.registry.models()
    assert (made.model_id, made.version, made.kind, made.parent) == ("encoder", 1, "pretrained", None)
    assert (made.trained_on, made.stage_run) == (TrainedOn("m-train", "samples", 4), job.run_id)
    assert (report.rows_in, report.rows_kept, report.rows_rejected) == (None, None, None)
    sizes = [(tmp_path / f"{split}.parquet").stat().st_size for split in ("train", "validation")]
    assert report.bytes_in == sum(sizes)
    sums = checksums(made.path)
    assert sums is not None
    assert {"model.safetensors", "config.json", "tokenizer.json", "curve.jsonl"} <= set(sums)
    check(Path(made.path), sums)
    assert (report.metrics["ranks"], report.metrics["attempts"]) == (2, 1)
    assert 0 < report.metrics["validation_loss"] < 3.4  # log(32) = 3.47 for a guess
    assert report.metrics["tokens_per_second"] > 0
    assert [point["step"] for point in read_curve(Path(made.path) / "curve.jsonl")] == list(range(1, 401))
    artifacts = Path(job.artifacts)
    assert list((artifacts / "tensorboard" / "encoder-v1").glob("events.out.tfevents.*"))
    assert list(store.glob("*/*/metrics/train_loss"))
    pinned = sorted(file.name.rpartition("-")[0] for file in (artifacts / "manifests").iterdir())
    assert pinned == ["m-train", "m-validation"]

    again = train_run(fingerprint="second")
    checkpoints = artifacts / "checkpoints"
    killer = threading.Thread(target=kill_a_rank_after, args=("step-*", checkpoints))
    killer.start()
    other = CONFIG.model_copy(update={"collective": "torch", "reader": "arrow"})
    killed = run(again, other)
    killer.join()
    assert killed.metrics["attempts"] == 2
    assert killed.metrics["resumed_from_step"] > 0
    assert "was killed by SIGKILL" in caplog.text
    second = again.registry.require("encoder")
    assert second.name == "encoder/v2"
    first_weights, second_weights = weights(made.path), weights(second.path)
    assert first_weights.keys() == second_weights.keys()
    assert all((first_weights[name] == second_weights[name]).all() for name in first_weights)
    assert killed.metrics["validation_loss"] == report.metrics["validation_loss"]


def test_no_samples_is_an_error_that_names_the_stage_before(train_run, sharded):
    sharded(train=(), validation=())
    with pytest.raises(InputError, match="nothing to train on") as caught:
        run(train_run(), CONFIG)
    assert "sparkml run shard" in str(caught.value)


def test_manifests_of_another_version_of_the_samples_are_not_taken(train_run, sharded):
    sharded()
    with pytest.raises(InputError, match="no manifest of split train, validation"):
        run(train_run(samples_version=5), CONFIG)


def test_no_manifests(train_run):
    with pytest.raises(TableError, match="no successful run has left a table `manifests`"):
        run(train_run(), CONFIG)


def test_an_altered_tokenizer_is_refused_before_a_rank_starts(train_run, sharded, tmp_path):
    sharded()
    (file,) = tmp_path.glob(f"artifacts/tokenizers/*/{TOKENIZER_FILE}")
    file.write_text(file.read_text().replace("w7", "W7"))
    with pytest.raises(InputError, match="a file of an artifact is not as it was written"):
        run(train_run(), CONFIG)
    assert not (tmp_path / "artifacts" / "checkpoints").exists()


def test_samples_longer_than_the_encoder(train_run, sharded):
    sharded()
    short = CONFIG.model_copy(update={"network": {**TINY, "max_position_embeddings": 8}})
    with pytest.raises(ConfigError, match=r"longer than the network reads[\s\S]*at most 8"):
        run(train_run(), short)


def test_more_ranks_than_slots(train_run, sharded):
    sharded()
    started = time.monotonic()
    with pytest.raises(SlotsError, match="3 slots, one a rank"):
        run(train_run(), CONFIG.model_copy(update={"ranks": 3}))
    assert time.monotonic() - started < 20


def test_fewer_samples_than_ranks(train_run, sharded):
    sharded(train=(1,))
    with pytest.raises(InputError, match="fewer rows than there are ranks"):
        run(train_run(), CONFIG)
