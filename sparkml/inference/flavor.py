"""Models in MLflow's form: a folder that `mlflow.pyfunc` loads, serves and makes a Spark function of.

    sparkml.save_mlflow_model("classifier", "exported", lake="lake")
    mlflow.pyfunc.load_model("exported").predict(pandas.DataFrame({"text": ["a text"]}))
    mlflow.pyfunc.spark_udf(spark, "exported")("text")

The folder holds the model directory, the signature, an example, and the package `sparkml` itself, so it loads wherever
the packages of its requirements.txt are. Nothing in it is pickled.
"""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

import sparkml
from sparkml.errors import InputError
from sparkml.frame import storage
from sparkml.frame.fingerprint import code_of
from sparkml.inference import pyfunc
from sparkml.inference.batches import answering_task
from sparkml.models.adapt.folder import BASE_FILE
from sparkml.tasks.task import Task

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

FLAVOR = "sparkml"


def log_model(name: str, registered_model_name: str | None = None, **settings: Any) -> Any:
    """Log a model to MLflow's active run, or to a new one; MLflow's `ModelInfo`. `settings`: those of `save_model`."""
    from mlflow.models import Model

    return Model.log(
        None,
        sys.modules[__name__],
        name=name,
        registered_model_name=registered_model_name,
        flavor_name=FLAVOR,
        **settings,
    )


def save_model(
    path: str,
    mlflow_model: Any = None,
    *,
    folder: Path,
    model_name: str,
    engine: str = "auto",
    threads: int = 1,
    device: str = "auto",
    input_example: Any = None,
    code_paths: Sequence[str] = (),
) -> None:
    """Write a model directory as an MLflow model, by MLflow's name for it: `mlflow.models.Model.log` calls it too.

    InputError where the directory answers nothing, or where it is an adaptation whose base lies elsewhere.
    """
    import mlflow.models
    import mlflow.pyfunc

    task = answering_task(folder)
    _check_whole(folder)
    model = mlflow_model or mlflow.models.Model()
    model.add_flavor(
        FLAVOR, sparkml_version=sparkml.__version__, task=task.name, model=storage.redacted(model_name)
    )
    with tempfile.TemporaryDirectory() as name:
        package = Path(name) / "sparkml"
        copy_package(importlib.resources.files("sparkml"), package)
        mlflow.pyfunc.save_model(
            path,
            mlflow_model=model,
            loader_module=pyfunc.__name__,
            data_path=str(folder),
            code_paths=[str(package), *code_paths],
            signature=signature_of(task),
            input_example=pd.DataFrame([task.example()]) if input_example is None else input_example,
            pip_requirements=requirements(),
            model_config={"engine": engine, "threads": threads, "device": device},
        )


def signature_of(task: type[Task[Any]]) -> Any:
    """MLflow's signature: the columns that the task reads; the answer as `SavedModel.predict` gives it."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array, Map, Object, Property

    kinds: Mapping[str, Any] = {"tokens": Array(DataType.string), "media": DataType.binary}
    # A row without words or bytes gets an error of its own; MLflow would refuse the whole batch for it.
    inputs: list[Any] = [
        ColSpec(kinds.get(name, DataType.string), name, required=name not in kinds)
        for name in task.answered_from()
    ]
    span: Mapping[str, Any] = {
        "start": DataType.integer,
        "end": DataType.integer,
        "label": DataType.string,
        "score": DataType.double,
    }
    outputs: Mapping[str, Any] = {
        "prediction": DataType.string,
        "score": DataType.double,
        "scores": Map(DataType.double),
        "spans": Array(Object([Property(name, kind) for name, kind in span.items()])),
        "embedding": Array(DataType.float),
        "output": DataType.string,
        "error": DataType.string,
    }
    return ModelSignature(Schema(inputs), Schema([ColSpec(kind, name) for name, kind in outputs.items()]))


def requirements() -> list[str]:
    """What answering imports, at the versions that are installed: the lines of requirements.txt."""
    packages = (*code_of(pyfunc.__name__).packages, "mlflow", "pandas")
    distributions = importlib.metadata.packages_distributions()
    names = {name for package in packages for name in distributions.get(package, ())}
    # A build of its own (`2.13.0+cpu`) is called by its version alone: what else there is depends on the index.
    return sorted(f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in names)


def _check_whole(folder: Path) -> None:
    if (folder / BASE_FILE).is_file():
        raise InputError(
            "the model is an adaptation of another model, which a copy of it would lack",
            where=str(folder),
            next_action="train it with adapt.merge=true, so that its directory holds all weights",
        )


def copy_package(source: Traversable, target: Path) -> None:
    """The files of a package, also out of a zip, without what Python compiled."""
    target.mkdir()
    for entry in source.iterdir():
        if entry.is_file() and not entry.name.endswith(".pyc"):
            (target / entry.name).write_bytes(entry.read_bytes())
        elif entry.is_dir() and entry.name != "__pycache__":
            copy_package(entry, target / entry.name)
