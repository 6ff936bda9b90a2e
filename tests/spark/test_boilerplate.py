"""Lines that the pages of a site share go, from its pages alone; what is cut is written down."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pyspark.sql import SparkSession

from sparkml.frame.run import StageRun
from sparkml.frame.tables import Tables
from sparkml.stages.boilerplate import BoilerplateConfig, run, transform, without_lines

Make = Callable[..., StageRun]
MENU, FOOTER = "Home | News | About", "All rights reserved."


def page(n: int) -> str:
    return f"{MENU}\n\nStory {n} begins here.\n\nIt has a second paragraph, number {n}.\n\n{FOOTER}"


ROWS = [
    *((f"a{n}", page(n), f"https://A.com/{n}", 12) for n in range(6)),
    ("menu", f"{MENU}\n{FOOTER}", "https://a.com/menu", 6),
    ("b0", page(0), "https://b.com/0", 12),
    ("none", page(0), None, 12),
    ("bad", page(0), "no url at all: [", 12),
]


@pytest.fixture
def pages(spark: SparkSession, tables: Tables) -> None:
    tables.append(spark.createDataFrame(ROWS, "doc_id string, text string, url string, n_words int"), "pages")


@pytest.mark.usefixtures("pages")
def test_lines_of_a_site_go_from_its_pages(tables: Tables, stage_run: Make) -> None:
    report = run(stage_run("boilerplate"), BoilerplateConfig(source="pages"))
    report.check("boilerplate")
    assert report.reasons == {"only_boilerplate": 1}
    assert (report.metrics["documents_cut"], report.metrics["lines_cut"]) == (7, 14)
    found = {row["doc_id"]: row for row in tables.read("trimmed").collect()}
    assert found["a3"]["text"] == "Story 3 begins here.\n\nIt has a second paragraph, number 3."
    assert found["a3"]["n_words"] == 11
    for untouched in ("b0", "none", "bad"):
        assert (found[untouched]["text"], found[untouched]["n_words"]) == (page(0), 12)
    spans = {
        (row["start"], row["end"]) for row in tables.read("removed_spans").where("doc_id = 'a3'").collect()
    }
    assert {page(3)[start:end] for start, end in spans} == {MENU, FOOTER}


@pytest.mark.usefixtures("pages")
def test_neither_order_nor_partitions_change_a_text(tables: Tables) -> None:
    config = BoilerplateConfig(source="pages", min_pages=2)
    plain, mixed = (
        {row["doc_id"]: row["text"] for row in transform(frame, config).collect()}
        for frame in (tables.read("pages"), tables.read("pages").orderBy("text").repartition(5))
    )
    assert plain == mixed


def test_a_text_without_its_lines() -> None:
    assert without_lines("a\n\nb", frozenset(), 10) == ("a\n\nb", [])
