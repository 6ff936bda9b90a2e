"""Our trainer in a process of its own, or on ranks below Spark, for `bench_finetune`.

    python -m tests.bench.finetune_ours JOB.json

Prints what it measured as one line of JSON.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sparkml.distributed.collective import Collective, SingleProcess
from sparkml.distributed.reporter import Reporter
from sparkml.feed.manifest import Manifest, ShardFile, ShardFiles
from sparkml.feed.manifest_file import ManifestFile, write_manifest
from sparkml.models.adapt.settings import AdaptSettings
from sparkml.models.inputs import read_text_inputs
from sparkml.tasks.classify import Classify, ClassifyOptions
from sparkml.tasks.task import Targets, task_spec
from sparkml.training.settings import LoopSettings, Start, TrainingJob

_GROUP_ROWS = 512


class Stopwatch(Reporter):
    """When each step was done, by the clock and by the processor, and the largest resident size up to then.

    Tells another reporter, too.
    """

    def __init__(self, inner: Reporter | None = None) -> None:
        super().__init__(None)
        self._inner = inner
        self.times: list[tuple[float, float]] = []
        self.before_mb = self.peak_mb = peak_mb()

    def enter(self, phase: str) -> None:
        """See `Reporter.enter`."""
        super().enter(phase)
        if self._inner is not None:
            self._inner.enter(phase)

    def progress(self, step: int, total: int, **values: float) -> None:
        """See `Reporter.progress`."""
        self.times.append((time.monotonic(), time.process_time()))
        self.peak_mb = peak_mb()
        if self._inner is not None:
            self._inner.progress(step, total, **values)

    def facts(self) -> dict[str, float]:
        """Seconds from the end of the first step to that of the last, how many steps, megabytes."""
        clock, processor = (last - first for first, last in zip(self.times[0], self.times[-1], strict=True))
        return {
            "seconds": clock,
            "cpu_seconds": processor,
            "steps": len(self.times),
            "peak_mb": self.peak_mb,
            "training_mb": self.peak_mb - self.before_mb,
        }


def peak_mb() -> float:
    """The largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed_rank(payload: Mapping[str, Any], collective: Collective, reporter: Reporter) -> dict[str, float]:
    """The function of one rank: a training with a stopwatch."""
    from sparkml.training.run import train

    watch = Stopwatch(reporter)
    train(TrainingJob.from_payload(payload), collective, watch)
    return watch.facts()


def pin(folder: Path, task: Classify, split: str, table: Mapping[str, list[str]]) -> ManifestFile:
    """Encode the rows of a split as the stage does, write them as one file of samples, and pin it."""
    rows = len(table["text"])
    names = {"doc_id": [f"{split}-{n}" for n in range(rows)], "split": [split] * rows}
    batch = pa.RecordBatch.from_pydict({**names, **table})
    samples = pa.Table.from_batches([task.encode(batch, purpose="train").samples])
    path = folder / f"{split}.parquet"
    columns = {"sample_id": pa.array(np.arange(rows)), "doc_id": names["doc_id"]}
    for name, column in columns.items():
        samples = samples.append_column(name, pa.array(column))
    pq.write_table(samples, path, row_group_size=_GROUP_ROWS, compression="zstd")
    found = pq.ParquetFile(path).metadata
    groups = tuple(found.row_group(number).num_rows for number in range(found.num_row_groups))
    files = ShardFiles.of([ShardFile(str(path), groups, path.stat().st_size, "")])
    return write_manifest(Manifest(split, "samples", 0, split, files, rows, "", 0, 17), str(folder))


def training_job(
    job: Mapping[str, Any], tables: Mapping[str, Any], folder: Path
) -> tuple[TrainingJob, float]:
    """What the stage `finetune` would hand to the ranks, without validations and checkpoints along the way.

    And the seconds that it took to make samples of texts.
    """
    named = {
        split: {"text": tables[split]["text"], "label": [tables["labels"][n] for n in tables[split]["label"]]}
        for split in ("train", "held_out")
    }
    counts = Counter(named["train"]["label"])
    targets = Targets(labels=tuple(tables["labels"]), counts=dict(counts))
    options = ClassifyOptions(max_length=job["max_length"], **job["task"])
    task = Classify(options, targets, read_text_inputs(job["model"]))
    pin(folder, task, "train", {name: column[:1] for name, column in named["train"].items()})  # warms up
    started = time.monotonic()
    pinned = {split: pin(folder, task, split, table) for split, table in named.items()}
    tokenized = time.monotonic() - started
    loop = LoopSettings(
        max_epochs=job["epochs"],
        batch_size=job["batch_size"],
        learning_rate=job["learning_rate"],
        warmup_fraction=job["warmup_fraction"],
        weight_decay=job["weight_decay"],
        precision="float32",
        validation_every_steps=sys.maxsize,
        validation_rows=0,
        **job["loop"],
    )
    training = TrainingJob(
        task=task_spec(task),
        start=Start(folder=job["model"]),
        adapt=AdaptSettings(**job["adapt"]),
        loop=loop,
        seed=job["seed"],
        train_manifest=pinned["train"],
        validation_manifest=pinned["held_out"],
        reader=job["reader"],
        checkpoint_every_steps=sys.maxsize,
        keep_checkpoints=1,
        run_folder=str(folder / "run"),
        run_name="bench",
        tensorboard_folder=str(folder / "tensorboard"),
        mlflow_uri="",
        mlflow_store="",
    )
    return training, tokenized


def accuracy(run_folder: str, gold: list[int]) -> float:
    """Of the answers that the ranks have written, in the order of the samples."""
    from sparkml.training.run import read_answers

    answers = read_answers(run_folder).to_pylist()
    guessed = [int(np.frombuffer(answer["output"], answer["dtype"]).argmax()) for answer in answers]
    return float(np.mean(np.array(guessed) == np.array(gold)))


def measure(job: Mapping[str, Any]) -> dict[str, float]:
    """Train on the rows of the job, answer its held-out ones."""
    tables = json.loads(Path(job["tables"]).read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as name:
        training, tokenized = training_job(job, tables, Path(name))
        if job["ranks"] > 1:
            found = on_ranks(training, job["ranks"])
        else:
            found = timed_rank(training.to_payload(), SingleProcess(), Reporter(None))
        right = accuracy(training.run_folder, tables["held_out"]["label"])
    return {**found, "tokenize_seconds": tokenized, "accuracy": right}


def on_ranks(training: TrainingJob, ranks: int) -> dict[str, float]:
    """The same below Spark, one thread a rank; megabytes are those of the larger rank."""
    from sparkml.distributed.launcher import LaunchOptions, launch
    from sparkml.frame.config import load_config
    from sparkml.frame.session import build_session

    spark = build_session(load_config("local", [f"spark.master=local[{ranks}]"]).spark, name="bench-finetune")
    # By its importable name: this module runs as the main one, which ranks could not import.
    rank = import_module("tests.bench.finetune_ours").timed_rank
    done = launch(spark, rank, training.to_payload(), LaunchOptions(ranks=ranks))
    spark.stop()
    return max((dict(found) for found in done.results), key=lambda found: float(found["peak_mb"]))


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    print(json.dumps(measure(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))))
