"""A training in this process, without Spark: from the job that a step wrote where Spark was.

sparkml run train train.ranks=0                 # where Spark is: samples, their manifests, and the job
sparkml train s3://lake/.../job.json --out DIR  # anywhere: a notebook, a machine with a GPU and no JVM
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sparkml.distributed.collective import SingleProcess
from sparkml.distributed.reporter import Reporter
from sparkml.errors import ConfigError, InputError
from sparkml.frame import artifacts, storage
from sparkml.frame.config_layers import did_you_mean
from sparkml.models.directory import publish
from sparkml.training.settings import JOB_FILE, RESULT, LoopSettings, TrainingJob

Told = Callable[[int, int, Mapping[str, float]], None]
_OWN = ("reader", "checkpoint_every_steps", "keep_checkpoints", "seed", "mlflow_uri")


def read_job(location: str) -> TrainingJob:
    """A job's file, or the run folder that holds it; InputError where there is none."""
    place = location if location.endswith(".json") else storage.join(location, JOB_FILE)
    try:
        return TrainingJob.model_validate_json(storage.read_bytes(place))
    except (InputError, ValidationError) as error:
        raise InputError(
            "not the job of a training",
            where=place,
            got=str(error).splitlines()[0],
            expected=f"the file {JOB_FILE} that a step which trains has written",
            next_action="write it where Spark is: sparkml run STEP STEP.ranks=0",
        ) from error


def train_alone(
    job: TrainingJob, out: str, settings: Mapping[str, Any] | None = None, told: Told | None = None
) -> dict[str, float]:
    """Train in this process and write the model directory `out`; returns what was measured.

    `settings`: other values of the loop (`learning_rate`), or of `reader`, `seed` and the like. Checkpoints lie beside
    `out`, in `<out>-run`: the same call goes on from them. `told` hears of every step: its number, how many, values.
    """
    # Before torch counts the cores: a rank below Spark has one, here all are free.
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))
    from sparkml.training.run import train

    chosen = _changed(job, out, settings or {})
    measured = train(chosen, SingleProcess(), _Teller(told))
    held_out = {name: value for name, value in measured.items() if name.startswith("validation_")}
    lineage = {
        "model": out.rstrip("/").rpartition("/")[2],
        "step": job.run_name,
        "parent": None if job.start.random else job.start.folder,
        "table": job.train_manifest.read().table,
        "version": job.train_manifest.read().version,
        "adapt": job.adapt.method,
    }
    with artifacts.new_artifact(out) as folder:
        publish(
            folder,
            result=artifacts.localise(storage.join(chosen.run_folder, RESULT)),
            inputs=Path(artifacts.localise(job.start.folder)),
            task=job.task,
            lineage=lineage,
            metrics=held_out,
        )
    return measured


def _changed(job: TrainingJob, out: str, settings: Mapping[str, Any]) -> TrainingJob:
    loop = {name: value for name, value in settings.items() if name in LoopSettings.model_fields}
    own = {name: value for name, value in settings.items() if name in _OWN}
    known = [*LoopSettings.model_fields, *_OWN]
    for name in settings:
        if name not in known:
            raise ConfigError(
                "a training has no such setting", got=name, next_action=did_you_mean(name, known)
            )
    run_folder = f"{out.rstrip('/')}-run"
    places = {"run_folder": run_folder, "tensorboard_folder": storage.join(run_folder, "tensorboard")}
    # Both readers give the same rows; petastorm itself needs pyspark.
    spread = {"activation_checkpointing": job.spread.activation_checkpointing}
    whole: dict[str, Any] = {
        **job.model_dump(),
        "reader": "arrow",
        "mlflow_store": "",
        "spread": spread,
        **own,
        **places,
    }
    try:
        return TrainingJob.model_validate({**whole, "loop": {**whole["loop"], **loop}})
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(
            f"a setting of the training is wrong: {first['msg']}",
            where=".".join(map(str, first["loc"])),
            got=repr(first["input"])[:100],
        ) from error


class _Teller(Reporter):
    """Tells a function instead of a driver."""

    def __init__(self, told: Told | None) -> None:
        super().__init__(None)
        self._told = told

    def progress(self, step: int, total: int, **values: float) -> None:
        """See `Reporter.progress`."""
        super().progress(step, total, **values)
        if self._told is not None:
            self._told(step, total, values)
