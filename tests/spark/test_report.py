"""The report of a lake whose every figure was worked out by hand; and of lakes that lack something."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from sparkml.frame.runs import StageRun

from sparkml.frame.schemas import BRONZE, DUPLICATES, MODELS, REJECTS, RUNS, SCORES
from sparkml.frame.tables import Tables
from sparkml.report.contents import Contents
from sparkml.report.duplicates import Kind
from sparkml.report.page import render
from sparkml.stages.report import gather, run
from tests.spark.report_lake import (
    CLEAN_IDS,
    CONFIG,
    KEPT,
    KEPT_IDS,
    REJECTED,
    REPEATED,
    SHAPE,
    STAGES,
    TEXTS,
    bronze,
    documents,
    ledger,
    report_job,
    write_all,
)


@pytest.fixture(scope="module")
def golden_lake(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake that every stage has passed over, with literal rows."""
    lake = tmp_path_factory.mktemp("golden") / "lake"
    write_all(Tables(spark, str(lake)), spark, lake / "_artifacts", lambda frame: frame.coalesce(1))
    return lake


@pytest.fixture(scope="module")
def golden(spark: SparkSession, golden_lake: Path) -> Contents:
    return gather(report_job(spark, golden_lake), CONFIG)


def test_golden_funnel(golden: Contents) -> None:
    assert golden.funnel is not None
    n_bytes = {
        ids: sum(len(TEXTS[i].encode()) for i in ids)
        for ids in (tuple(TEXTS), tuple(CLEAN_IDS), tuple(KEPT_IDS))
    }
    assert [(step.name, step.documents, step.bytes, step.lost) for step in golden.funnel.steps] == [
        ("source", 9, None, None),
        ("ingest", 8, n_bytes[tuple(TEXTS)], 1),
        ("clean", 5, n_bytes[tuple(CLEAN_IDS)], 3),
        ("dedupe", 3, n_bytes[tuple(KEPT_IDS)], 2),
        ("shard", 3, None, 0),
        ("score", 2, None, 1),
    ]
    assert [(fate.name, fate.documents) for fate in golden.funnel.fates] == [
        ("kept", 3),
        ("rejected by ingest", 1),
        ("rejected by clean", 3),
        ("duplicates", 2),
    ]
    assert (golden.funnel.source_bytes, golden.funnel.tokens, golden.funnel.samples) == (4000, 60.0, 2.0)


def test_golden_rejects(golden: Contents) -> None:
    assert golden.rejects is not None
    assert [(stage.stage, stage.documents, stage.rows_in) for stage in golden.rejects.stages] == [
        ("ingest", 1, 9),
        ("clean", 3, 8),
    ]
    ingest, clean = golden.rejects.stages
    words, symbols = clean.reasons
    assert (words.name, words.documents, words.share, words.bar) == ("too_few_words", 2, 0.25, 1.0)
    assert (words.low, words.high, words.thresholds) == (2.0, 4.0, (5.0,))
    assert sorted((one.doc_id, one.value, one.text) for one in words.examples) == [
        ("s1", 2.0, "Too short."),
        ("s2", 4.0, "<b>Short</b> & bold"),
    ]
    assert (symbols.name, symbols.documents, symbols.bar, symbols.median) == ("too_many_symbols", 1, 0.5, 4.0)
    refused = ingest.reasons[0].examples[0]
    assert (refused.source, refused.detail, refused.text) == (
        "file:///data/part-1.jsonl.gz#7",
        "line 7: <oops>",
        "",
    )


def test_golden_duplicates(golden: Contents) -> None:
    found = golden.duplicates
    assert found is not None
    assert (found.documents, found.clusters, found.largest, found.threshold) == (2, 1, 3, 0.7)
    assert found.kinds == (Kind("exact", 1, 0.5, 1.0), Kind("near", 1, 0.5, 0.8125))
    assert (found.size_labels, found.size_counts) == (("2", "3–4"), (0, 1))
    assert (found.edges[0], found.edges[-1], sum(found.similarities)) == (0.6, 1.0, 1)
    assert found.similarities[10] == 1  # [0.80, 0.82)
    assert [(one.documents, one.kept_id, one.name, one.text) for one in found.top] == [
        (3, "a1", "title a1", SHAPE)
    ]
    (pair,) = found.pairs
    assert (pair.doc_id, pair.partner_id, pair.is_kept, pair.similarity) == ("a3", "a1", True, 0.8125)
    assert [piece.text for piece in pair.comparison.left if piece.kind == "changed"] == ["ones."]
    assert [piece.text for piece in pair.comparison.right if piece.kind == "changed"] == ["zeros."]


def test_golden_models(golden: Contents) -> None:
    trained, tuned, small = golden.training, golden.finetuning, golden.compression
    assert trained is not None
    assert (trained.model, trained.loss, trained.validation) == (
        "encoder/v1",
        ((1.0, 8.0), (2.0, 6.0)),
        ((2.0, 6.5),),
    )
    assert trained.mean_tokens_per_second == 200.0
    assert tuned is not None
    assert tuned.random is not None
    assert (tuned.model, tuned.pretrained.accuracy, tuned.random.accuracy) == ("classifier/v1", 0.75, 0.5)
    assert [(one.label, one.support, one.random_f1) for one in tuned.labels] == [
        ("numpy", 3, 6 / 7),
        ("evil<b>", 1, 2 / 3),
    ]
    assert (tuned.matrix_labels, tuned.matrix) == (("numpy", "evil<b>"), ((3.0, 0.0), (1.0, 0.0)))
    assert (tuned.majority, tuned.documents, tuned.train_documents) == (0.75, 4, 9)
    assert tuned.random.held_out_accuracy == ((1.0, 0.5),)
    assert small is not None
    assert (small.smaller, small.faster, small.flipped) == (4.0, 2.5, 1)
    lines = {one.name: (one.before, one.after, one.change) for one in small.measures}
    assert lines["accuracy"] == ("0.750", "0.700", "−0.050")
    assert lines["size"] == ("8.0 MB", "2.0 MB", "× 0.25")


def test_golden_scores(golden: Contents) -> None:
    found = golden.scores
    assert found is not None
    # The model that the last scoring applied, though an older one has seen a later version of the input.
    assert (found.newest.name, found.newest.documents, found.newest.errors) == ("classifier-int8/v1", 3, 1)
    assert [one.name for one in found.older] == ["classifier/v3"]
    assert [(one.label, one.documents, one.share) for one in found.predictions] == [
        ("evil<b>", 1, 0.5),
        ("numpy", 1, 0.5),
    ]
    assert [(at, n) for at, n in enumerate(found.histogram) if n] == [
        (13, 1),
        (22, 1),
    ]  # 0.55 and 0.9 in 25 bins
    assert found.errors == (("too long", 1),)
    assert [(one.doc_id, one.score, one.label, one.runners_up) for one in found.unsure] == [
        ("b1", 0.55, "evil<b>", (("numpy", 0.45),)),
        ("a1", 0.9, "numpy", (("evil<b>", 0.1),)),
    ]


def test_golden_stages(golden: Contents) -> None:
    assert golden.stages is not None
    assert golden.stages.seconds == 10.0
    rows = {row.name: row for row in golden.stages.rows}
    assert [name for name, row in rows.items() if row.run_id is None] == ["train", "finetune", "compress"]
    assert (rows["dedupe"].megabytes_per_second, rows["dedupe"].rows_per_second) == (0.00075, 1.25)
    assert (rows["dedupe"].inputs, rows["dedupe"].outputs) == (("clean@0",), ("kept@0", "duplicates@0"))
    assert [row.stale for row in rows.values()] == [()] * 8
    assert [(one.run_id, one.error) for one in golden.stages.failures] == [("run-old", "the disk is full")]
    assert (golden.provenance.code_version, golden.provenance.git_commit) == ("0.1.0", "c" * 40)
    assert golden.provenance.packages == (("torch", "2.13"),)


def test_run_twice_gives_the_same_page(spark: SparkSession, golden_lake: Path, golden: Contents) -> None:
    job = report_job(spark, golden_lake)
    report = run(job, CONFIG)
    report.check("report")
    assert (report.rows_in, report.rows_kept) == (8, 8)
    assert job.inputs["kept"] == 0
    page = (golden_lake / "_artifacts" / "report" / "report.html").read_text(encoding="utf-8")
    assert len(page.encode()) == report.metrics["bytes"] < 200_000
    # `golden` was gathered by another run over the same lake.
    assert page == render(replace(golden, run_id=job.run_id, written_at=job.started_at))
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "日本語" in page


def test_row_order_and_partitions_do_not_matter(
    spark: SparkSession, golden: Contents, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    tables = Tables(spark, str(lake))

    def upside_down(frame: DataFrame) -> DataFrame:
        rows = frame.collect()[::-1]
        return spark.createDataFrame(rows, frame.schema).repartition(3)

    write_all(tables, spark, lake / "_artifacts", upside_down)
    found = gather(report_job(spark, lake), CONFIG)
    for name in ("funnel", "rejects", "duplicates", "scores", "stages", "provenance"):
        assert getattr(found, name) == getattr(golden, name)


def test_an_empty_lake_gives_a_page(stage_run: Callable[..., StageRun], tmp_path: Path) -> None:
    report = run(stage_run("report"), CONFIG)
    assert (report.rows_in, report.rows_kept) == (0, 0)
    page = (tmp_path / "artifacts" / "report" / "report.html").read_text(encoding="utf-8")
    assert page.count('class="missing"') == 8
    assert "No documents yet: the stage ingest has not run on this lake." in page


def test_tables_without_rows_give_a_page(
    stage_run: Callable[..., StageRun], write_table: Callable[..., int], tmp_path: Path
) -> None:
    for ref, schema in (
        ("bronze", BRONZE),
        ("clean", KEPT),
        ("kept", KEPT),
        ("rejects", REJECTS),
        ("duplicates", DUPLICATES),
        ("scores", SCORES),
        ("models", MODELS),
    ):
        write_table(ref, [], schema)
    report = run(stage_run("report"), CONFIG)
    assert report.rows_kept == 3
    page = (tmp_path / "artifacts" / "report" / "report.html").read_text(encoding="utf-8")
    for sentence in (
        "The source held no documents.",
        "No document was rejected.",
        "No duplicates were found.",
    ):
        assert sentence in page


def test_a_lake_that_ends_at_dedupe_with_nulls_in_it(
    stage_run: Callable[..., StageRun], write_table: Callable[..., int]
) -> None:
    nothing = ("n1", None, None, None, None, None, None, None, None, None, None, None, None, None)
    write_table("bronze", [*bronze(), nothing], BRONZE)
    write_table("clean", documents(CLEAN_IDS), KEPT)
    write_table("kept", documents(KEPT_IDS), KEPT)
    write_table("rejects", [*REJECTED, ("clean", "n1", None, None, None, None, None, None, None)], REJECTS)
    write_table("duplicates", [*REPEATED, ("gone", None, "z", "z", "z", None, None)], DUPLICATES)
    write_table("_runs", ledger([*STAGES[:3], ("clean", 8, 5, 0, 1.0, [], [("clean", 4)], {})]), RUNS)
    contents = gather(stage_run("report"), CONFIG)
    assert contents.shown() == ("funnel", "rejects", "duplicates", "stages")
    assert contents.rejects is not None
    assert [one.name for one in contents.rejects.stages[1].reasons] == [
        "too_few_words",
        "(no reason)",
        "too_many_symbols",
    ]
    assert contents.stages is not None
    assert {row.name: row.stale for row in contents.stages.rows}["dedupe"] == ("clean is now at version 4",)
    page = render(contents)
    assert "No scores yet: the stage score has not run on this lake." in page
    assert "dedupe is out of date" in page
