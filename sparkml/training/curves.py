"""Curves of a training: `curve.jsonl` for the report, TensorBoard events, an MLflow run; by rank 0."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from sparkml.frame import storage
from sparkml.frame.artifacts import Mirror

CURVE_FILE = "curve.jsonl"
_MLFLOW_RUN_FILE = "mlflow_run_id.txt"
_EXPERIMENT = "sparkml"


def own_store(artifacts: str) -> str:
    """Where the MLflow store of a lake lies; empty where MLflow would not find its own runs in it."""
    if not storage.is_remote(artifacts) and "artifacts" in Path(artifacts).parts:
        # MLflow 3 takes a folder of that name anywhere above a run for a run's own artifacts, and refuses the run.
        return ""
    return storage.join(artifacts, "mlflow")


class Curves:
    """Appends points; a resumed run forgets those behind its checkpoint and goes on in the same files.

    Folders are places on any storage. `mlflow_uri` is a tracking server, `mlflow_store` a folder to keep runs in.
    """

    def __init__(
        self,
        *,
        run_folder: str,
        tensorboard_folder: str,
        mlflow_uri: str,
        mlflow_store: str,
        run_name: str,
        parameters: Mapping[str, Any],
        first_step: int,
    ) -> None:
        from torch.utils.tensorboard import SummaryWriter

        run, events = Mirror(run_folder), Mirror(tensorboard_folder)
        self._mirrors = [run, events]
        self.file = run.folder / CURVE_FILE
        _forget_after(self.file, first_step)
        self._stream = self.file.open("a", encoding="utf-8")
        self._events: Any = SummaryWriter(str(events.folder), purge_step=first_step)
        self._mlflow = None
        if mlflow_store:
            store = Mirror(mlflow_store)
            self._mirrors.append(store)
            mlflow_uri = store.folder.as_uri()
        if mlflow_uri:
            self._mlflow = _MlflowRun(mlflow_uri, run_name, run.folder / _MLFLOW_RUN_FILE, parameters)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """The values of step `step` (counted from 1)."""
        self._stream.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            self._events.add_scalar(name, value, step)
        if self._mlflow is not None:
            self._mlflow.add(step, values)

    def flush(self) -> None:
        """Make what was added visible: with every checkpoint, so that no point before one is lost."""
        self._stream.flush()
        self._events.flush()
        if self._mlflow is not None:
            self._mlflow.flush()
        self._push()

    def __enter__(self) -> Curves:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()
        self._stream.close()
        self._events.close()
        if self._mlflow is not None:
            self._mlflow.close("FAILED" if error is not None else "FINISHED")
        self._push()

    def _push(self) -> None:
        for mirror in self._mirrors:
            mirror.push()


class _MlflowRun:
    """A run in an MLflow store, written in batches: the file store opens a file for every point."""

    def __init__(self, uri: str, run_name: str, run_file: Path, parameters: Mapping[str, Any]) -> None:
        if uri.startswith("file:"):
            # mlflow-skinny brings no database; the file store works, but wants to be asked for by name.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(tracking_uri=uri)
        self._waiting: list[Any] = []
        if run_file.exists():
            self._run_id = run_file.read_text(encoding="utf-8")
            return
        experiment = self._client.get_experiment_by_name(_EXPERIMENT)
        experiment_id = (
            experiment.experiment_id if experiment else self._client.create_experiment(_EXPERIMENT)
        )
        run = self._client.create_run(experiment_id, run_name=run_name)
        self._run_id = run.info.run_id
        self._client.log_batch(self._run_id, params=[Param(k, str(v)) for k, v in parameters.items()])
        run_file.write_text(self._run_id, encoding="utf-8")

    def add(self, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._waiting += [Metric(name, value, now, step) for name, value in values.items()]

    def flush(self) -> None:
        for first in range(0, len(self._waiting), 1000):
            self._client.log_batch(self._run_id, metrics=self._waiting[first : first + 1000])
        self._waiting = []

    def close(self, status: str) -> None:
        self._client.set_terminated(self._run_id, status)


def read_curve(file: Path) -> list[dict[str, float]]:
    """The points of a curve file in the order of their steps; a last line that was cut off is left out."""
    if not file.exists():
        return []
    points = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            points.append(json.loads(line))
        except ValueError:
            break
    return points


def _forget_after(file: Path, step: int) -> None:
    """Drop the points of steps that will be done again."""
    kept = [point for point in read_curve(file) if point["step"] <= step]
    file.write_text("".join(json.dumps(point) + "\n" for point in kept), encoding="utf-8")
