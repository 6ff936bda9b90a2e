"""Tables without a JVM: commits and their runs, what counts as published, leftovers of a first commit that died."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from sparkml.errors import StorageError, TableError
from sparkml.frame.delta import RETENTION
from sparkml.frame.tables import Tables


def no_session() -> object:
    raise AssertionError("this needs no Spark")


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    return Tables(str(tmp_path), no_session)  # type: ignore[arg-type]


def rows(*values: int) -> pa.Table:
    return pa.table({"doc_id": [f"d{value}" for value in values], "n": values})


def put(tables: Tables, run_id: str | None, *values: int) -> int:
    return tables.log("plain").append(rows(*values), {"run_id": run_id} if run_id else {})


def test_versions_identity_rows_and_commits(tables: Tables, tmp_path: Path) -> None:
    log = tables.log("plain")
    assert (log.version(), list(log.commits()), log.table_id()) == (None, [], "")
    assert (put(tables, "r1", 1, 2), put(tables, "r2", 3)) == (0, 1)
    assert [(commit.version, commit.run_id, commit.rows) for commit in log.commits()] == [
        (1, "r2", 1),
        (0, "r1", 2),
    ]
    assert (log.count(0), log.count(1)) == (2, 3)
    assert log.read(0).column("n").to_pylist() == [1, 2]
    first = log.table_id()
    shutil.rmtree(tmp_path / "plain")
    put(tables, "r3", 1)
    assert log.table_id() not in ("", first)


def test_rows_of_a_document_are_found_by_value_and_in_lists(tables: Tables) -> None:
    data = pa.table({"doc_id": ["a", "o'b"], "doc_ids": [["x", "y"], ["o'b"]]})
    tables.log("plain").append(data, {})
    log = tables.log("plain")
    assert [row["doc_id"] for row in log.find("doc_id", "o'b", 0, 5)] == ["o'b"]
    assert [row["doc_id"] for row in log.find("doc_ids", "y", 0, 5)] == ["a"]
    assert log.find("doc_id", "' OR '1'='1", 0, 5) == []
    assert log.find("no_such_column", "a", 0, 5) == []


def test_a_look_up_may_say_what_else_the_row_holds(tables: Tables) -> None:
    data = pa.table({"doc_ids": [["x"], ["x", "y"]], "bucket": [1, 2]})
    tables.log("plain").append(data, {})
    log = tables.log("plain")
    assert [row["bucket"] for row in log.find("doc_ids", "x", 0, 5, {"bucket": 2, "no_such_column": 7})] == [
        2
    ]
    assert log.find("doc_ids", "y", 0, 5, {"bucket": 1}) == []


def test_rows_are_counted_by_value_within_a_slice_and_a_version(tables: Tables) -> None:
    log = tables.log("plain")
    log.append(pa.table({"step": ["it's", "it's", "b", "it's"], "reason": ["y", "x", "x", "y"]}), {})
    log.append(pa.table({"step": ["it's"], "reason": ["x"]}), {})
    assert list(log.counts("reason", 0, {"step": "it's"}).items()) == [("x", 1), ("y", 2)]
    assert log.counts("reason", 1, {"step": "it's"}) == {"x": 2, "y": 2}
    assert log.counts("reason", 1, {"step": "none"}) == {}


def test_what_is_named_stays_readable_for_years(tables: Tables, tmp_path: Path) -> None:
    put(tables, "r1", 1)
    log = (tmp_path / "plain" / "_delta_log" / "00000000000000000000.json").read_text()
    assert all(key in log for key in RETENTION)
    assert "3650 days" in log


@pytest.mark.parametrize(
    ("history", "unfinished", "published"),
    [
        (["r1", "r2"], set(), 1),
        (["r1", "r2"], {"r2"}, 0),
        (["r1"], {"r1"}, None),
        (["r1", "r2", "r3"], {"r2"}, 2),
        (["r1", None], set(), 1),
        (["r1", "r2", None], {"r2"}, 0),
        (["r1", None, "r2"], {"r2"}, 1),
        ([None, "r2", None], {"r2"}, 0),
        (["r2", None], {"r2"}, None),
    ],
)
def test_what_a_run_that_did_not_succeed_left_is_not_published(
    tables: Tables, history: list[str | None], unfinished: set[str], published: int | None
) -> None:
    for number, run_id in enumerate(history):
        put(tables, run_id, number)
    assert tables.published("plain", unfinished) == published


@pytest.mark.parametrize(
    ("history", "unfinished", "published"),
    [
        (["r1", "OPTIMIZE"], set(), 0),
        (["r1", "r2", "OPTIMIZE"], {"r2"}, 0),
        (["r1", "OPTIMIZE", None], set(), 2),
        (["r1", None, "OPTIMIZE"], set(), 2),
        (["r1", "OPTIMIZE", "r2", "OPTIMIZE"], set(), 2),
        ([None, "OPTIMIZE"], set(), 1),
    ],
)
def test_rows_arranged_anew_are_no_new_version_of_a_table_of_ours(
    tables: Tables, tmp_path: Path, history: list[str | None], unfinished: set[str], published: int
) -> None:
    for number, run_id in enumerate(history):
        if run_id == "OPTIMIZE":
            DeltaTable(str(tmp_path / "plain")).optimize.z_order(["n"])  # every file is written anew
        else:
            put(tables, run_id, number)
    assert tables.version("plain") == len(history) - 1
    assert tables.published("plain", unfinished) == published


def test_the_files_of_a_slice_are_told_by_its_partition(tables: Tables, tmp_path: Path) -> None:
    def foreign(step: str, n: int, **how: object) -> int:
        rows = pa.table({"step": [step], "n": [n]})
        write_deltalake(str(tmp_path / "plain"), rows, partition_by=["step"], **how)  # type: ignore[call-overload]
        return tables.version("plain") or 0

    log, first = tables.log("plain"), foreign("a", 1)
    other = foreign("b", 2, mode="append")
    assert log.has_same_slice(first, other, {"step": "a"})
    more = foreign("a", 3, mode="append")
    assert not log.has_same_slice(other, more, {"step": "a"})
    assert log.has_same_slice(other, more, {"step": "b"})
    DeltaTable(str(tmp_path / "plain")).delete("step = 'b'")
    assert not log.has_same_slice(more, more + 1, {"step": "b"})


def test_without_partitions_only_files_that_went_may_have_held_a_slice(
    tables: Tables, tmp_path: Path
) -> None:
    first, second = put(tables, "r1", 1), put(tables, None, 2)
    assert tables.log("plain").has_same_slice(first, second, {"step": "a"})
    DeltaTable(str(tmp_path / "plain")).delete("n = 1")
    assert not tables.log("plain").has_same_slice(first, second + 1, {"step": "a"})


def test_a_first_commit_that_died_counts_as_no_table(tables: Tables, tmp_path: Path) -> None:
    put(tables, "r1", 1)
    folder = tmp_path / "plain"
    (folder / "_delta_log" / "00000000000000000000.json").unlink()
    (folder / ".part-0.parquet.crc").write_bytes(b"crc")
    assert list(folder.glob("*.parquet"))
    assert tables.version("plain") is None
    assert put(tables, "r2", 7) == 0
    assert tables.log("plain").read().column("n").to_pylist() == [7]


def test_somebody_elses_folder_is_refused_and_left_alone(tables: Tables, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "notes.txt").write_text("mine")
    with pytest.raises(TableError, match="not a Delta table") as caught:
        tables.version("plain")
    assert "notes.txt" in caught.value.got
    (tmp_path / "file").write_text("x")
    with pytest.raises(TableError, match="not a Delta table"):
        tables.version("file")


def test_a_missing_table_names_what_to_run(tables: Tables) -> None:
    with pytest.raises(TableError, match="sparkml plan"):
        tables.log("clean").read()


def test_a_version_that_is_not_there_is_told(tables: Tables) -> None:
    put(tables, "r1", 1)
    with pytest.raises(TableError, match="version 7 of table `plain` cannot be read"):
        tables.log("plain").read(7)


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises((StorageError, TableError)):
        Tables(str(tmp_path / "file"), no_session).log("plain").append(rows(1), {})  # type: ignore[arg-type]
