"""One Spark session for a process of the run, a fresh lake for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession
from xdist.scheduler import LoadFileScheduling

from sparkml.frame.config import DEFAULT_PIPELINE, ProjectConfig, load_config
from sparkml.frame.ledger import Ledger
from sparkml.frame.run import StageRun
from sparkml.frame.session import build_session
from sparkml.frame.spark_schemas import spark_schema
from sparkml.frame.tables import Tables
from tests.runs import new_run

ROOT = Path(__file__).resolve().parents[1]
SMALL = [
    "spark.master=local[2]",
    "spark.driver.memory=1500m",
    "spark.sql.shuffle.partitions=2",
    # A query of a test runs once, over a few rows: to compile it takes longer. (The demo and the
    # clusters of `tests/slow` do compile.)
    "spark.sql.codegen.wholeStage=false",
    "spark.sql.codegen.factoryMode=NO_CODEGEN",
    "spark.databricks.delta.delta.log.cacheSize=20",  # every test has a lake of its own: they would fill the memory
]


class ByFixtures(LoadFileScheduling):
    """The tests of a file share its fixtures, and all that look at one lake share that: each group in one process."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "way" if file in self._on_the_way else file

    @cached_property
    def _on_the_way(self) -> set[str]:
        files = (ROOT / "tests" / "spark").glob("test_*.py")
        return {
            str(file.relative_to(ROOT)) for file in files if "way: Way" in file.read_text(encoding="utf-8")
        }


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByFixtures:
    """How tests go to the processes of `pytest -n`."""
    return ByFixtures(config, log)


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """The session of the tests: real Spark, real Delta, two slots."""
    session = build_session(load_config("local", SMALL).spark, name="sparkml-tests")
    yield session
    session.stop()


@pytest.fixture
def lake(tmp_path: Path) -> str:
    """A fresh lake."""
    return str(tmp_path / "lake")


@pytest.fixture
def tables(spark: SparkSession, lake: str) -> Tables:
    """The tables of the fresh lake."""
    return Tables(lake, lambda: spark)


@pytest.fixture
def ledger(tables: Tables) -> Ledger:
    """The ledger of the fresh lake."""
    return Ledger(tables)


@pytest.fixture
def stage_run(tables: Tables, ledger: Ledger, tmp_path: Path) -> Callable[..., StageRun]:
    """Makes what a stage's `run` gets, on the fresh lake: `stage_run("clean")`, `stage_run("clean", step="web")`."""

    def make(stage: str, *, step: str | None = None, fingerprint: str = "test", seed: int = 17) -> StageRun:
        return new_run(
            tables, ledger, tmp_path / "artifacts", stage, step=step, fingerprint=fingerprint, seed=seed
        )

    return make


@pytest.fixture
def write_table(spark: SparkSession, tables: Tables) -> Callable[..., int]:
    """Writes rows as a table of the fresh lake: `write_table("bronze", rows, schema)`; returns the version."""

    def write(name: str, rows: list[tuple[object, ...]] | DataFrame, schema: object = None) -> int:
        columns = spark_schema(schema) if isinstance(schema, pa.Schema) else schema
        frame = rows if isinstance(rows, DataFrame) else spark.createDataFrame(rows, columns)  # type: ignore[call-overload]
        return tables.overwrite(frame, name).version

    return write


@pytest.fixture
def project(lake: str) -> Callable[..., ProjectConfig]:
    """The configuration of the fresh lake with overrides: `project("clean.min_words=3", pipeline="curate")`."""

    def load(*overrides: str, pipeline: str = DEFAULT_PIPELINE) -> ProjectConfig:
        return load_config("local", [f"lake={lake}", *SMALL, *overrides], pipeline=pipeline)

    return load
