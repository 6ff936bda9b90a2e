"""The runner: skips what is up to date, records every run, repeats what died, pins what succeeded."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from sparkml.errors import AccountingError, InputError, TableError
from sparkml.frame.config import ProjectConfig
from sparkml.frame.ledger import FAILED, STARTED, Ledger, Run, utc_now
from sparkml.frame.pipeline import Pipeline, Step
from sparkml.frame.progress import Progress
from sparkml.frame.registry import TrainedOn
from sparkml.frame.run import StageRun
from sparkml.frame.runner import Runner
from sparkml.frame.stage import Makes, Reads, RunReport, Shares, Stage, StageConfig, Uses, Writes
from sparkml.frame.tables import Tables
from tests.identities import table


class DoubleConfig(StageConfig):
    source: Reads = "numbers"
    target: Writes = "doubled"
    rejects: Shares = "rejects"
    factor: int = 2
    lose: int = 0
    fail: bool = False


def double(job: StageRun, config: DoubleConfig) -> RunReport:
    frame = job.read(config.source)
    written = job.overwrite(frame.where("n < 100").selectExpr(f"n * {config.factor} AS n"), config.target)
    too_large = frame.where("n >= 100").selectExpr("string(n) AS doc_id", "'too_large' AS drop_reason")
    reasons = job.write_rejects(too_large, config.rejects)
    if config.fail:
        raise InputError("something went wrong", got="on purpose")
    rejected = sum(reasons.values())
    rows_in = job.input_rows(config.source) + config.lose
    return RunReport(rows_in=rows_in, rows_kept=written.rows, rows_rejected=rejected, reasons=reasons)


class LearnConfig(StageConfig):
    source: Reads = "doubled"
    model: Uses | None = None
    model_id: Makes = ""


def learn(job: StageRun, config: LearnConfig) -> RunReport:
    total = sum(row["n"] for row in job.read(config.source).collect())
    parent = job.model(config.model) if config.model else None
    with job.new_model(config.model_id) as folder:
        (folder / "weights").write_text(str(total))
    trained_on = TrainedOn(table=config.source, version=job.input_version(config.source))
    job.register(
        config.model_id,
        kind="pretrained",
        parent=parent.name if parent else None,
        trained_on=trained_on,
        metrics={"total": total},
    )
    return RunReport(metrics={"total": total})


def step(name: str = "double", **values: object) -> Step:
    stage = Stage(DoubleConfig, double, "n * factor", name="double", module="tests.spark.test_runner")
    return Step(name, stage, DoubleConfig(**values))


def learning(name: str = "model", **values: object) -> Step:
    stage = Stage(LearnConfig, learn, "a sum", name="learn", module="tests.spark.test_runner")
    return Step(name, stage, LearnConfig(**{"model_id": name, **values}))


def runner(
    spark: SparkSession, lake: str, *steps: Step, expect: Callable[[int], None] | None = None
) -> Runner:
    known = {"numbers", "doubled", "models:model"}
    config = ProjectConfig(
        env="local",
        lake=lake,
        artifacts=f"{lake}/_artifacts",
        seed=17,
        spark={},
        pipeline=Pipeline.of("test", steps, known.__contains__),
        origins={},
    )
    return Runner(lambda: spark, config, Progress(), expect=expect or (lambda n_bytes: None))


def run(spark: SparkSession, lake: str, one: Step, *, force: bool = False) -> tuple[str, bool]:
    outcome = runner(spark, lake, one).run(one, force=force)
    return outcome.run_id, outcome.skipped


def reason(spark: SparkSession, lake: str, one: Step) -> str:
    return runner(spark, lake, one).state(one).reason


@pytest.fixture(autouse=True)
def numbers(spark: SparkSession, tables: Tables) -> None:
    tables.overwrite(spark.createDataFrame([(1,), (2,)], "n int"), "numbers")


def values(tables: Tables, ref: str = "doubled") -> list[int]:
    return sorted(row["n"] for row in tables.read(ref).collect())


def test_a_step_that_succeeded_is_skipped_until_something_changes(
    spark: SparkSession, tables: Tables, lake: str
) -> None:
    first, again = run(spark, lake, step()), run(spark, lake, step())
    assert (first[1], again) == (False, (first[0], True))
    assert tables.version("doubled") == 0

    tables.append(spark.createDataFrame([(5,)], "n int"), "numbers")
    assert reason(spark, lake, step()) == "new version of `numbers`"
    assert not run(spark, lake, step())[1]
    assert values(tables) == [2, 4, 10]
    assert not run(spark, lake, step(), force=True)[1]


def test_what_will_be_read_is_told_where_it_is_known(spark: SparkSession, tables: Tables, lake: str) -> None:
    told: list[int] = []
    both = (step(), step("again", source="doubled", target="redoubled"))
    runner(spark, lake, *both, expect=told.append).run_steps(both)
    assert told == []  # nobody knows how large the second table will be
    runner(spark, lake, *both, expect=told.append).run_steps(both)
    sizes = [tables.log(ref).size(0) for ref in ("numbers", "doubled")]
    assert told == [sum(sizes)]


def test_a_then_b_then_a_writes_a_again(spark: SparkSession, tables: Tables, lake: str) -> None:
    run(spark, lake, step())
    assert reason(spark, lake, step(factor=3)) == "its configuration changed"
    run(spark, lake, step(factor=3))
    assert values(tables) == [3, 6]
    assert not run(spark, lake, step())[1]
    assert values(tables) == [2, 4]


def test_a_table_changed_by_another_hand_is_written_again(
    spark: SparkSession, tables: Tables, lake: str
) -> None:
    run(spark, lake, step())
    tables.append(spark.createDataFrame([(99,)], "n int"), "doubled")
    assert reason(spark, lake, step()) == (
        "table `doubled` is not as this step left it: another program wrote version 1 (WRITE)"
    )
    run(spark, lake, step())
    assert values(tables) == [2, 4]


def test_an_input_that_was_dropped_and_made_anew_is_another_input(
    spark: SparkSession, tables: Tables, lake: str
) -> None:
    run(spark, lake, step())
    shutil.rmtree(Path(lake, "numbers"))
    tables.overwrite(spark.createDataFrame([(7,), (8,)], "n int"), "numbers")
    assert tables.version("numbers") == 0
    assert "identity of an input" in reason(spark, lake, step())
    assert not run(spark, lake, step())[1]
    assert values(tables) == [14, 16]


def test_a_failed_run_is_recorded_and_repeated(spark: SparkSession, lake: str) -> None:
    with pytest.raises(InputError):
        run(spark, lake, step(fail=True))
    row = runner(spark, lake, step()).ledger.runs()[-1]
    assert (row.status, row.error) == ("failed", "something went wrong\n  got: on purpose")
    assert not run(spark, lake, step())[1]


def test_what_a_failed_run_left_is_read_by_nobody(spark: SparkSession, tables: Tables, lake: str) -> None:
    run(spark, lake, step())
    with pytest.raises(InputError):
        run(spark, lake, step(factor=1000, fail=True))
    assert values(tables) == [1000, 2000]
    after = step("again", source="doubled", target="next")
    run(spark, lake, after)
    assert values(tables, "next") == [4, 8]
    assert runner(spark, lake, after).ledger.runs()[-1].inputs == {"doubled": 0}


def test_a_table_that_only_a_failed_run_wrote_is_not_there(spark: SparkSession, lake: str) -> None:
    with pytest.raises(InputError):
        run(spark, lake, step(fail=True))
    with pytest.raises(TableError, match="no successful run has left a table `doubled`"):
        run(spark, lake, step("again", source="doubled", target="next"))


def test_lost_rows_fail_the_run_and_nobody_reads_what_it_wrote(spark: SparkSession, lake: str) -> None:
    with pytest.raises(AccountingError, match="3 in, 2 kept, 0 rejected"):
        run(spark, lake, step(lose=1))
    ledger = runner(spark, lake, step()).ledger
    assert ledger.runs()[-1].status == "failed"
    with pytest.raises(TableError, match="no successful run has left a table `doubled`"):
        run(spark, lake, step("again", source="doubled", target="next"))


def test_a_run_whose_driver_died_is_marked_and_repeated(
    spark: SparkSession, tables: Tables, lake: str
) -> None:
    dead = Run("dead-run", "double", "double", "f", STARTED, utc_now())
    Ledger(tables).put(dead)
    frame = spark.createDataFrame([(4711,)], "n int")
    tables.overwrite(frame, "doubled", commit_info={"run_id": "dead-run"})

    ledger = runner(spark, lake, step()).ledger
    assert ledger.abandon_started() == ["dead-run"]
    assert [row.status for row in Ledger(tables).runs()] == [FAILED]
    assert not run(spark, lake, step())[1]
    assert values(tables) == [2, 4]


def test_the_ledger_names_inputs_outputs_parents_and_steps(spark: SparkSession, lake: str) -> None:
    first = run(spark, lake, step())[0]
    second = run(spark, lake, step("again", source="doubled", target="next"))[0]
    rows = {row.run_id: row for row in runner(spark, lake, step()).ledger.runs()}
    assert (rows[first].inputs, rows[first].outputs) == ({"numbers": 0}, {"doubled": 0, "rejects": 0})
    assert (rows[second].parent_run_ids, rows[second].step, rows[second].stage) == (
        (first,),
        "again",
        "double",
    )
    assert (rows[second].rows_in, rows[second].rows_kept, rows[second].rows_rejected) == (2, 2, 0)
    assert rows[second].packages["pyspark"] == "4.2.0"
    assert (rows[second].seconds or 0) > 0
    stored = table(lake, "_runs").to_pylist()
    assert {row["run_id"]: row["outputs"] for row in stored}[second][0] == {"table": "next", "version": 0}


def test_two_steps_of_one_stage_keep_out_of_each_others_way(
    spark: SparkSession, tables: Tables, lake: str
) -> None:
    tables.append(spark.createDataFrame([(100,), (200,)], "n int"), "numbers")
    left, right = step("left"), step("right", target="other", factor=10)
    run(spark, lake, left)
    run(spark, lake, right)
    assert (values(tables), values(tables, "other")) == ([2, 4], [10, 20])
    rejects = tables.read("rejects").select("step", "doc_id").collect()
    assert sorted(map(tuple, rejects)) == [
        ("left", "100"),
        ("left", "200"),
        ("right", "100"),
        ("right", "200"),
    ]
    assert run(spark, lake, left)[1]
    assert run(spark, lake, right)[1]
    run(spark, lake, step("right", target="other", factor=11))
    assert run(spark, lake, left)[1]
    Path(lake, "rejects").rename(Path(lake, "gone"))
    assert reason(spark, lake, left).startswith("table `rejects` is not as this step left it: version ")


def test_models_are_inputs_with_an_identity(spark: SparkSession, tables: Tables, lake: str) -> None:
    run(spark, lake, step())
    run(spark, lake, learning())
    child = learning("child", model="model")
    run(spark, lake, child)
    assert run(spark, lake, child)[1]
    rows = {row.step: row for row in runner(spark, lake, child).ledger.runs()}
    assert rows["child"].inputs == {"doubled": 0, "models:model": 1}
    assert rows["model"].run_id in rows["child"].parent_run_ids
    assert rows["model"].rows_in is None

    weights = Path(lake, "_artifacts", "models", "model", "v1", "weights")
    weights.write_text("123456789")
    assert reason(spark, lake, learning()) == "files of model `model` are missing or cut off"
    shutil.rmtree(weights.parent)
    assert reason(spark, lake, learning()) == "files of model `model` are missing or cut off"
    assert "identity of an input" in reason(spark, lake, child)
    run(spark, lake, learning())
    assert reason(spark, lake, child) == "new version of model `model`"
    names = [record.name for record in runner(spark, lake, child).registry.models()]
    assert names == ["child/v1", "model/v1", "model/v2"]


def test_every_row_carries_the_run_that_wrote_it(spark: SparkSession, tables: Tables, lake: str) -> None:
    run_id = run(spark, lake, step())[0]
    assert {row["run_id"] for row in tables.read("doubled").collect()} == {run_id}
