"""The runner: skips what is up to date, records every run, repeats what died, refuses wrong accounts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from pyspark.sql import SparkSession

from sparkml.errors import AccountingError, InputError
from sparkml.frame.config import ProjectConfig, StageConfig, TableRef
from sparkml.frame.pipeline import Stage
from sparkml.frame.progress import Progress
from sparkml.frame.runner import Runner
from sparkml.frame.runs import RunReport, StageRun
from sparkml.frame.tables import Tables


class DoubleConfig(StageConfig):
    source: TableRef = "numbers"
    target: TableRef = "doubled"
    factor: int = 2
    lose: int = 0
    fail: bool = False


def double(job: StageRun, config: StageConfig) -> RunReport:
    assert isinstance(config, DoubleConfig)
    frame = job.read(config.source).selectExpr(f"n * {config.factor} AS n")
    written = job.overwrite(frame, config.target)
    if config.fail:
        raise InputError("something went wrong", got="on purpose")
    return RunReport(rows_in=written.rows + config.lose, rows_kept=written.rows)


@dataclass(frozen=True)
class ToyStage(Stage):
    """A stage that lives in this file."""

    def entry(self) -> Callable[[StageRun, StageConfig], RunReport]:
        return double

    def source_state(self) -> None:
        return None


STAGE = ToyStage("double", "n * factor", "DoubleConfig", reads=("source",), writes=("target",))


def runner(spark: SparkSession, lake: str, **values: object) -> Runner:
    config = ProjectConfig(
        env="local",
        lake=lake,
        artifacts=f"{lake}/_artifacts",
        seed=17,
        spark={},
        stages={"double": DoubleConfig(**values)},
        origins={},
    )
    return Runner(spark, config, Progress())


@pytest.fixture(autouse=True)
def numbers(spark: SparkSession, tables: Tables) -> None:
    tables.overwrite(spark.createDataFrame([(1,), (2,)], "n int"), "numbers")


def values(tables: Tables) -> list[int]:
    return sorted(row["n"] for row in tables.read("doubled").collect())


def test_a_fingerprint_that_succeeded_is_skipped_until_something_changes(
    spark: SparkSession, tables: Tables, lake: str
) -> None:
    first = runner(spark, lake).run(STAGE)
    again = runner(spark, lake).run(STAGE)
    assert (first.skipped, again.skipped, again.run_id) == (False, True, first.run_id)
    assert (tables.version("doubled"), again.report.rows_in) == (0, 2)

    tables.append(spark.createDataFrame([(5,)], "n int"), "numbers")
    assert runner(spark, lake).state(STAGE).reason == "new version of `numbers`"
    assert not runner(spark, lake).run(STAGE).skipped
    assert values(tables) == [2, 4, 10]
    assert not runner(spark, lake).run(STAGE, force=True).skipped


def test_a_then_b_then_a_writes_a_again(spark: SparkSession, tables: Tables, lake: str) -> None:
    runner(spark, lake).run(STAGE)
    state = runner(spark, lake, factor=3).state(STAGE)
    assert (state.up_to_date, state.reason) == (False, "its configuration changed")
    runner(spark, lake, factor=3).run(STAGE)
    assert values(tables) == [3, 6]
    assert not runner(spark, lake).run(STAGE).skipped
    assert values(tables) == [2, 4]


def test_a_table_changed_by_another_hand_is_written_again(
    spark: SparkSession, tables: Tables, lake: str
) -> None:
    runner(spark, lake).run(STAGE)
    tables.append(spark.createDataFrame([(99,)], "n int"), "doubled")
    assert runner(spark, lake).state(STAGE).reason == "table `doubled` is not as this stage left it"
    runner(spark, lake).run(STAGE)
    assert values(tables) == [2, 4]


def test_a_failed_run_is_recorded_and_repeated(spark: SparkSession, tables: Tables, lake: str) -> None:
    with pytest.raises(InputError):
        runner(spark, lake, fail=True).run(STAGE)
    row = runner(spark, lake).ledger.rows()[-1]
    assert (row["status"], row["error"]) == ("failed", "something went wrong\n  got: on purpose")
    assert not runner(spark, lake).run(STAGE).skipped


def test_lost_rows_fail_the_run(spark: SparkSession, lake: str) -> None:
    with pytest.raises(AccountingError, match="3 in, 2 kept, 0 rejected"):
        runner(spark, lake, lose=1).run(STAGE)
    assert runner(spark, lake).ledger.rows()[-1]["status"] == "failed"


def test_a_run_whose_driver_died_is_marked_and_repeated(
    spark: SparkSession, tables: Tables, lake: str
) -> None:
    at_work = runner(spark, lake)
    state = at_work.state(STAGE)
    job = at_work._job(STAGE, state)
    at_work.ledger.start(job, at_work._ledger_context(DoubleConfig()))
    job.overwrite(job.read("numbers"), "doubled")

    ledger = runner(spark, lake).ledger
    assert ledger.abandon_started() == [job.run_id]
    assert [row["status"] for row in ledger.rows()] == ["failed"]
    assert not runner(spark, lake).run(STAGE).skipped
    assert values(tables) == [2, 4]


def test_the_ledger_names_inputs_outputs_and_parents(spark: SparkSession, tables: Tables, lake: str) -> None:
    done = runner(spark, lake).run(STAGE)
    chained = ToyStage("double", "n * factor", "DoubleConfig", reads=("source",), writes=("target",))
    second = runner(spark, lake, source="doubled", target="again").run(chained)
    rows = {row["run_id"]: row for row in runner(spark, lake).ledger.rows()}
    first_row, second_row = rows[done.run_id], rows[second.run_id]
    assert [tuple(item) for item in first_row["inputs"]] == [("numbers", 0)]
    assert [tuple(item) for item in first_row["outputs"]] == [("doubled", 0)]
    assert second_row["parent_run_ids"] == [done.run_id]
    assert (second_row["rows_in"], second_row["rows_kept"], second_row["rows_rejected"]) == (2, 2, 0)
    assert second_row["packages"]["pyspark"] == "4.2.0"
    assert second_row["seconds"] > 0


def test_every_row_carries_the_run_that_wrote_it(spark: SparkSession, tables: Tables, lake: str) -> None:
    done = runner(spark, lake).run(STAGE)
    assert {row["run_id"] for row in tables.read("doubled").collect()} == {done.run_id}
