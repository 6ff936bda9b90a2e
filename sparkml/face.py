"""The public face: what `import sparkml` offers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparkml.errors import TableError
from sparkml.frame import artifacts, storage
from sparkml.frame.checks import check_storage, known_in_lake
from sparkml.frame.config import DEFAULT_PIPELINE, load_config
from sparkml.frame.ledger import Ledger, Run
from sparkml.frame.lineage import Station, trace
from sparkml.frame.locks import lake_lock
from sparkml.frame.progress import Progress
from sparkml.frame.registry import ModelRecord, Registry
from sparkml.frame.runner import Runner, StepOutcome
from sparkml.frame.tables import Tables

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

    from sparkml.inference.scorer import Scorer


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
        runner = Runner(session, config, progress)
        if locked:
            runner.ledger.abandon_started()
        return runner.run_steps(config.pipeline.until(until), force=force, whole=True)


def load_scorer(model: str, threads: int = 1) -> Scorer:
    """A model directory, by its path or URI (`lake.model("classifier").path`), as a scorer of texts; needs no Spark."""
    from sparkml.inference.scorer import load_scorer as load

    return load(artifacts.localise(model), threads)
