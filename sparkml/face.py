"""The public face: what `import sparkml` offers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sparkml.errors import TableError, UsageError
from sparkml.frame import artifacts, storage
from sparkml.frame.checks import check_storage, known_in_lake
from sparkml.frame.config import DEFAULT_PIPELINE, load_config
from sparkml.frame.ledger import Ledger, Run
from sparkml.frame.lineage import Station, trace
from sparkml.frame.locks import lake_lock
from sparkml.frame.pipeline import PACKAGE, is_directory
from sparkml.frame.progress import Progress
from sparkml.frame.registry import ModelRecord, Registry, external_model, model_identity, package_folder
from sparkml.frame.runner import Runner, StepOutcome
from sparkml.frame.tables import Tables

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import Column, DataFrame, SparkSession

    from sparkml.inference.scorer import Scorer
    from sparkml.tasks.task import TaskChoice


class Lake:
    """The tables, runs and models of a lake, as successful runs have left them."""

    def __init__(self, location: str, spark: SparkSession | None = None) -> None:
        self.location = location if storage.is_catalog(location) else storage.normalise(location)
        self._given = spark
        self._tables = Tables(self.location, self._session)
        self._ledger = Ledger(self._tables)

    def tables(self) -> list[str]:
        """The names of its tables."""
        if storage.is_catalog(self.location):
            shown = self._session().sql(f"SHOW TABLES IN {storage.quoted(self.location)}")
            return sorted(row["tableName"] for row in shown.collect())
        names = storage.names(self.location)
        return [name for name in names if storage.exists(storage.join(self.location, name, "_delta_log"))]

    def read(self, table: str, version: int | None = None) -> pa.Table:
        """A table in Arrow: for tables that fit this process. TableError where no successful run has left it."""
        return self._tables.log(table).read(self._version(table) if version is None else version)

    def spark(self, table: str, version: int | None = None) -> DataFrame:
        """A table as a Spark DataFrame, pinned to a version."""
        return self._tables.read(table, self._version(table) if version is None else version)

    def runs(self) -> list[Run]:
        """The ledger, oldest run first."""
        return self._ledger.runs()

    def models(self) -> list[ModelRecord]:
        """Every model version that a successful run made."""
        return Registry(self._tables, self._ledger).models()

    def model(self, model: str) -> ModelRecord:
        """`name` (its newest version) or `name/v3`; InputError where there is none."""
        return Registry(self._tables, self._ledger).require(model)

    def trace(self, table: str, doc_id: str) -> list[Station]:
        """From a row back over models, decisions and versions to the source of its document."""
        return trace(self._tables, self._ledger, table, doc_id)

    def _version(self, table: str) -> int:
        version = self._tables.published(table, self._ledger.unfinished())
        if version is None:
            raise TableError(
                f"no successful run has left a table `{table}`",
                where=storage.redacted(self.location),
                expected=", ".join(self.tables()),
            )
        return version

    def _session(self) -> SparkSession:
        if self._given is None:
            from sparkml.frame.session import build_session

            self._given = build_session(load_config("local", [f"lake={self.location}"]).spark)
        return self._given


def open_lake(location: str, spark: SparkSession | None = None) -> Lake:
    """A lake by its folder, URI or `catalog.schema`. `spark`: the session to use, where one is needed."""
    return Lake(location, spark)


def run_pipeline(
    pipeline: str = DEFAULT_PIPELINE,
    *overrides: str,
    env: str = "local",
    until: str | None = None,
    force: bool = False,
) -> list[StepOutcome]:
    """Run a pipeline (a name, or a YAML file) as `sparkml run-all` does; `overrides` are its `key=value` words.

    A session that is already running is used and left running. Errors are not caught.
    """
    from sparkml.frame.session import Session

    config = load_config(env, overrides, pipeline=pipeline, known=known_in_lake)
    check_storage(config)
    with (
        lake_lock(config.lake, f"sparkml.run_pipeline({pipeline!r})") as locked,
        Progress() as progress,
        Session(config.spark) as session,
    ):
        runner = Runner(session, config, progress, expect=session.expect)
        if locked:
            runner.ledger.abandon_started()
        return runner.run_steps(config.pipeline.until(until), force=force, whole=True)


def register(
    spark: SparkSession,
    name: str,
    model: str | ModelRecord,
    *,
    lake: str | Lake | None = None,
    engine: str = "auto",
    threads: int = 1,
    device: str = "auto",
    task: str | Mapping[str, Any] | None = None,
) -> Callable[..., Column]:
    """A model as a function of SQL and of DataFrames, for this session: classic Spark or Spark Connect.

        sentiment = sparkml.register(spark, "sentiment", "classifier", lake="lake")
        spark.sql("SELECT text, sentiment(text).prediction FROM reviews")
        reviews.select("text", sentiment("text").alias("answer"))

    `model`: a name of `lake`'s registry (`classifier`, `classifier/v3`), a record of it, or a directory or URI, which
    Spark's workers read too. The function takes the columns that the model's task reads: a text, two of them for pairs,
    array<string> for words, binary for images and sounds. It gives a struct `prediction, score, scores, spans,
    embedding, output, error`, as in the table `scores`; a null or broken input gets an `error`, and fails nobody else.
    `threads` of a task: at most spark.task.cpus. `task` and `device`: as in `load_scorer`. UsageError, ConfigError or
    InputError where it cannot be had.
    """
    from sparkml.hosting.functions import register_function
    from sparkml.hosting.scoring import answering, check_threads

    check_threads(spark, threads, "threads")
    record = _record_of(model, lake, spark)
    source = answering(
        record.path,
        model_identity(record),
        threads=threads,
        engine=engine,
        device=device,
        task=_asked(task),
    )
    return register_function(spark, name, source)


def save_mlflow_model(
    model: str | ModelRecord, path: str, *, lake: str | Lake | None = None, **settings: Any
) -> None:
    """Write a model, named as for `register`, in MLflow's form into the new folder `path`.

    The folder loads with `mlflow.pyfunc.load_model` and `mlflow.pyfunc.spark_udf` wherever the packages of its
    requirements.txt are; it carries the code of `sparkml`. `settings`: `engine`, `threads` and `device`, the
    `input_example` to keep instead of one of the task's, and `code_paths`, where tasks of other packages lie.
    """
    from sparkml.inference.flavor import save_model

    save_model(path, **_flavored(model, lake), **settings)


def log_mlflow_model(
    model: str | ModelRecord,
    name: str,
    *,
    lake: str | Lake | None = None,
    registered_model_name: str | None = None,
    **settings: Any,
) -> Any:
    """Log a model as `save_mlflow_model` writes it to MLflow's active run, or a new one; MLflow's `ModelInfo`."""
    from sparkml.inference.flavor import log_model

    return log_model(name, registered_model_name, **_flavored(model, lake), **settings)


def _flavored(model: str | ModelRecord, lake: str | Lake | None) -> dict[str, Any]:
    record = _record_of(model, lake)
    return {"folder": artifacts.localise(record.path), "model_name": record.name}


def _record_of(
    model: str | ModelRecord, lake: str | Lake | None, spark: SparkSession | None = None
) -> ModelRecord:
    if isinstance(model, ModelRecord):
        return model
    if lake is not None:
        return (lake if isinstance(lake, Lake) else open_lake(lake, spark)).model(model)
    if is_directory(model):
        return external_model(model)
    raise UsageError(
        "a model is named without the lake that has it",
        got=f"model={model!r}",
        expected="a directory or URI, or a name with its lake",
        next_action=f"give the lake (lake=...), or the directory as a path: ./{model}",
    )


def load_scorer(
    model: str,
    threads: int = 1,
    *,
    task: str | Mapping[str, Any] | None = None,
    engine: str = "auto",
    device: str = "auto",
) -> Scorer:
    """A model directory, by its path or URI (`lake.model("classifier").path`), as a scorer of texts; needs no Spark.

    `task`: of a directory that was not trained here a task which needs no training, by its name or with its settings
    (`task="retrieve"`, `task={"name": "retrieve", "query_prefix": "query: "}`); of a trained one other settings of its
    own. `device`: `cpu`, `cuda`, or `auto`, which takes a GPU where there is one that can run the model.
    """
    from sparkml.inference.device import device_for, gpu_of_task
    from sparkml.inference.scorer import load_scorer as load

    folder = artifacts.localise(package_folder(model) if model.startswith(PACKAGE) else model)
    place = device_for(device, engine, folder, gpu_of_task(device))
    return load(folder, threads, engine_name=engine, task=_asked(task), device=place)


def _asked(task: str | Mapping[str, Any] | None) -> TaskChoice | None:
    from sparkml.tasks.task import TaskChoice

    return None if task is None else TaskChoice(**({"name": task} if isinstance(task, str) else task))
