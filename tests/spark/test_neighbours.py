"""The stage neighbours: every query vector with the nearest ones of a corpus, whatever the blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import Row, SparkSession

from sparkml.errors import InputError
from sparkml.frame.ledger import STARTED, SUCCEEDED, Ledger
from sparkml.frame.schemas import SCORES, without_run
from sparkml.frame.spark_schemas import spark_schema
from sparkml.frame.stage import RunReport
from sparkml.frame.tables import Tables
from sparkml.report.config import ReportConfig
from sparkml.report.lake import Lake
from sparkml.report.neighbours import gather
from sparkml.report.view import StepView
from sparkml.stages.neighbours import NeighboursConfig, run
from tests.runs import new_run, put_run

VECTORS = "doc_id string, embedding array<float>"
CONFIG = NeighboursConfig(queries="queries", corpus="corpus", k=2)
QUERIES = [("q1", [2.0, 0.0]), ("q2", [0.0, 1.0]), ("c1", [1.0, 1.0])]
CORPUS = [("c1", [1.0, 1.0]), ("c2", [3.0, 0.0]), ("c3", [3.0, 4.0])]
HALF = 0.5**0.5
GOLDEN = [
    ("c1", 1, "c1", 1.0),
    ("c1", 2, "c3", 7 * HALF / 5),
    ("q1", 1, "c2", 1.0),
    ("q1", 2, "c1", HALF),
    ("q2", 1, "c3", 0.8),
    ("q2", 2, "c1", HALF),
]
Search = Callable[..., RunReport]


@pytest.fixture
def search(tables: Tables, write_table: Callable[..., int], tmp_path: Path) -> Search:
    """Writes both tables, where they are given, and runs the stage."""

    def run_stage(
        queries: Any = None, corpus: Any = None, config: NeighboursConfig = CONFIG, step: str = "neighbours"
    ) -> RunReport:
        for name, rows in (("queries", queries), ("corpus", corpus)):
            if rows is not None:
                write_table(name, rows, VECTORS)
        job = put_run(
            new_run(tables, Ledger(tables), tmp_path / "artifacts", "neighbours", step=step), STARTED
        )
        report = run(job, config)
        report.check(step)
        put_run(job, SUCCEEDED, report)
        return report

    return run_stage


def rows_of(tables: Tables, step: str = "neighbours") -> list[tuple[Any, ...]]:
    found = tables.read("neighbours").where(f"step = '{step}'").orderBy("doc_id", "rank")
    return [tuple(row) for row in found.select("doc_id", "rank", "neighbour_id", "similarity").collect()]


def rejects_of(tables: Tables) -> set[tuple[Any, ...]]:
    columns = ("stage", "step", "doc_id", "drop_reason", "value", "threshold", "detail")
    return {tuple(row) for row in tables.read("rejects").select(*columns).collect()}


def test_golden_rows(search: Search, tables: Tables) -> None:
    report = search(QUERIES, CORPUS)
    found = rows_of(tables)
    assert [row[:3] for row in found] == [row[:3] for row in GOLDEN]
    assert [row[3] for row in found] == pytest.approx([row[3] for row in GOLDEN], abs=1e-7)
    assert (report.rows_in, report.rows_kept, report.rows_rejected, report.reasons) == (6, 6, 0, {})
    assert (report.metrics["queries"], report.metrics["corpus"], report.metrics["pairs"]) == (3, 3, 6)


def test_a_query_need_not_find_itself_nor_what_is_far(search: Search, tables: Tables) -> None:
    report = search(QUERIES, CORPUS, CONFIG.model_copy(update={"exclude_self": True, "min_similarity": 0.75}))
    assert [row[:3] for row in rows_of(tables)] == [("c1", 1, "c3"), ("q1", 1, "c2"), ("q2", 1, "c3")]
    assert report.rows_rejected == 0
    report = search(config=CONFIG.model_copy(update={"exclude_self": True, "min_similarity": 0.995}))
    assert [row[:3] for row in rows_of(tables)] == [("q1", 1, "c2")]
    assert report.reasons == {"query_without_neighbour": 2}
    assert rejects_of(tables) == {
        ("neighbours", "neighbours", name, "query_without_neighbour", None, 0.995, None)
        for name in ("q2", "c1")
    }


@pytest.mark.rare
def test_neither_blocks_nor_partitions_nor_order_change_a_bit(
    spark: SparkSession, search: Search, tables: Tables
) -> None:
    rng = np.random.default_rng(11)
    queries, corpus = (
        [
            (f"{name}{n:03d}", row.tolist())
            for n, row in enumerate(rng.normal(size=(size, 24)).astype(np.float32))
        ]
        for name, size in (("q", 60), ("c", 150))
    )
    corpus[40:60] = [(doc_id, corpus[40][1]) for doc_id, _ in corpus[40:60]]  # ties
    queries[7] = ("q007", corpus[50][1])
    five = CONFIG.model_copy(update={"k": 5})
    search(queries, corpus, five)
    found = rows_of(tables)
    left, right = (np.array([row for _, row in side]) for side in (queries, corpus))
    cosines = (left / np.linalg.norm(left, axis=1)[:, None]) @ (
        right / np.linalg.norm(right, axis=1)[:, None]
    ).T
    for number, row in enumerate(np.round(cosines, 6)):
        nearest = sorted(range(150), key=lambda place: (-row[place], place))[:5]
        mine = found[5 * number : 5 * number + 5]
        assert [one[2] for one in mine] == [f"c{place:03d}" for place in nearest]
        assert [one[3] for one in mine] == pytest.approx(cosines[number][nearest], abs=1e-6)
    shuffled = [
        spark.createDataFrame(side[::-1], VECTORS).repartition(parts)
        for side, parts in ((queries, 3), (corpus, 5))
    ]
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "7")
    try:
        search(*shuffled, five.model_copy(update={"n_query_blocks": 3, "n_corpus_blocks": 4}))
    finally:
        spark.conf.unset("spark.sql.execution.arrow.maxRecordsPerBatch")
    assert rows_of(tables) == found


def test_run_twice_the_table_is_the_same_and_another_steps_rows_stay(search: Search, tables: Tables) -> None:
    search(QUERIES, CORPUS)
    first = rows_of(tables)
    search(step="another")
    search()
    assert rows_of(tables) == rows_of(tables, "another") == first
    assert tables.read("neighbours").count() == 2 * len(first)


def test_empty_input(search: Search, tables: Tables) -> None:
    report = search([], [])
    assert (report.rows_in, report.rows_kept, rows_of(tables)) == (0, 0, [])
    report = search(QUERIES, [])
    assert (report.rows_in, report.rows_kept) == (3, 0)
    assert report.reasons == {"query_without_neighbour": 3}
    report = search([], CORPUS)
    assert (report.rows_in, report.rows_kept, report.rows_rejected) == (3, 3, 0)


def test_what_has_no_usable_vector_becomes_a_reject(search: Search, tables: Tables) -> None:
    nan = float("nan")
    broken = [
        ("null", None),
        ("short", [1.0]),
        ("nan", [nan, 1.0]),
        ("hole", [None, 1.0]),
        ("far", [float("inf"), 0.0]),
        ("zero", [0.0, -0.0]),
        (None, [1.0, 0.0]),
        ("empty", []),
    ]
    report = search([*QUERIES, ("null", None), ("long", [1.0, 2.0, 3.0])], [*CORPUS, *broken])
    assert [row[:3] for row in rows_of(tables)] == [row[:3] for row in GOLDEN]
    found = {
        (doc_id, reason, value, threshold) for _, _, doc_id, reason, value, threshold, _ in rejects_of(tables)
    }
    assert found == {
        ("null", "query_vector_missing", None, None),
        ("long", "query_vector_of_other_width", 3.0, 2.0),
        ("null", "corpus_vector_missing", None, None),
        ("short", "corpus_vector_of_other_width", 1.0, 2.0),
        ("empty", "corpus_vector_of_other_width", 0.0, 2.0),
        *((name, "corpus_vector_not_finite", None, None) for name in ("nan", "hole", "far")),
        ("zero", "corpus_vector_without_direction", None, None),
        (None, "corpus_doc_id_missing", None, None),
    }
    assert (report.rows_in, report.rows_kept, report.rows_rejected) == (16, 6, 10)


def scores(rows: list[tuple[Any, ...]]) -> list[Row]:
    """Rows of the table scores: doc_id, step, model version, embedding, error."""
    schema = spark_schema(without_run(SCORES))
    names = ("doc_id", "step", "model_version", "embedding", "error")
    return [
        tuple(
            ({**dict(zip(names, row, strict=True)), "model_id": "answers"}).get(name) for name in schema.names
        )  # type: ignore[misc]
        for row in rows
    ]


def test_of_scores_the_rows_of_two_steps_and_one_model_are_meant(
    search: Search, tables: Tables, write_table: Callable[..., int], tmp_path: Path
) -> None:
    rows = [
        ("a", "asked", 2, [1.0, 0.0], None),
        ("b", "asked", 2, None, "text_missing empty"),
        ("a", "said", 2, [0.0, 1.0], None),
        ("c", "said", 2, [1.0, 1.0], None),
    ]
    write_table("named_scores", scores(rows), without_run(SCORES))
    config = NeighboursConfig(
        queries="named_scores", corpus="named_scores", queries_step="asked", corpus_step="said", k=1
    )
    report = search(config=config)
    assert [row[:3] for row in rows_of(tables)] == [("a", 1, "c")]
    (row,) = tables.read("neighbours").collect()
    assert (row["model_id"], row["model_version"]) == ("answers", 2)
    assert rejects_of(tables) == {
        ("neighbours", "neighbours", "b", "query_vector_missing", None, None, "text_missing empty")
    }
    assert (report.rows_in, report.rows_kept) == (4, 3)
    (done,) = Ledger(tables).runs()
    job = new_run(tables, Ledger(tables), tmp_path / "artifacts", "neighbours")
    facts = gather(StepView(Lake(job, ReportConfig()), replace(done, config=config.model_dump_json())))
    assert facts is not None
    assert facts.lead.startswith(
        "1 of 1 queries have a neighbour among 2; the nearest one has a cosine of 0.707 to"
    )
    assert [table.rows for table in facts.tables] == [[["a", "c", 0.7071]]] * 2
    write_table("named_scores", scores([*rows, ("d", "said", 3, [1.0, 0.0], None)]), without_run(SCORES))
    with pytest.raises(InputError, match=r"several models[\s\S]*answers/v2, answers/v3"):
        search(config=config)


def test_what_cannot_be_searched_is_an_error_at_once(search: Search, write_table: Callable[..., int]) -> None:
    with pytest.raises(InputError, match=r"several rows of the corpus side[\s\S]*'c1'"):
        search(QUERIES, [*CORPUS, ("c1", [5.0, 5.0])])
    with pytest.raises(InputError, match="lacks columns"):
        search(config=CONFIG.model_copy(update={"queries_step": "asked"}))
