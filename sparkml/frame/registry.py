"""The registry: table `models`, one row a version of a model, beside the folders that hold the weights.

A version is decided before the folder is written and the row follows the folder, so a row never names a
folder that is not there. What a run that died left behind (a folder, a row, or both) keeps its version number
and is replaced when the same work is repeated; work that succeeded is never replaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from sparkml.errors import InputError
from sparkml.frame.runs import model_ref
from sparkml.frame.schemas import MODELS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, Row

    from sparkml.frame.runs import StageRun

TABLE = "models"
ENCODER, CLASSIFIER, CLASSIFIER_INT8 = "encoder", "classifier", "classifier-int8"
KINDS = ("pretrained", "finetuned", "int8", "pruned", "distilled", "onnx")
_LEDGER = "_runs"


@dataclass(frozen=True)
class TrainedOn:
    """What a model saw: the shard manifest of a pretraining, or a table at a version."""

    manifest_id: str | None = None
    table: str | None = None
    version: int | None = None


@dataclass(frozen=True)
class ModelRecord:
    """One row of `models`."""

    model_id: str
    version: int
    path: str
    kind: str
    parent: str | None
    trained_on: TrainedOn
    metrics: Mapping[str, float]
    stage_run: str
    fingerprint: str

    @property
    def name(self) -> str:
        """`model_id/vN`: how a child names its parent."""
        return f"{self.model_id}/v{self.version}"


def model_folder(artifacts: str, model_id: str, version: int) -> str:
    """Where the files of a model version lie."""
    return f"{artifacts.rstrip('/')}/models/{model_id}/v{version}"


def next_version(job: StageRun, model_id: str) -> int:
    """The version that this run writes: that of the same work when it died half-way, else one more."""
    records = _records(job)
    unfinished = _unfinished_runs(job)
    mine = [record for record in records if record.model_id == model_id]
    for record in mine:
        if record.fingerprint == job.fingerprint and record.stage_run in unfinished:
            return record.version
    return max((record.version for record in mine), default=0) + 1


def register(
    job: StageRun,
    *,
    model_id: str,
    kind: str,
    folder: str,
    parent: str | None,
    trained_on: TrainedOn,
    metrics: Mapping[str, float],
) -> int:
    """Write the row of a finished model folder and return its version; a repeat of the work replaces it."""
    if kind not in KINDS:
        raise InputError("unknown kind of model", where=model_id, got=kind, expected=", ".join(KINDS))
    version = next_version(job, model_id)
    expected = model_folder(job.artifacts, model_id, version)
    if folder.rstrip("/") != expected:
        raise InputError(
            "the model folder is not where its version belongs",
            where=model_id,
            got=folder,
            expected=expected,
            next_action="write it to model_folder(job.artifacts, model_id, next_version(job, model_id))",
        )
    values = {
        "model_id": model_id,
        "version": version,
        "path": folder.rstrip("/"),
        "kind": kind,
        "parent": parent,
        "manifest_id": trained_on.manifest_id,
        "trained_table": trained_on.table,
        "trained_version": trained_on.version,
        "metrics": {name: float(value) for name, value in metrics.items()},
        "stage_run": job.run_id,
        "fingerprint": job.fingerprint,
    }
    columns = [field for field in MODELS.fields if field.name != "run_id"]
    schema = type(MODELS)(columns)
    row = tuple(values[field.name] for field in columns)
    frame = job.spark.createDataFrame([row], schema).coalesce(1)
    job.replace_slice(frame, TABLE, f"model_id = '{model_id}' AND version = {version}")
    job.record_output(model_ref(model_id), version)
    return version


def latest(job: StageRun, model_id: str) -> ModelRecord | None:
    """The version pinned by this run, else the newest whose run did not die or fail; recorded as input."""
    unfinished = _unfinished_runs(job)
    pinned = job.inputs.get(model_ref(model_id))
    mine = [
        record
        for record in _records(job)
        if record.model_id == model_id
        and (record.version == pinned if pinned is not None else record.stage_run not in unfinished)
    ]
    if not mine:
        return None
    newest = max(mine, key=lambda record: record.version)
    job.inputs[model_ref(model_id)] = newest.version
    return newest


def require(job: StageRun, model_id: str, *, stage: str) -> ModelRecord:
    """As `latest`, or an `InputError` that names the stage which makes the model."""
    record = latest(job, model_id)
    if record is None:
        raise InputError(
            f"there is no model `{model_id}`",
            where=f"table `{TABLE}` of {job.lake}",
            expected=f"a version of it, written by stage `{stage}`",
            next_action=f"run `sparkml run {stage}` first",
        )
    return record


def _records(job: StageRun) -> list[ModelRecord]:
    # Read without pinning: a stage depends on the model it takes, not on every change of the registry.
    if not job.tables.exists(TABLE):
        return []
    return [_record(row) for row in job.tables.read(TABLE).collect()]


def _record(row: Row) -> ModelRecord:
    return ModelRecord(
        model_id=row["model_id"],
        version=row["version"],
        path=row["path"],
        kind=row["kind"],
        parent=row["parent"],
        trained_on=TrainedOn(row["manifest_id"], row["trained_table"], row["trained_version"]),
        metrics=dict(row["metrics"] or {}),
        stage_run=row["stage_run"],
        fingerprint=row["fingerprint"],
    )


def _unfinished_runs(job: StageRun) -> set[str]:
    """Runs in the ledger that have not succeeded. A run that the ledger does not know counts as finished."""
    if not job.tables.exists(_LEDGER):
        return set()
    ledger: DataFrame = job.tables.read(_LEDGER).where(F.col("status") != "succeeded")
    return {row["run_id"] for row in ledger.select("run_id").collect()}
