"""What Spark offers to methods of compression that train: samples that are made once, and ranks that train on them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkml.errors import ConfigError
from sparkml.frame import artifacts, storage
from sparkml.frame.run import StageRun
from sparkml.frame.splits import TRAIN, VALIDATION
from sparkml.frame.stage import RunReport
from sparkml.hosting.learning import (
    TEST,
    LearningConfig,
    encoded_examples,
    labelled_examples,
    put_samples,
    rows_of_split,
)
from sparkml.hosting.samples import WrittenSamples
from sparkml.hosting.training import run_training
from sparkml.inference.teaching import Teacher
from sparkml.models.directory import copy_inputs
from sparkml.models.folder import CONFIG_FILE
from sparkml.models.shaping.settings import Shaping
from sparkml.tasks.task import Task, task_spec
from sparkml.training.settings import Start


@dataclass(frozen=True)
class LearningTables:
    """What is read and written; `duplicates` None: none are known."""

    source: str
    duplicates: str | None
    rejects: str
    samples: str
    manifests: str


class Learner:
    """Trains forms of one model. `aside`: documents that it is measured on, which are never trained on.

    With a teacher the samples hold what it says of them.
    """

    def __init__(
        self,
        job: StageRun,
        config: LearningConfig,
        tables: LearningTables,
        *,
        model_id: str,
        task: Task[Any],
        teacher: Teacher | None,
        aside: Sequence[str],
    ) -> None:
        self._job, self._config, self._tables = job, config, tables
        self._model_id, self._task, self._teacher, self._aside = model_id, task, teacher, aside
        self._trained: list[dict[str, float]] = []

    @cached_property
    def _examples(self) -> DataFrame:
        tables = self._tables
        found = labelled_examples(self._job, self._config, tables.source, tables.duplicates, type(self._task))
        if not self._aside:
            return found
        ids = pa.table({"doc_id": pa.array(self._aside, pa.string())})
        measured = F.broadcast(self._job.spark.createDataFrame(ids).withColumn("_aside", F.lit(True)))
        split = F.when(F.col("_aside") & (F.col("split") == TRAIN), VALIDATION).otherwise(F.col("split"))
        return found.join(measured, "doc_id", "left").withColumn("split", split).drop("_aside")

    @cached_property
    def _samples(self) -> tuple[WrittenSamples, dict[str, int]]:
        tables = self._tables
        encoded = encoded_examples(
            self._job, self._config, tables.source, self._examples, self._task, self._teacher
        )
        return put_samples(
            self._job,
            encoded,
            self._teacher.wrap(self._task) if self._teacher else self._task,
            samples=tables.samples,
            manifests=tables.manifests,
            rejects=tables.rejects,
        )

    @property
    def teacher(self) -> str:
        """See `Learning`; empty where no method has asked for one."""
        return self._teacher.location if self._teacher else ""

    def examples(self, rows: int) -> pa.RecordBatch:
        """See `Learning`: chosen by a hash."""
        some = self._examples.where(F.col("split") == TRAIN).orderBy(F.xxhash64("doc_id"), "doc_id")
        return some.limit(rows).toArrow().combine_chunks().to_batches()[0]

    def train(
        self, start: Path, name: str, shaping: Shaping, loop: Mapping[str, Any], *, random: bool
    ) -> Path:
        """See `Learning`. A run that was killed goes on from its last checkpoint when it is repeated."""
        samples, _ = self._samples
        part = hashlib.sha256(name.encode()).hexdigest()[:8]
        place = f"{self._model_id}-{part}-start-{self._job.fingerprint}"
        location = storage.join(self._job.artifacts, "checkpoints", place)
        with artifacts.new_artifact(location) as staging:
            weights = [file.name for file in start.iterdir() if ".safetensors" in file.name]
            copy_inputs(start, staging, CONFIG_FILE, *weights)
        done = run_training(
            self._job,
            self._config,
            model_id=self._model_id,
            task=task_spec(self._task),
            start=Start(folder=location, random=random),
            train=samples.manifests[TRAIN],
            validation=samples.manifests[VALIDATION],
            shaping=shaping,
            part=part,
            loop=loop,
        )
        if done is None:
            raise ConfigError(
                "a method trains, which needs ranks", where=self._job.step, got="ranks=0", expected="ranks=1"
            )
        self._trained.append(done.metrics)
        return artifacts.localise(done.result)

    def report(self) -> RunReport:
        """What became of the rows, where something was trained."""
        if not self._trained:
            return RunReport()
        samples, reasons = self._samples
        # As the table says, not as the samples do: it is what they are checked against.
        set_aside = self._examples.where(F.col("split") == TEST).count()
        return RunReport(
            rows_in=self._job.input_rows(self._tables.source),
            rows_kept=samples.layout.documents + set_aside,
            rows_rejected=sum(reasons.values()),
            reasons=reasons,
            bytes_in=self._job.input_bytes(self._tables.source),
            metrics={
                "trainings": float(len(self._trained)),
                "train_rows": float(rows_of_split(samples, TRAIN)),
                "trained_steps": sum(metrics["steps"] for metrics in self._trained),
                "set_aside_for_test": float(set_aside),
            },
        )
