"""Tables: versions, slices, contracts, and faults that are told in one line."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chispa import assert_df_equality
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparkml.errors import StorageError, TableError
from sparkml.frame.ledger import FAILED, STARTED, SUCCEEDED, Ledger
from sparkml.frame.run import StageRun, as_rejects
from sparkml.frame.schemas import CLEAN
from sparkml.frame.spark_schemas import spark_schema
from sparkml.frame.tables import Tables, conform
from tests.runs import put_run

REJECT = (
    "doc_id string, source string, locator string, "
    "drop_reason string, value double, threshold double, detail string"
)


def numbers(spark: SparkSession, *values: int) -> DataFrame:
    return spark.createDataFrame([(value,) for value in values], "n int").coalesce(1)


def test_versions_can_be_read_as_they_stood(spark: SparkSession, tables: Tables) -> None:
    assert tables.version("plain") is None
    first = tables.overwrite(numbers(spark, 1, 2), "plain")
    second = tables.append(numbers(spark, 3), "plain")
    assert (first.version, first.rows, second.version, second.rows) == (0, 2, 1, 1)
    assert tables.version("plain") == 1
    assert_df_equality(tables.read("plain", 0), numbers(spark, 1, 2), ignore_row_order=True)
    assert_df_equality(tables.read("plain"), numbers(spark, 1, 2, 3), ignore_row_order=True)


def test_a_slice_is_replaced_and_the_rest_stays(spark: SparkSession, tables: Tables) -> None:
    frame, columns = spark.createDataFrame, "step string, n int"
    tables.overwrite(frame([("a", 1), ("b", 2), ("b", 3)], columns), "plain")
    assert tables.replace_slice(frame([("b", 4)], columns), "plain", {"step": "b"}).rows == 1
    expected = frame([("a", 1), ("b", 4)], columns)
    assert_df_equality(tables.read("plain"), expected, ignore_row_order=True)


@pytest.mark.parametrize("partitions", [[], ["step"]])
def test_the_first_slice_of_a_step_is_added(
    spark: SparkSession, tables: Tables, partitions: list[str]
) -> None:
    frame, columns = spark.createDataFrame, "step string, n int"
    tables.overwrite(frame([("a", 1)], columns), "shared", partition_by=partitions)
    for rows in ([("b", 2), ("b", 3)], [("b", 4)]):
        tables.replace_slice(frame(rows, columns), "shared", {"step": "b"})
    expected = frame([("a", 1), ("b", 4)], columns)
    assert_df_equality(tables.read("shared"), expected, ignore_row_order=True)
    # Beside partitions that are not the step's there is nothing to look for.
    history = DeltaTable(tables.locate("shared").identifier).history()
    modes = [commit["operationParameters"]["mode"] for commit in history]
    assert modes == ["Overwrite", "Append" if partitions else "Overwrite", "Overwrite"]


def test_nothing_in_the_place_of_nothing_is_no_commit(spark: SparkSession, tables: Tables) -> None:
    tables.overwrite(spark.createDataFrame([("a", 1)], "p string, n int"), "parted", partition_by=["p"])
    none = spark.createDataFrame([], "p string, n int")
    written = tables.replace_slice(none, "parted", {"p": "b"})
    assert (written.version, written.rows) == (0, 0)
    assert tables.replace_slice(none, "parted", {"p": "a"}).rows == 0
    assert tables.read("parted").collect() == []


def test_data_files_of_a_version_with_rows_and_bytes(spark: SparkSession, tables: Tables) -> None:
    tables.overwrite(numbers(spark, 1, 2), "plain")
    tables.overwrite(numbers(spark, 3), "plain")
    old, new = tables.data_files("plain", 0), tables.data_files("plain")
    assert [file.rows for file in old] == [2]
    assert [file.rows for file in new] == [1]
    assert old[0].path != new[0].path
    assert old[0].bytes == Path(old[0].path.removeprefix("file:")).stat().st_size


def test_a_folder_that_is_no_delta_table_is_refused_before_any_work(
    spark: SparkSession, tables: Tables, lake: str
) -> None:
    folder = Path(lake, "plain")
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(TableError, match="not a Delta table"):
        tables.overwrite(numbers(spark, 1), "plain")
    with pytest.raises(TableError, match="not a Delta table"):
        tables.read("plain")
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_missing_table_names_what_to_run(tables: Tables) -> None:
    with pytest.raises(TableError, match="sparkml plan"):
        tables.read("clean")


def test_columns_follow_the_contract(spark: SparkSession) -> None:
    frame = spark.createDataFrame([("x", 1, "a", "b")], "extra string, doc_id int, stage string, step string")
    with pytest.raises(TableError, match="doc_id") as caught:
        conform(frame, "rejects")
    assert (caught.value.got, caught.value.expected) == ("int", "string")
    whole = spark.createDataFrame(
        [("run", "more", "name", "s", "d", "src", "l", "r", 1.0, 2.0, "t")],
        f"run_id string, more string, step string, stage string, {REJECT}",
    )
    assert conform(whole, "rejects").columns == [
        *("stage", "step", "doc_id", "source", "locator", "drop_reason", "value", "threshold", "detail"),
        *("signals", "more", "run_id"),
    ]


def test_a_labelled_column_that_is_missing_is_null_and_one_of_another_type_is_refused(
    spark: SparkSession,
) -> None:
    whole = spark.createDataFrame([], spark_schema(CLEAN)).withColumn("signals", F.struct(F.lit(1)))
    lean = conform(whole.drop("tokens", "tags", "media"), "kept")
    assert lean.columns == CLEAN.names
    assert lean.schema["tags"].dataType.simpleString() == "array<string>"
    with pytest.raises(TableError, match="column `tags`"):
        conform(whole.withColumn("tags", F.lit("O")), "kept")


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[str]:
    """A file system of half a megabyte, where this machine lets us mount one."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small disk needs root")
    yield str(folder)
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_fills_up_during_the_write_is_told(spark: SparkSession, tiny_disk: str) -> None:
    random = spark.range(200_000).selectExpr("uuid() AS text")
    with pytest.raises(StorageError, match="the disk is full"):
        Tables(tiny_disk, lambda: spark).overwrite(random, "plain")


def test_a_step_replaces_its_own_rejects_and_no_others(
    spark: SparkSession, stage_run: Callable[..., StageRun]
) -> None:
    one = spark.createDataFrame([("d1", "s", "0", "too_short", 3.0, 50.0, "")], REJECT)
    two = spark.createDataFrame(
        [("d2", "s", "9", "empty", 0.0, 1.0, ""), ("d3", "s", "9", "empty", 0.0, 1.0, "")], REJECT
    )
    assert stage_run("clean").write_rejects(one) == {"too_short": 1}
    assert stage_run("clean", step="it's").write_rejects(two) == {"empty": 2}
    assert stage_run("dedupe").write_rejects(one) == {"too_short": 1}
    again = stage_run("clean")
    assert again.write_rejects(one.limit(0)) == {}
    assert stage_run("clean", step="it's").write_rejects(two.limit(1)) == {"empty": 1}
    left = again.tables.read("rejects").select("stage", "step", "doc_id")
    expected = spark.createDataFrame(
        [("dedupe", "dedupe", "d1"), ("clean", "it's", "d2")], "stage string, step string, doc_id string"
    )
    assert_df_equality(left, expected, ignore_row_order=True, ignore_nullable=True)


def test_rejects_are_completed_with_what_the_stage_does_not_know(spark: SparkSession) -> None:
    known = spark.createDataFrame(
        [(3, "d1", "too_short", "more")], "value int, doc_id string, drop_reason string, other string"
    )
    schema = f"{REJECT}, signals map<string,double>"
    expected = spark.createDataFrame([("d1", None, None, "too_short", 3.0, None, None, None)], schema)
    assert_df_equality(as_rejects(known), expected, ignore_nullable=True)


def test_what_a_run_that_failed_or_died_left_is_not_read(
    spark: SparkSession, tables: Tables, ledger: Ledger, stage_run: Callable[..., StageRun]
) -> None:
    def write(status: str, *values: int) -> None:
        job = put_run(stage_run("clean"), STARTED)
        job.overwrite(numbers(spark, *values), "plain")
        put_run(job, status)

    def pinned() -> tuple[int, list[int]] | None:
        reader = stage_run("dedupe")
        if not reader.exists("plain"):
            return None
        found = sorted(row["n"] for row in reader.read("plain").collect())
        assert reader.input_rows("plain") == len(found)
        return reader.inputs["plain"], found

    write(FAILED, 1)
    assert pinned() is None
    with pytest.raises(TableError, match="sparkml plan"):
        stage_run("dedupe").read("plain")
    write(SUCCEEDED, 2)
    assert pinned() == (1, [2])
    write(STARTED, 3)
    assert pinned() == (1, [2])
    tables.append(numbers(spark, 4), "plain")  # another program adds to what the dead run left
    assert pinned() == (1, [2])
    write(SUCCEEDED, 5, 6)
    assert pinned() == (4, [5, 6])
    tables.append(numbers(spark, 7), "plain")
    assert pinned() == (5, [5, 6, 7])
    write(FAILED, 8)
    tables.overwrite(numbers(spark, 9), "plain")  # another program has replaced it as a whole
    assert pinned() == (7, [9])


def test_a_first_commit_that_died_is_no_table(spark: SparkSession, tables: Tables, lake: str) -> None:
    folder = Path(lake, "plain")
    (folder / "_delta_log").mkdir(parents=True)
    (folder / "part-00000-dead.snappy.parquet").write_bytes(b"half a file")
    (folder / ".part-00000-dead.snappy.parquet.crc").write_bytes(b"")
    assert tables.version("plain") is None
    assert (tables.overwrite(numbers(spark, 1), "plain").version, tables.version("plain")) == (0, 0)
    assert [row["n"] for row in tables.read("plain").collect()] == [1]
