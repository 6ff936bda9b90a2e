"""The report of a lake whose every figure was worked out by hand; and of lakes that lack something."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

import sparkml.stages
from sparkml.frame.effects import watched_effects
from sparkml.frame.schemas import BRONZE, DUPLICATES, REJECTS, SCORES
from sparkml.report.contents import Contents, gather
from sparkml.report.duplicates import Kind
from sparkml.report.page import render
from sparkml.report.section import KeyFigure
from sparkml.stages.report import run
from tests.spark.report_lake import (
    CLEAN_IDS,
    KEPT,
    KEPT_IDS,
    LIMITS,
    RUNS_DONE,
    SHAPE,
    SHORT,
    TEXTS,
    bronze,
    documents,
    models,
    put,
    reject,
    report_job,
    run_of,
    upside_down_in_many_files,
    write_all,
    write_ledger,
)
from tests.unit.report.page_reader import Page

STEP_SECTIONS = [
    "clean.signals",
    "dedupe.duplicates",
    "shard.samples",
    "train.training",
    "tone.evaluation",
    "topics.evaluation",
    "small.compression",
    "smaller.compression",
    "by_topic.scores",
    "by_tone.scores",
]


@pytest.fixture(scope="module")
def golden_lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake that every stage has passed over, with literal rows and traps."""
    lake = tmp_path_factory.mktemp("golden") / "lake"
    write_all(lake)
    return lake


@pytest.fixture(scope="module")
def golden(spark: SparkSession, golden_lake: Path) -> Contents:
    return gather(report_job(spark, golden_lake), LIMITS)


@pytest.fixture(scope="module")
def golden_page(golden: Contents) -> Page:
    return Page(render(golden))


def contents_of(contents: Contents, anchor: str) -> Any:
    return next(part.contents for part in contents.parts if part.anchor == anchor)


def test_every_step_has_its_sections_in_the_order_of_what_they_read(golden_page: Page) -> None:
    assert golden_page.sections == ["summary", "funnel", "rejects", *STEP_SECTIONS, "steps"]
    assert golden_page.text("dedupe.duplicates").startswith("Duplicates step dedupe 2 documents repeat")
    assert golden_page.text("topics.evaluation").startswith("Evaluation: topics Accuracy 0.750 ")
    assert golden_page.text("by_tone.scores").startswith(
        "Scores: by_tone tone/v1 scored 3 documents of kept@0"
    )


def test_nothing_but_what_the_ledger_names_is_read(golden: Contents, golden_page: Page) -> None:
    page = render(golden)
    assert "TRAP" not in page
    assert "password" not in page
    assert "abc" not in page
    assert "s3://***@bucket/src.py?***#7" in page
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "日本語" in page
    assert len(golden_page.ids) == len(set(golden_page.ids))


def test_the_funnel_follows_from_what_steps_read_and_write(golden: Contents, golden_page: Page) -> None:
    funnel = contents_of(golden, "funnel")
    n_bytes = [sum(len(TEXTS[i].encode()) for i in ids) for ids in (TEXTS, CLEAN_IDS, KEPT_IDS)]
    assert [(s.step, s.rows_in, s.kept, s.rejected, s.bytes) for s in funnel.steps] == [
        ("ingest", 9, 8, 1, n_bytes[0]),
        ("clean", 8, 5, 3, n_bytes[1]),
        ("dedupe", 5, 3, 2, n_bytes[2]),
        ("shard", 3, 3, 0, None),
        ("tone", 3, 3, 0, None),
        ("topics", 3, 2, 1, None),
        ("by_topic", 3, 2, 1, None),
        ("by_tone", 3, 3, 0, None),
        ("old", 5, 4, 1, None),
    ]
    assert [step.share for step in funnel.steps[:3]] == [8 / 9, 5 / 9, 3 / 9]
    assert funnel.steps[2].bytes_share == n_bytes[2] / n_bytes[0]
    assert (funnel.steps[5].takes, funnel.steps[5].writes) == (("kept", "duplicates"), ("model topics",))
    assert (funnel.steps[6].takes, funnel.steps[6].writes) == (("kept",), ("scores",))
    (chain,) = funnel.chains
    assert chain.steps == ("ingest", "clean", "dedupe")
    assert (chain.source_bytes, chain.bytes_left) == (4000, n_bytes[2])
    assert [(fate.name, fate.documents, fate.reasons) for fate in chain.fates] == [
        ("left after dedupe", 3, ""),
        ("rejected by ingest", 1, ""),
        ("rejected by clean", 3, "too_few_words 2, too_many_symbols 1"),
        ("rejected by dedupe", 2, ""),
    ]
    said = golden_page.text("funnel")
    assert "each of the 9 records that ingest read from 4.0 kB of input" in said
    assert "old clean, s3://***@bucket/extra → aged, rejects 5 4 44.4 % 1" in said


def test_rejects_are_told_by_step_and_reason(golden: Contents, golden_page: Page) -> None:
    rejects = contents_of(golden, "rejects")
    assert [(step.step, step.stage, step.documents, step.rows_in) for step in rejects.steps] == [
        ("ingest", "ingest", 1, 9),
        ("clean", "clean", 3, 8),
        ("topics", "finetune", 1, 3),
        ("old", "retired", 1, 5),
    ]
    ingest, clean, topics, old = rejects.steps
    words, symbols = clean.reasons
    assert (words.name, words.documents, words.share, words.bar) == ("too_few_words", 2, 0.25, 1.0)
    assert (words.low, words.high, words.thresholds) == (2.0, 4.0, (5.0,))
    assert sorted((one.doc_id, one.value, one.text) for one in words.examples) == [
        ("s1", 2.0, "Too short."),
        ("s2", 4.0, "<b>Short</b> & bold"),
    ]
    assert (symbols.name, symbols.documents, symbols.bar, symbols.median) == ("too_many_symbols", 1, 0.5, 4.0)
    refused = ingest.reasons[0].examples[0]
    assert (refused.detail, refused.text) == ("line 7: <oops>", "")
    # Each with its text from the table that its step read.
    assert topics.reasons[0].examples[0].text == TEXTS["b1"]
    assert (old.reasons[0].name, old.reasons[0].examples[0].text) == ("out_of_date", TEXTS["c1"])
    assert "topics finetune, 1 rejected of 3 read" in golden_page.text("rejects")


def test_duplicates_are_compared_with_the_texts_that_were_read(golden: Contents) -> None:
    found = contents_of(golden, "dedupe.duplicates")
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


def test_each_training_shows_the_model_that_it_made(golden: Contents) -> None:
    trained = contents_of(golden, "train.training")
    assert (trained.model, trained.loss, trained.validation) == (
        "encoder/v1",
        ((1.0, 8.0), (2.0, 6.0)),
        ((2.0, 6.5),),
    )
    assert trained.mean_tokens_per_second == 200.0
    topics, tone = contents_of(golden, "topics.evaluation"), contents_of(golden, "tone.evaluation")
    assert (topics.values["model"], topics.values["measured examples"]) == ("topics/v1", "4")
    assert "0.250 to 1.000" in topics.lead
    assert "the simple model reaches 0.500" in topics.lead
    tables = {table.caption.partition(" ")[0]: [list(row) for row in table.rows] for table in topics.tables}
    assert tables["Metrics"] == [["accuracy", 0.75, 0.25, 1.0, 0.5], ["macro f1", 0.7, None, None, None]]
    by_label, by_slice = (
        [list(row) for row in table.rows] for table in topics.tables if table.caption.startswith("By ")
    )
    assert by_label == [["numpy", 0.75, 1.0, 0.8571, 3], ["evil<b>", 1.0, 0.5, 0.6667, 1]]
    assert by_slice == [["source=a", 40, 0.5]]  # one of four examples says nothing
    assert tables["Most"] == [["evil<b>", "numpy", 1]]
    assert tables["Worst"] == [["b1", "evil<b>", "numpy", 0.85]]
    assert set(topics.charts) == {"Loss", "Held-out accuracy", "Calibration", "Confusion matrix"}
    assert topics.charts["Confusion matrix"].matrix == [[0.0, 1.0], [0.0, 3.0]]
    assert (tone.values["model"], tone.charts, len(tone.tables)) == ("tone/v1", {}, 1)
    small, smaller = contents_of(golden, "small.compression"), contents_of(golden, "smaller.compression")
    assert small.lead == (
        "small/v1 is topics/v1 after int8_dynamic (the one form that passes the gate; 1 did not pass); "
        "4.0 times smaller and 2.50 times as many documents a second; 25.0 % of the answers differ."
    )
    assert smaller.lead.startswith("smaller/v1 is tone/v1 after int8_dynamic")
    (table,) = small.tables
    assert "on 4 held-out documents" in table.caption
    before, after, failed = (dict(zip(table.columns, row, strict=True)) for row in table.rows)
    assert (before["quality"], before["loss (interval)"], before["gate"]) == (
        "0.750",
        "–",
        "the model itself",
    )
    assert after["form"] == "int8_dynamic, 2 groups of layers in float"
    assert (after["quality"], after["loss (interval)"]) == ("0.700", "+5.00% (-1.00% to +11.00%)")
    assert (after["size"], after["memory"], after["gate"]) == ("2.0 MB", "90.0 MB", "passes")
    assert (failed["form"], failed["gate"]) == ("onnx", "loses 5 points of accuracy")
    (pareto,) = small.charts.values()
    assert [(one.name, one.x, one.y, one.colour) for one in pareto.points] == [
        ("as it is", 100.0, 0.75, "accent"),
        ("int8_dynamic", 250.0, 0.7, "contrast"),
        ("onnx", 250.0, 0.7, "accent"),
    ]
    assert list(pareto.line) == [(100.0, 0.75), (250.0, 0.7)]


def test_each_scoring_shows_its_own_rows(golden: Contents) -> None:
    found = contents_of(golden, "by_topic.scores")
    # The model that the run applied, though one that the step applied before has seen a later version of the input.
    assert (found.applied.name, found.applied.documents, found.applied.errors) == ("small/v1", 3, 1)
    assert [one.name for one in found.others] == ["topics/v3"]
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
    other = contents_of(golden, "by_tone.scores")
    assert (other.applied.name, other.applied.documents, other.others) == ("tone/v1", 3, ())
    assert [(one.label, one.documents) for one in other.predictions] == [("calm", 3)]


def test_the_summary_says_of_which_step_a_figure_is(golden: Contents) -> None:
    assert golden.figures == (
        KeyFigure("Documents left", "3", "of 9 read, 33.3 %, after dedupe"),
        KeyFigure("Text left", "169 B", "of 335 B read, 50.4 %, after dedupe"),
        KeyFigure("Tokens", "60", "in 2 samples"),
        KeyFigure("Accuracy: tone", "0.625", "model tone/v1"),
        KeyFigure("Accuracy: topics", "0.750", "against 0.500 of the simple model"),
        KeyFigure("Documents scored: by_topic", "2", "1 errors, by small/v1"),
        KeyFigure("Documents scored: by_tone", "3", "0 errors, by tone/v1"),
        KeyFigure("Time", "16 s", "longest: dedupe, 4.0 s"),
    )


def test_the_table_of_steps_tells_all_of_them(golden: Contents, golden_page: Page) -> None:
    steps = contents_of(golden, "steps")
    rows = {row.name: row for row in steps.rows}
    assert list(rows) == [
        *("ingest", "clean", "dedupe", "shard", "train", "tone", "topics", "small", "smaller"),
        *("by_topic", "by_tone", "old", "pretty"),
    ]
    assert steps.seconds == 16.0
    assert (rows["clean"].run_id, rows["pretty"].run_id) == ("run-clean-90", None)
    assert (rows["dedupe"].megabytes_per_second, rows["dedupe"].rows_per_second) == (0.00075, 1.25)
    assert (rows["train"].rows_in, rows["train"].rows_per_second) == (None, None)
    assert rows["topics"].inputs == ("duplicates@0", "kept@0", "model encoder@1")
    assert rows["topics"].outputs == ("model topics@1", "rejects@2")
    assert [name for name, row in rows.items() if not row.is_installed] == ["old", "pretty"]
    # Versions that runs which failed have left do not make anything out of date.
    assert [row.stale for row in rows.values()] == [()] * 13
    assert [(one.run_id, one.error) for one in steps.failures] == [
        (f"run-{step}-20", "the disk is full") for step in ("topics", "pretty", "ingest", "dedupe")
    ]
    assert (golden.provenance.code_version, golden.provenance.git_commit) == ("0.1.0", "c" * 40)
    assert golden.provenance.packages == (("torch", "2.13"),)
    said = golden_page.text("steps")
    assert "old retired stage not installed 1.0" in said
    assert "pretty retired stage not installed no run has succeeded yet" in said
    assert "tone finetune 1.0 – 3 3 3 0" in said


@pytest.mark.rare
def test_another_run_over_the_same_rows_in_other_files_gives_the_same_page(
    spark: SparkSession, golden: Contents, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    write_all(lake, upside_down_in_many_files)
    job = report_job(spark, lake)
    file = lake / "_artifacts" / "report" / "report.html"
    seen: list[tuple[str, bool]] = []
    with watched_effects(lambda name: seen.append((name, file.exists()))):
        report = run(job, LIMITS)
    assert seen == [("report written", True)]
    assert (report.rows_in, report.rows_kept, report.metrics["sections"]) == (None, None, 13)
    assert (job.inputs["kept"], job.inputs["clean"], job.outputs) == (0, 1, {})
    page = file.read_text(encoding="utf-8")
    assert len(page.encode()) == report.metrics["bytes"] < 200_000
    expected = render(replace(golden, run_id=job.run_id, written_at=job.started_at))
    assert page.replace(str(lake), golden.lake) == expected


def test_what_was_lost_costs_its_own_section_alone(
    spark: SparkSession, golden_lake: Path, golden: Contents, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    shutil.copytree(golden_lake, lake)
    shutil.rmtree(lake / "duplicates")
    for file in (lake / "scores").rglob("*.parquet"):  # vacuumed: the log still names them
        file.unlink()
    shutil.rmtree(lake / "models")
    page = Page(render(gather(report_job(spark, lake), LIMITS)))
    assert page.sections == ["summary", "funnel", "rejects", *STEP_SECTIONS, "steps"]
    for anchor, why in (
        ("dedupe.duplicates", "there is no table `duplicates`"),
        ("topics.evaluation", "version 1 of model `topics` is not there any more"),
        ("small.compression", "version 1 of model `small` is not there any more"),
    ):
        assert f"This cannot be read any more: {why}" in page.text(anchor)
    assert "This cannot be read any more" in page.text("by_topic.scores")
    assert "3 documents" in page.text("shard.samples")
    assert "too_few_words" in page.text("rejects")


def test_an_empty_lake_gives_a_page(spark: SparkSession, tmp_path: Path) -> None:
    job = report_job(spark, tmp_path / "lake")
    report = run(job, LIMITS.model_copy(update={"file": f"file://{tmp_path}/elsewhere/page.html"}))
    assert report.metrics["sections"] == 0
    page = Page((tmp_path / "elsewhere" / "page.html").read_text(encoding="utf-8"))
    assert page.text("funnel") == "Funnel No step has counted documents yet."
    assert page.text("rejects") == "Rejected documents No step has written rejects yet."
    assert page.text("steps") == "Steps No runs yet: the ledger of this lake is empty."
    assert "Documents – not read yet" in page.text("summary")


def test_tables_without_rows_give_a_page(spark: SparkSession, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    for ref, schema in (
        ("bronze", BRONZE),
        ("clean", KEPT),
        ("kept", KEPT),
        ("rejects", REJECTS),
        ("duplicates", DUPLICATES),
        ("scores", SCORES),
    ):
        put(lake, ref, schema, [])
    models(lake / "_artifacts")
    nothing = [
        replace(
            done,
            rows_in=0,
            rows_kept=0,
            rows_rejected=0,
            reasons={},
            outputs=dict.fromkeys(done.outputs, 0),
        )
        for done in RUNS_DONE
        if done.step in ("ingest", "dedupe", "by_topic")
    ]
    write_ledger(lake, [*nothing, run_of(1, "clean", "clean", outputs={"clean": 0, "rejects": 0}, config={})])
    page = Page(render(gather(report_job(spark, lake), LIMITS)))
    assert "The source of ingest held no documents." in page.text("funnel")
    assert "No document was rejected." in page.text("rejects")
    assert "No duplicates were found." in page.text("dedupe.duplicates")
    assert "This cannot be read any more: version 1 of model `small`" in page.text("by_topic.scores")


def test_a_lake_that_ends_at_dedupe_with_nulls_in_it(spark: SparkSession, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    repeated = [{"doc_id": "gone", "cluster_id": "z", "partner_id": "z", "kept_id": "z"}]
    for ref, schema, rows in (
        ("bronze", BRONZE, [*bronze(), {"doc_id": "n1"}]),
        ("clean", KEPT, documents(CLEAN_IDS)),
        ("kept", KEPT, documents(KEPT_IDS)),
        ("rejects", REJECTS, [*SHORT, reject("clean", None, None)]),
        ("duplicates", DUPLICATES, repeated),
    ):
        put(lake, ref, schema, rows)
    write_ledger(
        lake,
        [
            run_of(
                0, "ingest", "ingest", outputs={"bronze": 0}, rows=(9, 9), config={"source": {"path": "/s"}}
            ),
            run_of(
                1,
                "clean",
                "clean",
                inputs={"bronze": 0},
                outputs={"clean": 0, "rejects": 0},
                rows=(9, 5),
                config={},
            ),
            run_of(
                2,
                "dedupe",
                "dedupe",
                inputs={"clean": 0},
                outputs={"kept": 0, "duplicates": 0, "rejects": 0},
                rows=(5, 3),
                config={},
            ),
            run_of(
                3,
                "clean",
                "clean",
                inputs={"bronze": 0},
                outputs={"clean": 4, "rejects": 0},
                rows=(9, 5),
                config={},
            ),
        ],
    )
    contents = gather(report_job(spark, lake), LIMITS)
    assert [part.anchor for part in contents.shown] == ["funnel", "rejects", "dedupe.duplicates", "steps"]
    (clean,) = contents_of(contents, "rejects").steps
    assert [one.name for one in clean.reasons] == ["too_few_words", "(no reason)", "too_many_symbols"]
    steps = contents_of(contents, "steps")
    assert {row.name: row.stale for row in steps.rows}["dedupe"] == ("clean is now at version 4",)
    # The figures of dedupe belong to an older `clean`: they are no part of the chain from today's.
    assert [chain.steps for chain in contents_of(contents, "funnel").chains] == [("ingest",)]
    assert "dedupe is out of date" in render(contents)


TOY = '''
"""Count words."""

from sparkml.frame.stage import Reads, RunReport, Shares, Stage, StageConfig, Writes
from sparkml.report.section import Facts, KeyFigure, Rows, Section


class WordsConfig(StageConfig):
    source: Reads = "kept"
    target: Writes = "words"
    rejects: Shares = "rejects"


def longest(view):
    rows = view.table("target").orderBy("n_words", ascending=False).select("doc_id", "n_words").collect()
    return Facts("The longest documents.", {"counted": len(rows)}, (Rows("Words", ("document", "words"), rows),))


def sections():
    return [Section("Longest", longest, figures=lambda found: [KeyFigure("Counted", str(found.values["counted"]))])]


STAGE = Stage(WordsConfig, lambda job, config: RunReport(), "count words", sections=sections)
'''
WITHOUT_SECTION = TOY.replace(", sections=sections)", ")")


@pytest.mark.parametrize("source", [TOY, WITHOUT_SECTION])
def test_a_stage_that_nobody_knew_is_reported_with_no_edit_elsewhere(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "words.py").write_text(source, encoding="utf-8")
    monkeypatch.setattr(sparkml.stages, "__path__", [*sparkml.stages.__path__, str(tmp_path / "stages")])
    monkeypatch.delitem(sys.modules, "sparkml.stages.words", raising=False)
    lake = tmp_path / "lake"
    put(lake, "kept", KEPT, documents(KEPT_IDS))
    counted = pa.schema([("doc_id", pa.string()), ("n_words", pa.int32())])
    put(lake, "words", counted, [{"doc_id": "a1", "n_words": 12}, {"doc_id": "c1", "n_words": 7}])
    put(lake, "rejects", REJECTS, [reject("words", "b1", "foreign", value=3.0)])
    done = run_of(
        0,
        "words",
        "words",
        inputs={"kept": 0},
        outputs={"words": 0, "rejects": 0},
        rows=(3, 2),
        metrics={"mean": 9.5},
        config={},
    )
    write_ledger(lake, [done])
    page = Page(render(gather(report_job(spark, lake), LIMITS)))
    assert "words kept → words 3 2 66.7 % 1" in page.text("funnel")
    assert "foreign 1 33.3 % 3 3 to 3 – 1 example title b1" in page.text("rejects")
    assert "Read kept@0 Wrote rejects@0 words@0 Metrics mean 9.5" in page.text("steps")
    if source == TOY:
        assert page.text("words.longest") == (
            "Longest step words The longest documents. counted 2 Words document words a1 12 c1 7"
        )
        assert "Counted 2" in page.text("summary")
    else:
        assert page.sections == ["summary", "funnel", "rejects", "steps"]


def test_a_section_that_is_wrong_is_not_hidden(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stages").mkdir()
    broken = TOY.replace('view.table("target")', "view.tabel")
    (tmp_path / "stages" / "words.py").write_text(broken, encoding="utf-8")
    monkeypatch.setattr(sparkml.stages, "__path__", [*sparkml.stages.__path__, str(tmp_path / "stages")])
    monkeypatch.delitem(sys.modules, "sparkml.stages.words", raising=False)
    write_ledger(tmp_path / "lake", [run_of(0, "words", "words", config={})])
    with pytest.raises(AttributeError, match="tabel"):
        gather(report_job(spark, tmp_path / "lake"), LIMITS)
