"""Promote: a candidate that is better on held-out rows becomes the next version of a model; else nothing changes."""

from __future__ import annotations

import shutil
from typing import Any, Literal

from pydantic import Field

from sparkml.errors import InputError
from sparkml.frame import artifacts
from sparkml.frame.registry import ModelRecord
from sparkml.frame.run import StageRun
from sparkml.frame.stage import Makes, Reads, RunReport, Stage, StageConfig, Uses
from sparkml.hosting.examples import Columns, measurable, split_as_given
from sparkml.inference.batches import answering_task
from sparkml.log import get_logger
from sparkml.measures.intervals import Difference
from sparkml.models.directory import read_task
from sparkml.tasks.task import task_of

_log = get_logger(__name__)


class PromoteConfig(StageConfig):
    """What `conf/base/promote.yaml` holds."""

    source: Reads = Field("kept", description="Labelled table that the candidate has not learnt from")
    split: Literal["train", "validation", "test", "all"] = Field("test", description="Its rows that decide")
    duplicates: Reads | None = Field(
        None, description="Its duplicates, where splits follow from their clusters"
    )
    validation_fraction: float = Field(0.1, gt=0, lt=1, description="As of the step that made the candidate")
    columns: Columns = Field(Columns(), description="Which columns of the table the model's task reads")
    candidate: Uses = Field("candidate", description="The model that may come")
    model_id: Makes = Field("", description="The model that it becomes a version of; empty: the step's name")
    min_gain: float = Field(0.0, description="By how much its main figure must be better, at least")
    level: float = Field(
        0.8, gt=0, lt=1, description="Of the interval of the gain, whose lower end must be at least -max_loss"
    )
    max_loss: float = Field(0.005, ge=0, description="How much worse it may be by chance")
    max_examples: int = Field(5_000, ge=1, description="Rows that decide at most, chosen by a hash")
    threads: int = Field(2, ge=1, description="Of the two models", json_schema_extra={"semantic": False})


def run(job: StageRun, config: PromoteConfig) -> RunReport:
    """Ask both; publish the candidate where it is better, or where there is no model yet."""
    from sparkml.compression.measure import quality

    candidate = job.model(config.candidate)
    current = job.registry.find(config.model_id)
    folder = artifacts.localise(candidate.path)
    if not answering_task(folder).has_figures:
        raise InputError("a model is promoted by a figure, and this one has none", where=candidate.name)
    rows = split_as_given(
        job.read(config.source),
        job.read(config.duplicates) if config.duplicates else None,
        config.validation_fraction,
        job.seed,
    )
    chosen = rows if config.split == "all" else rows.where(rows["split"] == config.split)
    task = task_of(read_task(folder), folder)
    examples = measurable(chosen, config.source, task, config.columns, config.max_examples)
    after = quality(folder, examples, config.threads, job.seed)
    figures = {f"candidate_{after.judged.metric}": after.judged.value, "examples": float(len(examples))}
    why = "there was no version before"
    gain: Difference | None = None
    if current is not None:
        before = quality(artifacts.localise(current.path), examples, config.threads, job.seed)
        if before.judged.metric != after.judged.metric:
            raise InputError("the two models do different work", where=f"{candidate.name}, {current.name}")
        gain = after.judged.lead(before.judged, level=config.level, seed=job.seed)
        figures |= {f"current_{before.judged.metric}": before.judged.value, "gain": gain.value}
        figures |= {"gain_low": gain.interval.low, "gain_high": gain.interval.high}
        why = _why_not(gain, config)
        if why:
            _log.warning("%s stays as it is: %s %s", current.name, candidate.name, why)
            return RunReport(metrics={**figures, "promoted": 0.0})
        why = f"gains {100 * gain.value:.2f} points over {current.name}"
    made = _publish(job, config, candidate, {**candidate.metrics, **figures})
    _log.info("%s is %s: it %s", made.name, candidate.name, why)
    return RunReport(metrics={**figures, "promoted": 1.0})


def _why_not(gain: Difference, config: PromoteConfig) -> str:
    """Why a gain is not enough; empty where it is."""
    if not (gain.value > 0 and gain.value >= config.min_gain):
        return f"gains {100 * gain.value:.2f} points, {100 * config.min_gain:g} or more are asked for"
    if not gain.interval.low >= -config.max_loss:
        return f"may as well be {-100 * gain.interval.low:.2f} points worse"
    return ""


def _publish(
    job: StageRun, config: PromoteConfig, candidate: ModelRecord, metrics: dict[str, Any]
) -> ModelRecord:
    with job.new_model(config.model_id) as staging:
        shutil.copytree(
            artifacts.localise(candidate.path),
            staging,
            dirs_exist_ok=True,
            ignore=shutil.ignore_patterns(artifacts.CHECKSUMS_FILE),
        )
    return job.register(
        config.model_id,
        kind=candidate.kind,
        parent=candidate.name,
        trained_on=candidate.trained_on,
        metrics=metrics,
    )


STAGE = Stage(PromoteConfig, run, "a candidate that is better on held-out rows -> a model's next version")
