"""Score after changes: only what has changed is compared, and the table comes out as from a comparison of all."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from sparkml.errors import InputError
from sparkml.frame.ledger import FAILED
from tests.spark.test_score import CONFIG as STRICT
from tests.spark.test_score import DOCUMENTS, KEPT_DDL, Documents, Lake, model_folder

__all__ = ["model_folder"]
TABLE = "kept_documents"
CONFIG = STRICT.model_copy(update={"max_error_fraction": 0.9})


@pytest.fixture(scope="module")
def scored_once(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Path:
    """A lake whose first five documents are scored, one of which cannot be."""
    folder = tmp_path_factory.mktemp("scored") / "first"
    found = Lake(spark, folder, model_folder)
    found.put([*DOCUMENTS[:4], ("null", None)])
    found.score(CONFIG)
    return folder


@pytest.fixture
def lake(spark: SparkSession, tmp_path: Path, model_folder: Path, scored_once: Path) -> Lake:
    """Such a lake for each test."""
    shutil.copytree(scored_once, tmp_path / "first")
    return Lake(spark, tmp_path / "first", model_folder)


def place(lake: Lake) -> str:
    return f"delta.`{lake.tables.locate(TABLE).identifier}`"


def append(lake: Lake, documents: Documents) -> None:
    lake.tables.append(lake.spark.createDataFrame(documents, KEPT_DDL), TABLE)


def assert_as_scored_at_once(lake: Lake, folder: Path) -> None:
    """The rows are those of a lake that scores the whole table; of scores the padding decides the last digit."""
    other = Lake(lake.spark, folder, lake.model)
    other.put(lake.tables.read(TABLE))
    other.score(CONFIG)
    found, expected = lake.rows(), other.rows()
    assert sorted(found) == sorted(expected)
    for doc_id, row in expected.items():
        for name in ("prediction", "text_hash", "error", "step", "model_version"):
            assert found[doc_id][name] == row[name]
        assert found[doc_id]["score"] == pytest.approx(row["score"], abs=2e-5)


def test_what_was_appended_is_scored_without_a_look_at_the_rest(lake: Lake, tmp_path: Path) -> None:
    append(lake, DOCUMENTS[5:8])
    append(lake, DOCUMENTS[8:9])
    report = lake.score(CONFIG)
    assert (report.rows_in, report.metrics["compared"], report.metrics["scored"]) == (9, 0, 5)
    assert (report.metrics["tried_again"], report.metrics["scored_before"]) == (1, 4)
    assert_as_scored_at_once(lake, tmp_path / "other")
    report = lake.score(CONFIG)
    assert (report.metrics["compared"], report.metrics["scored"]) == (0, 1)  # the one that fails


@pytest.mark.rare
def test_of_a_change_feed_changed_and_removed_documents_are_known(lake: Lake, tmp_path: Path) -> None:
    lake.spark.sql(f"ALTER TABLE {place(lake)} SET TBLPROPERTIES (delta.enableChangeDataFeed = true)")
    lake.score(CONFIG)
    untouched = lake.rows()["doc-03"]["run_id"]
    lake.spark.sql(f"UPDATE {place(lake)} SET text = 'rewritten' WHERE doc_id = 'doc-01'")
    lake.spark.sql(f"UPDATE {place(lake)} SET text = 'rewritten again' WHERE doc_id = 'doc-01'")
    lake.spark.sql(f"DELETE FROM {place(lake)} WHERE doc_id = 'doc-02'")
    lake.spark.sql(f"DELETE FROM {place(lake)} WHERE doc_id = 'doc-00'")
    append(lake, [DOCUMENTS[0], DOCUMENTS[9]])  # one comes back as it was
    report = lake.score(CONFIG)
    assert (report.rows_in, report.metrics["compared"]) == (5, 0)
    assert (report.metrics["scored"], report.metrics["scored_again"]) == (3, 1)
    assert sorted(lake.rows()) == ["doc-00", "doc-01", "doc-03", "doc-09", "null"]
    assert lake.rows()["doc-03"]["run_id"] == untouched
    assert_as_scored_at_once(lake, tmp_path / "other")


def test_partitions_of_a_table_are_read_as_it_has_them(lake: Lake, tmp_path: Path) -> None:
    frame = lake.spark.createDataFrame(
        [(*row, kind) for row, kind in zip(DOCUMENTS[:3], ["a b/c", None, "1"], strict=True)],
        f"{KEPT_DDL}, kind string",
    )
    lake.tables.overwrite(frame, TABLE, partition_by=["kind"])
    lake.score(CONFIG)
    more = lake.spark.createDataFrame([(*DOCUMENTS[4], "a b/c"), (*DOCUMENTS[5], "x=%y")], frame.schema)
    more.write.format("delta").mode("append").save(lake.tables.locate(TABLE).spark)
    by_kind = CONFIG.model_copy(update={"columns": CONFIG.columns.model_copy(update={"text": "kind"})})
    assert lake.score(CONFIG).metrics["compared"] == 0
    assert_as_scored_at_once(lake, tmp_path / "other")
    # Other columns than before: all of them are compared.
    report = lake.score(by_kind)
    assert (report.metrics["compared"], report.metrics["errors"]) == (5, 1)


@pytest.mark.parametrize("change", ["replaced", "made anew", "scores removed", "a failed run"])
def test_where_changes_do_not_tell_all_everything_is_compared(
    lake: Lake, tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if change == "replaced":
        lake.put(DOCUMENTS[:6])
    elif change == "made anew":
        lake.spark.sql(f"DROP TABLE {place(lake)}")
        lake.put([("doc-00", "other text"), *DOCUMENTS[1:4], ("null", "no more")])
    elif change == "scores removed":
        scores = lake.tables.locate("scores").identifier
        lake.spark.sql(f"DELETE FROM delta.`{scores}` WHERE doc_id = 'doc-02'")
    else:
        append(lake, DOCUMENTS[5:7])
        lake.score(CONFIG, ends=FAILED)
    report = lake.score(CONFIG)
    assert report.metrics["compared"] == report.rows_in
    assert_as_scored_at_once(lake, tmp_path / "other")


def test_a_document_that_is_appended_a_second_time_is_refused(lake: Lake) -> None:
    append(lake, [DOCUMENTS[0]])
    with pytest.raises(InputError, match="same `doc_id`"):
        lake.score(CONFIG)


def test_a_query_chooses_rows_and_columns(lake: Lake) -> None:
    query = "SELECT doc_id, upper(text) AS text FROM {source} WHERE doc_id < 'doc-02'"
    asking = CONFIG.model_copy(update={"query": query})
    report = lake.score(asking, step="some")
    assert (report.rows_in, report.rows_kept) == (2, 2)
    assert sorted(lake.rows("some")) == ["doc-00", "doc-01"]
    lake.put([("doc-00", str(DOCUMENTS[0][1]).upper())], "shouted")
    assert lake.score(CONFIG, step="shouted", table="shouted").rows_in == 1
    assert lake.rows("some")["doc-00"]["text_hash"] == lake.rows("shouted")["doc-00"]["text_hash"]
    report = lake.score(asking.model_copy(update={"query": f"{query} AND doc_id > 'doc-00'"}), step="some")
    assert (report.rows_in, report.metrics["scored"], sorted(lake.rows("some"))) == (1, 0, ["doc-01"])
    with pytest.raises(InputError, match=r"query[\s\S]*no_such_column"):
        lake.score(CONFIG.model_copy(update={"query": "SELECT no_such_column FROM {source}"}))
