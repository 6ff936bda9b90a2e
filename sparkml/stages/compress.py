"""The stage `compress`: what recipes make of a model, measured beside it; the best that passes a gate is published."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pyarrow as pa
from pydantic import BeforeValidator, Field, model_validator

from sparkml.compression.gate import GateSettings
from sparkml.compression.methods import MethodChoice
from sparkml.errors import InputError
from sparkml.frame import artifacts
from sparkml.frame.ledger import Run
from sparkml.frame.registry import ModelRecord
from sparkml.frame.run import StageRun
from sparkml.frame.stage import Makes, Reads, RunReport, Shares, Stage, Uses, WritesOwn
from sparkml.hosting.examples import Columns, measurable
from sparkml.hosting.learner import Learner, LearningTables
from sparkml.hosting.learning import LearningConfig
from sparkml.hosting.verify import verify_manifests
from sparkml.inference.batches import answering_task
from sparkml.inference.teaching import Teacher
from sparkml.log import get_logger
from sparkml.models.folder import ENGINE_FILE, write_json

if TYPE_CHECKING:
    from sparkml.compression.candidates import Candidate
    from sparkml.tasks.task import Task

_log = get_logger(__name__)
REPORT_FILE = "report.json"
# What only methods that train use.
_OF_LEARNING = ("duplicates", "rejects", "samples", "manifests")


def _listed(value: Any) -> Any:
    """One method is a list of one."""
    return [value] if isinstance(value, str | dict) else value


Recipe = Annotated[tuple[MethodChoice, ...], BeforeValidator(_listed)]


class CompressConfig(LearningConfig):
    """Fields of `conf/base/compress.yaml`."""

    model: Uses = Field("classifier", description="The model to compress")
    model_id: Makes = Field("", description="The model to make; empty: the step's name")
    method: Recipe = Field(
        (MethodChoice(name="int8_dynamic"),),
        min_length=1,
        description="What is done, in order: names of methods, or names with their settings",
    )
    beside: tuple[Recipe, ...] = Field(
        (), description="Further such lists: the best form of all is published"
    )
    prefer: Literal["throughput", "latency", "size"] = Field(
        "throughput", description="Which of the forms that pass the gate is published"
    )
    gate: GateSettings = Field(GateSettings(), description="What answers must hold")
    evaluate_on: Reads | None = Field(
        None, description="Labelled table to measure on; null: the held-out examples that the model keeps"
    )
    columns: Columns = Field(Columns(), description="Which columns of the tables the model's task reads")
    max_examples: int = Field(2_000, ge=1, description="Rows of that table at most, chosen by a hash")
    latency_documents: int = Field(100, ge=1, description="Single documents whose latency is measured")
    throughput_documents: int = Field(256, ge=1, description="Documents whose throughput is measured")
    rounds: int = Field(5, ge=1, description="Timed rounds of each form; medians count")
    threads: int = Field(
        1, ge=1, description="Threads while measuring", json_schema_extra={"semantic": False}
    )
    source: Reads | None = Field(
        None,
        description="Labelled table for methods that train; null: none may, and what follows has no effect",
    )
    duplicates: Reads | None = Field(
        None, description="Duplicates of its documents: a cluster stays in one split; null: there are none"
    )
    rejects: Shares | None = Field("rejects", description="Examples that cannot be trained on")
    samples: WritesOwn | None = Field("", description="The encoded examples; empty: `<step>_samples`")
    manifests: Shares | None = Field("manifests", description="One row a split: files, row groups, version")

    @model_validator(mode="before")
    @classmethod
    def _writes_what_it_trains_on(cls, values: Any) -> Any:
        """Without a table to train on a step reads and writes none of these."""
        return values if values.get("source") else {**values, **dict.fromkeys(_OF_LEARNING)}

    @model_validator(mode="after")
    def _can_train(self) -> CompressConfig:
        names = [choice.name for recipe in self.recipes for choice in recipe if choice.trains]
        if names and self.source is None:
            raise ValueError(f"{names[0]} trains: name a table with labelled examples, source=TABLE")
        if names and not self.ranks:
            raise ValueError(f"{names[0]} trains, which needs ranks: ranks=1")
        return self

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """All lists of methods."""
        return self.method, *self.beside

    def semantic(self) -> dict[str, Any]:
        """How a training goes decides nothing where there is none."""
        of_training = () if self.source else {*LearningConfig.model_fields, "trains"} - {"columns"}
        return {name: value for name, value in super().semantic().items() if name not in of_training}


def run(job: StageRun, config: CompressConfig) -> RunReport:
    """Make, measure and judge every form, publish one and register it."""
    from sparkml.compression.candidates import Measuring, candidates_of, pick
    from sparkml.compression.measure import TimingPlan, weights_bytes
    from sparkml.compression.methods import Given
    from sparkml.models.directory import read_task
    from sparkml.models.held_out import HELD_OUT_FILE, read_held_out
    from sparkml.tasks.task import task_of

    source = job.model(config.model)
    folder = artifacts.localise(source.path)
    if not answering_task(folder).has_figures:
        raise InputError(
            "the model's answers cannot be judged: there would be nothing to compare",
            where=source.name,
            got=f"task {read_task(folder)['name']}, whose only figure is its loss",
            next_action="fine-tune it for a task that has figures, and compress what comes of it",
        )
    task = task_of(read_task(folder), folder)
    examples = (
        read_held_out(folder)
        if config.evaluate_on is None
        else measurable(
            job.read(config.evaluate_on), config.evaluate_on, task, config.columns, config.max_examples
        )
    )
    plan = TimingPlan(config.latency_documents, config.throughput_documents, config.rounds, config.threads)
    measuring = Measuring(examples, config.gate, plan, job.seed)
    learner = _learner(job, config, source, task, examples)
    given = Given(folder, task, examples.combine_chunks().to_batches()[0], job.seed, learner)
    with (
        job.progress.task("compress", total=1, unit="models") as shown,
        tempfile.TemporaryDirectory() as name,
    ):
        found = candidates_of(given, source.kind, config.recipes, measuring, Path(name))
        picked, why = pick(found, config.prefer)
        metrics = _metrics(found[0], picked, len(examples))
        with job.new_model(config.model_id) as staging:
            shutil.copytree(picked.form.folder, staging, dirs_exist_ok=True)
            if (folder / HELD_OUT_FILE).is_file():
                shutil.copyfile(folder / HELD_OUT_FILE, staging / HELD_OUT_FILE)
            write_json(staging / ENGINE_FILE, {"engine": picked.engine})
            write_json(staging / REPORT_FILE, _report(source, found, picked, why, len(examples)))
        shown.advance(1)
    job.register(
        config.model_id,
        kind=picked.form.kind,
        parent=source.name,
        trained_on=source.trained_on,
        metrics=metrics,
    )
    _log.info("%s: %s, %s", config.model_id, picked.form.name, why)
    learnt = learner.report() if learner else RunReport()
    read = learnt.bytes_in + weights_bytes(folder)
    return replace(learnt, bytes_in=read, metrics={**metrics, **learnt.metrics})


def _learner(
    job: StageRun, config: CompressConfig, source: ModelRecord, task: Task[Any], examples: pa.Table
) -> Learner | None:
    """What methods train with, where there is a table; all that `examples` measure is kept out of it."""
    if config.source is None:
        return None
    taught = any(choice.method.taught for recipe in config.recipes for choice in recipe)
    ids = examples.column("doc_id").to_pylist() if "doc_id" in examples.column_names else ()
    return Learner(
        job,
        config,
        LearningTables(
            config.source,
            config.duplicates,
            config.rejects or "",
            config.samples or "",
            config.manifests or "",
        ),
        model_id=config.model_id,
        task=task,
        teacher=Teacher(source.path, artifacts.identity(source.path)) if taught else None,
        aside=ids,
    )


def _verify(job: StageRun, config: CompressConfig, run: Run) -> Mapping[str, float]:
    """The samples, where a method has trained."""
    return verify_manifests(job, config, run) if config.manifests else {}


def _metrics(before: Candidate, picked: Candidate, documents: int) -> dict[str, float]:
    """What the registry keeps: the published form's figures, and those of the model it is of with prefix `float_`."""
    assert picked.verdict is not None
    return {
        **picked.figures(),
        **{f"float_{name}": value for name, value in before.figures().items()},
        "flipped": float(round(picked.verdict.flips * documents)),
        "documents": float(documents),
    }


def _report(
    source: ModelRecord, found: Sequence[Candidate], picked: Candidate, why: str, documents: int
) -> dict[str, Any]:
    return {
        "parent": source.name,
        "documents": documents,
        "forms": [one.facts() for one in found],
        "picked": picked.form.name,
        "why": why,
    }


def sections() -> tuple[object, ...]:
    """What the report says of a compression."""
    from sparkml.report.compression import COMPRESSION

    return (COMPRESSION,)


STAGE = Stage(
    CompressConfig,
    run,
    "a model made smaller and faster, behind a gate -> a model",
    verify=_verify,
    sections=sections,
)
