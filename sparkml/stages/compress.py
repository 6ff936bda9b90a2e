"""The stage `compress`: a fine-tuned classifier -> the same in int8, measured beside it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from sparkml.errors import InputError
from sparkml.frame import artifacts
from sparkml.frame.registry import ModelRecord
from sparkml.frame.run import StageRun
from sparkml.frame.stage import Makes, RunReport, Stage, StageConfig, Uses
from sparkml.log import get_logger
from sparkml.models.folder import CONFIG_FILE, INT8_FOLDER, folder_bytes, write_json

if TYPE_CHECKING:
    from sparkml.compression.measure import SideBySide

_log = get_logger(__name__)


class CompressConfig(StageConfig):
    """Fields of `conf/base/compress.yaml`."""

    model: Uses = Field("classifier", description="The model to compress")
    model_id: Makes = Field("", description="The model to make; empty: the step's name")
    latency_documents: int = Field(100, ge=1, description="Single documents whose latency is measured")
    rounds: int = Field(5, ge=1, description="Timed rounds of each model; medians count")
    batch_size: int = Field(32, ge=1, description="Documents a batch when throughput is measured")
    throughput_documents: int = Field(256, ge=1, description="Documents whose throughput is measured")
    threads: int = Field(
        1, ge=1, description="Threads while measuring", json_schema_extra={"semantic": False}
    )


def run(job: StageRun, config: CompressConfig) -> RunReport:
    """Quantise, measure on the documents that the classifier never saw, write and register."""
    source = job.model(config.model)
    if source.kind not in ("finetuned", "external"):
        raise InputError(
            "only a fine-tuned float model can be compressed",
            where=source.name,
            got=f"kind {source.kind}",
            expected="kind finetuned, or a directory",
            next_action=f"set {job.step}.model to such a model",
        )
    folder = artifacts.localise(source.path)
    with (
        job.progress.task("compress", total=2, unit="models") as task,
        job.new_model(config.model_id) as staging,
    ):
        write_int8(folder, staging)
        task.advance(1)
        measured = _measure(folder, staging, config, job.seed)
        _write_report(staging, source, measured)
    job.register(
        config.model_id,
        kind="int8",
        parent=source.name,
        trained_on=source.trained_on,
        metrics=measured.metrics(),
    )
    _log.info("%d of %d predictions flipped by int8", measured.flipped, measured.documents)
    return RunReport(
        bytes_in=_weights_bytes(folder),
        metrics={**measured.metrics(), "documents": measured.documents, "flipped": measured.flipped},
    )


def write_int8(source_folder: Path, staging: Path) -> None:
    """Write the int8 form of a model directory into a staging folder."""
    from sparkml.models.directory import TASK_FILE, copy_inputs, keep_text_inputs, read_task
    from sparkml.models.heads import load_trained
    from sparkml.models.int8 import save_int8, to_int8
    from sparkml.tasks.task import task_of

    if (source_folder / INT8_FOLDER).is_dir():
        raise InputError("the model is quantised already", where=str(source_folder))
    spec = read_task(source_folder)
    task = task_of(spec, source_folder)
    save_int8(to_int8(load_trained(task.network(), source_folder)), staging / INT8_FOLDER)
    copy_inputs(source_folder, staging)
    shutil.copyfile(source_folder / CONFIG_FILE, staging / CONFIG_FILE)
    keep_text_inputs(staging)
    write_json(staging / TASK_FILE, spec)


def _measure(source: Path, staging: Path, config: CompressConfig, seed: int) -> SideBySide:
    from sparkml.compression.measure import TimingPlan, side_by_side
    from sparkml.inference.scorer import load_scorer
    from sparkml.models.held_out import read_held_out

    plan = TimingPlan(config.latency_documents, config.throughput_documents, config.batch_size, config.rounds)
    return side_by_side(
        load_scorer(source, config.threads),
        load_scorer(staging, config.threads),
        read_held_out(source),
        (_weights_bytes(source), folder_bytes(staging / INT8_FOLDER)),
        plan,
        seed,
    )


def _weights_bytes(folder: Path) -> int:
    return folder_bytes(folder, *(file.name for file in folder.glob("*.safetensors")))


def _write_report(staging: Path, source: ModelRecord, measured: SideBySide) -> None:
    write_json(
        staging / "report.json",
        {
            "parent": source.name,
            "float32": measured.before.flat(),
            "int8": measured.after.flat(),
            "documents": measured.documents,
            "flipped": measured.flipped,
            "largest_score_difference": measured.largest_score_difference,
            "quantisation": {
                "weights": "int8, symmetric, one scale an output channel",
                "activations": "int8, symmetric, one scale a token, at run time",
                "word_embeddings": "int8, symmetric, one scale a row",
            },
        },
    )


def sections() -> tuple[object, ...]:
    """What the report says of a compression."""
    from sparkml.report.compression import COMPRESSION

    return (COMPRESSION,)


STAGE = Stage(CompressConfig, run, "dynamic int8 of a model -> a model", sections=sections)
