"""The stage `finetune`: examples are encoded on Spark, a task is learnt on ranks, the held-out ones are measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from sparkml.frame import artifacts
from sparkml.frame.registry import ModelRecord, TrainedOn
from sparkml.frame.run import StageRun
from sparkml.frame.splits import TRAIN, VALIDATION
from sparkml.frame.stage import Makes, Reads, RunReport, Shares, Stage, Uses, WritesOwn
from sparkml.hosting.estimates import training_estimate
from sparkml.hosting.examples import (
    affordable_answers,
    beyond_measured,
    beyond_rejects,
    count_labels,
    kept_share,
)
from sparkml.hosting.learning import (
    TEST,
    LearningConfig,
    encoded_examples,
    labelled_examples,
    put_samples,
    rows_of_split,
)
from sparkml.hosting.training import Trained, new_start, run_training
from sparkml.hosting.verify import verify_manifests
from sparkml.inference.features import FrozenNetwork
from sparkml.log import get_logger
from sparkml.models.adapt.settings import AdaptSettings
from sparkml.stages.finetune.measuring import Figures, measure
from sparkml.tasks.task import Task, TaskChoice, task_spec
from sparkml.training.settings import Start

_log = get_logger(__name__)


class FinetuneConfig(LearningConfig):
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
    adapt: AdaptSettings = Field(AdaptSettings(), description="What of the model is trained, and how")
    baseline: bool = Field(True, description="Measure the simple model to beat beside it")
    baseline_rows: int = Field(
        20_000, ge=1, description="Training examples that the simple model sees at most"
    )
    measured_rows: int = Field(100_000, ge=1, description="Held-out examples that are measured at most")

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
    examples = labelled_examples(job, config, config.source, config.duplicates, config.task.task)
    counts, rows = count_labels(examples, config.task.task, config.task.options)
    learnt = config.task.task.fit(config.task.options, counts)
    task = config.task.task(config.task.options, learnt, config.task.task.read_inputs(str(folder)))
    frozen = _frozen(config, task, start, folder)
    held_out = rows.get(VALIDATION, 0) if task.has_figures else 0
    share = kept_share(held_out, affordable_answers(len(task.targets.labels), config.measured_rows))
    needed = examples.where(~beyond_measured(share)) if share < 1 else examples
    encoded = encoded_examples(job, config, config.source, needed, task, frozen)
    samples, reasons = put_samples(
        job,
        encoded,
        frozen.wrap(task) if frozen else task,
        samples=config.samples,
        manifests=config.manifests,
        rejects=config.rejects,
        further_rejects=beyond_rejects(examples, share) if share < 1 else None,
    )
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
    metrics = {**(trained.metrics if trained else {}), **figures.metrics}
    metrics["train_rows"] = float(rows_of_split(samples, TRAIN))
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


def _frozen(config: FinetuneConfig, task: Task[Any], start: Start, folder: Path) -> FrozenNetwork | None:
    """The network whose vectors are computed once: where it is frozen up to one linear layer."""
    adapt = config.adapt
    if adapt.method != "frozen" or not adapt.features_once or not task.sample_targets or adapt.train_head:
        return None
    from sparkml.models.adapt.head_alone import single_head
    from sparkml.models.heads import build_network

    head = single_head(*build_network(task.network(), folder, seed=0))
    return FrozenNetwork(start.folder, artifacts.identity(start.folder), head) if head else None


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
