"""The stage `finetune`: examples are encoded on Spark, a task is learnt on ranks, the held-out ones are measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field, model_validator
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkml.errors import InputError
from sparkml.frame import artifacts
from sparkml.frame.registry import ModelRecord, TrainedOn
from sparkml.frame.run import StageRun
from sparkml.frame.sizing import MOST_BUCKETS, bucket_count
from sparkml.frame.splits import TRAIN, VALIDATION
from sparkml.frame.stage import Makes, Reads, RunReport, Shares, Stage, Uses, WritesOwn
from sparkml.hosting.encode import encode_examples
from sparkml.hosting.estimates import training_estimate
from sparkml.hosting.examples import (
    Columns,
    affordable_answers,
    beyond_measured,
    beyond_rejects,
    count_labels,
    examples_of,
    kept_share,
    split_as_given,
)
from sparkml.hosting.samples import SampleSpec, WrittenSamples, bytes_of, kept_on_disk, write_samples
from sparkml.hosting.sizes import FileShape, file_shape
from sparkml.hosting.training import Trained, TrainingConfig, new_start, run_training
from sparkml.hosting.verify import verify_manifests
from sparkml.inference.features import FrozenNetwork
from sparkml.log import get_logger
from sparkml.models.adapt.settings import AdaptSettings
from sparkml.stages.finetune.measuring import Figures, measure
from sparkml.tasks.on_features import OnFeatures
from sparkml.tasks.task import Task, TaskChoice, task_spec
from sparkml.training.settings import Start

_log = get_logger(__name__)
TEST = "test"
_SPLITS = (TRAIN, VALIDATION)
# Encoding a text takes about a second a megabyte; an image or sound of the same size takes less.
_SMALL_BUCKET_BYTES, _LARGE_BUCKET_BYTES = 4_000_000, 128_000_000


class FinetuneConfig(TrainingConfig):
    """Fields of `conf/base/finetune.yaml`."""

    source: Reads = Field("kept", description="Table with the examples")
    duplicates: Reads | None = Field(
        "duplicates", description="Their duplicates: a cluster stays in one split; null: there are none"
    )
    rejects: Shares = Field("rejects", description="Examples that cannot be used")
    samples: WritesOwn = Field("", description="The encoded examples; empty: `<step>_samples`")
    manifests: Shares = Field("manifests", description="One row a split: files, row groups, version")
    evaluations: Shares = Field("evaluations", description="Figures on the held-out examples, by slice")
    model: Uses | None = Field(
        "encoder", description="The model to start from; null: none, for a new network of images or sounds"
    )
    model_id: Makes = Field("", description="The model to make; empty: the step's name")
    weights: Literal["pretrained", "random"] = Field(
        "pretrained", description="random: the model's architecture and tokenizer, with weights drawn anew"
    )
    network: dict[str, Any] = Field(
        default_factory=dict,
        description="A new network: model_type and further fields of its config.json; of `model` the tokenizer alone",
    )
    task: TaskChoice = Field(TaskChoice(name="classify"), description="What is learnt: its name and settings")
    columns: Columns = Field(Columns(), description="Which columns of the table the task reads")
    adapt: AdaptSettings = Field(AdaptSettings(), description="What of the model is trained, and how")
    validation_fraction: float = Field(
        0.1, gt=0, lt=1, description="Part of the clusters that is held out, where the table names no split"
    )
    baseline: bool = Field(True, description="Measure the simple model to beat beside it")
    baseline_rows: int = Field(
        20_000, ge=1, description="Training examples that the simple model sees at most"
    )
    measured_rows: int = Field(100_000, ge=1, description="Held-out examples that are measured at most")
    n_buckets: int | None = Field(
        None, ge=1, le=MOST_BUCKETS, description="Groups that are encoded on their own; null: by bytes"
    )

    @model_validator(mode="after")
    def _has_a_start(self) -> FinetuneConfig:
        if self.model is None and not self.network:
            raise ValueError("name a model to start from, or a new network: model_type and its sizes")
        return self


def run(job: StageRun, config: FinetuneConfig) -> RunReport:
    """Encode, train, measure; the model directory is written when all three are done."""
    parent = job.model(config.model) if config.model else None
    start = _start(job, config, parent)
    folder = artifacts.localise(start.folder)
    examples = _examples(job, config)
    counts, rows = count_labels(examples, config.task.task, config.task.options)
    learnt = config.task.task.fit(config.task.options, counts)
    task = config.task.task(config.task.options, learnt, config.task.task.read_inputs(str(folder)))
    frozen = _frozen(config, task, start, folder)
    held_out = rows.get(VALIDATION, 0) if task.has_answers else 0
    share = kept_share(held_out, affordable_answers(len(task.targets.labels), config.measured_rows))
    needed = examples.where(~beyond_measured(share)) if share < 1 else examples
    encoded = kept_on_disk(_encoded(job, config, needed, task, frozen))
    encoded_as = OnFeatures(task) if frozen else task
    try:
        bad = F.col("drop_reason").isNotNull()
        rejects = encoded.where(bad)
        if share < 1:
            rejects = rejects.unionByName(beyond_rejects(examples, share), allowMissingColumns=True)
        reasons = job.write_rejects(rejects, config.rejects)
        samples = _write_samples(job, config, encoded.where(~bad), encoded_as)
        _check(samples)
        trained = run_training(
            job,
            config,
            model_id=config.model_id,
            task=task_spec(task),
            start=start,
            train=samples.manifests[TRAIN],
            validation=samples.manifests[VALIDATION],
            adapt=config.adapt,
            on_features=frozen is not None,
        )
        figures = measure(job, config, task, examples, trained) if trained else Figures({})
    finally:
        encoded.unpersist()
    metrics = {**(trained.metrics if trained else {}), **figures.metrics}
    metrics["train_rows"] = float(_rows(samples, TRAIN))
    if trained:
        _publish(job, config, task, parent, folder, trained, figures, metrics)
        _log.info("%s: %s", config.model_id, figures.line())
    set_aside = rows.get(TEST, 0)
    used = samples.layout.documents
    return RunReport(
        rows_in=job.input_rows(config.source),
        rows_kept=used + set_aside,
        rows_rejected=sum(reasons.values()),
        reasons=reasons,
        bytes_in=job.input_bytes(config.source),
        metrics={**metrics, "set_aside_for_test": float(set_aside)},
    )


def _start(job: StageRun, config: FinetuneConfig, parent: ModelRecord | None) -> Start:
    if config.network or parent is None:
        inputs = parent.path if parent else None
        return new_start(job, config.model_id, config.task.task, config.network, inputs)
    return Start(folder=parent.path, random=config.weights == "random")


def _examples(job: StageRun, config: FinetuneConfig) -> DataFrame:
    table = job.read(config.source)
    examples = examples_of(table, config.task.task, config.columns, where=f"table `{config.source}`")
    duplicates = job.read(config.duplicates) if config.duplicates else None
    return split_as_given(examples, duplicates, config.validation_fraction, job.seed)


def _frozen(config: FinetuneConfig, task: Task[Any], start: Start, folder: Path) -> FrozenNetwork | None:
    """The network whose vectors are computed once: where it is frozen up to one linear layer."""
    adapt = config.adapt
    if adapt.method != "frozen" or not adapt.features_once or not task.sample_targets or adapt.train_head:
        return None
    from sparkml.models.adapt.head_alone import single_head
    from sparkml.models.heads import build_network

    head = single_head(*build_network(task.network(), folder, seed=0))
    return FrozenNetwork(start.folder, artifacts.identity(start.folder), head) if head else None


def _encoded(
    job: StageRun,
    config: FinetuneConfig,
    examples: DataFrame,
    task: Task[Any],
    frozen: FrozenNetwork | None,
) -> DataFrame:
    used = examples.where(F.col("split") != TEST)
    n_buckets = config.n_buckets or bucket_count(
        job.input_bytes(config.source), from_bytes=_SMALL_BUCKET_BYTES, to_bytes=_LARGE_BUCKET_BYTES
    )
    return encode_examples(used, task, n_buckets=n_buckets, seed=job.seed, frozen=frozen)


def _write_samples(
    job: StageRun, config: FinetuneConfig, encoded: DataFrame, task: Task[Any]
) -> WrittenSamples:
    own = tuple(name for name, _ in task.columns)
    columns = ("doc_id", "window", "n_tokens", *own)
    spec = SampleSpec(
        target=config.samples,
        manifests=config.manifests,
        splits=_SPLITS,
        columns=columns,
        content=columns,
        documents="n_documents",
        tokens="n_tokens",
        bytes=bytes_of([name for name, kind in task.columns if pa.types.is_binary(kind)]),
        tokenizer_hash=task.inputs.identity,
        sequence_length=0,
    )

    def shape_of(samples: int, row_bytes: float) -> FileShape:
        return file_shape(samples, row_bytes, rows_per_row_group=None, file_bytes=128 << 20)

    return write_samples(job, encoded, spec, shape_of)


def _rows(samples: WrittenSamples, split: str) -> int:
    return sum(bucket.documents for bucket in samples.layout.buckets if bucket.split == split)


def _check(samples: WrittenSamples) -> None:
    train, held_out = _rows(samples, TRAIN), _rows(samples, VALIDATION)
    if not train or not held_out:
        raise InputError(
            "too few examples to train and to measure",
            got=f"{train} training and {held_out} held-out examples",
            expected="at least one of each",
            next_action="give more examples, or raise validation_fraction",
        )


def _publish(
    job: StageRun,
    config: FinetuneConfig,
    task: Task[Any],
    parent: ModelRecord | None,
    start: Path,
    trained: Trained,
    figures: Figures,
    metrics: dict[str, float],
) -> None:
    from sparkml.models.directory import publish

    trained_on = TrainedOn(table=config.source, version=job.input_version(config.source))
    lineage = {
        "model": config.model_id,
        "step": job.step,
        "parent": parent.name if parent else None,
        "table": config.source,
        "version": trained_on.version,
        "adapt": config.adapt.method,
        "weights": "random" if config.network else config.weights,
    }
    with job.new_model(config.model_id) as staging:
        publish(
            staging,
            result=artifacts.localise(trained.result),
            inputs=start,
            task=task_spec(task),
            lineage=lineage,
            metrics=figures.metrics,
        )
        figures.write(staging)
    job.register(
        config.model_id,
        kind="finetuned",
        parent=parent.name if parent else None,
        trained_on=trained_on,
        metrics=metrics,
    )


def sections() -> tuple[object, ...]:
    """What the report says of a fine-tuning."""
    from sparkml.report.evaluations import EVALUATION

    return (EVALUATION,)


STAGE = Stage(
    FinetuneConfig,
    run,
    "learn a task from a labelled table, starting from a model -> a model",
    verify=verify_manifests,
    estimate=training_estimate,
    sections=sections,
)
