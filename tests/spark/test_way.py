"""A whole pipeline by the command line: fates, identities, re-runs, traces, notebooks."""

from __future__ import annotations

import re
import runpy
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import SparkSession

from sparkml.frame.config import load_config
from tests import identities
from tests.command_line import call
from tests.way import Way, overrides

ROOT = Path(__file__).resolve().parents[2]
STEPS = [step.name for step in load_config("local").pipeline.steps]


def ask(way: Way, *words: str) -> tuple[int, str]:
    """Exit code and words shown of a command on the lake."""
    return call(*words, *overrides(way.lake, way.source))


def test_every_document_meets_its_fate(way: Way) -> None:
    assert set(identities.column(way.lake, "kept", "doc_id")) == way.fates.kept
    partners = {row["doc_id"]: row for row in identities.table(way.lake, "duplicates").to_pylist()}
    assert {key: partners[key]["kept_id"] for key in way.fates.exact} == way.fates.exact
    assert {partners[key]["kind"] for key in way.fates.exact} == {"exact"}
    assert {key: partners[key]["kept_id"] for key in way.fates.near} == way.fates.near
    assert {partners[key]["kind"] for key in way.fates.near} == {"near"}
    rejects = identities.table(way.lake, "rejects").to_pylist()
    of_clean = {row["doc_id"]: row["drop_reason"] for row in rejects if row["stage"] == "clean"}
    assert of_clean == way.fates.rejected_by_clean
    of_ingest = [row["drop_reason"] for row in rejects if row["stage"] == "ingest"]
    assert {reason: of_ingest.count(reason) for reason in of_ingest} == way.fates.rejected_by_ingest


def test_identities_hold_for_another_reader(way: Way) -> None:
    assert identities.violations(way.lake) == []


def test_the_page_and_the_closing_table(way: Way) -> None:
    assert (way.lake / "_artifacts" / "report" / "report.html").stat().st_size > 20_000
    page = (way.lake / "_artifacts" / "report" / "report.html").read_text(encoding="utf-8")
    captions = re.findall(r"<caption>\s*Models on the same held-out examples", page)
    assert len(captions) == 2  # each classifier shows both
    assert "report.html" in way.shown
    assert all(name in way.shown for name in STEPS)


def test_a_second_run_skips_everything_but_the_report(way: Way) -> None:
    versions = {name: DeltaTable(str(way.lake / name)).version() for name in ("clean", "scores", "models")}
    code, shown = ask(way, "run-all")
    assert code == 0
    assert shown.count("up to date (run") == len(STEPS) - 1
    for name, version in versions.items():
        assert DeltaTable(str(way.lake / name)).version() == version


def test_plan_tells_origins_and_what_would_run(way: Way) -> None:
    code, text = ask(way, "plan", "clean.gopher_quality.max_words=9000")
    assert code == 0
    assert "clean.gopher_quality.max_words 9000 command line" in text
    assert "clean run its configuration changed" in text
    assert "dedupe run after clean" in text
    assert "ingest skip up to date" in text


def test_what_the_steps_would_take_is_estimated_from_what_they_used(way: Way) -> None:
    code, shown = ask(
        way, "estimate", "clean", "dedupe", "shard", "train", "finetune", "--times", "100", "--slots", "8"
    )
    assert code == 0, shown
    for step in ("clean", "dedupe", "shard", "train", "finetune"):
        assert re.search(rf" {step} [\d,]+ \d+ [\d,.]+ (s|min|h) [\d,]+ ", shown), shown
    assert re.search(r" all [\d,.]+ (s|min|h) ", shown), shown
    assert "24 steps of" in shown  # max_steps says so, however many rows there are


def test_runs_shows_the_ledger(way: Way) -> None:
    code, text = ask(way, "runs")
    assert code == 0
    assert text.count("succeeded") >= len(STEPS)


def test_a_trace_leads_from_a_score_to_its_source(way: Way) -> None:
    code, text = ask(way, "trace", "scores", "sea-0")
    assert code == 0
    for station in (
        "model classifier version 1",
        "model encoder version 1",
        "manifest ",
        "training samples in samples",
        "zz-copy-0: exact, similarity 1.000",
        "source: file://",
        "step dedupe, from clean@",
    ):
        assert station in text
    code, text = ask(way, "trace", "scores", "nobody")
    assert code == 1
    assert "has no document `nobody`" in text


def test_what_was_pinned_is_read_again_and_damage_is_named(way: Way) -> None:
    code, text = ask(way, "run", "shard", "finetune", "--verify")
    assert code == 0
    assert re.search(r"shard: \d+ files, .* all sound\s+✓ finetune: \d+ files, .* all sound", text), text
    pinned = identities.table(way.lake, "manifests").to_pylist()
    (file, *_) = next(row["files"] for row in pinned if row["table"] == "samples" and row["files"])
    path = Path(file["path"].removeprefix("file://"))
    content = path.read_bytes()
    try:
        path.write_bytes(content[:300] + bytes([content[300] ^ 1]) + content[301:])
        code, text = ask(way, "run", "shard", "--verify")
        assert (code, path.name in text, "its bytes have changed" in text) == (1, True, True)
        path.unlink()
        code, text = ask(way, "run", "shard", "--verify")
        assert (code, "it is missing" in text) == (1, True)
    finally:
        path.write_bytes(content)
    code, text = ask(way, "run", "clean", "--verify")
    assert (code, "has nothing that is verified" in text) == (2, True)


def test_the_notebook_about_a_lake_runs(way: Way, spark: SparkSession, capsys: pytest.CaptureFixture) -> None:
    spark.conf.set("sparkml.lake", str(way.lake))
    try:
        notebook = str(ROOT / "notebooks" / "look_at_a_lake.py")
        names = runpy.run_path(notebook, init_globals={"spark": spark})
    finally:
        spark.conf.unset("sparkml.lake")
    assert set(names["newest"]) == set(STEPS)
    words = set(capsys.readouterr().out.replace("|", " ").split())
    assert {"succeeded", *way.fates.near, *way.fates.rejected_by_clean.values()} <= words
    assert spark.sql("SELECT topic_of('a text').error IS NULL AS answered").first()["answered"]


def test_new_documents_alone_are_scored(way: Way, tmp_path: Path) -> None:
    """Documents arrive at the table of kept ones; the rest keeps its scores, run ids included."""
    lake = tmp_path / "lake"
    shutil.copytree(way.lake, lake)
    before = {row["doc_id"]: row["run_id"] for row in identities.table(lake, "scores").to_pylist()}
    kept = DeltaTable(str(lake / "kept"))
    arrived = identities.table(lake, "kept").slice(0, 2)
    ids = pa.array(["new-1", "new-2"])
    write_deltalake(
        kept, arrived.set_column(arrived.schema.get_field_index("doc_id"), "doc_id", ids), mode="append"
    )
    code, shown = call("run", "score", *overrides(lake, way.source))
    assert code == 0, shown[-3000:]
    after = {row["doc_id"]: row["run_id"] for row in identities.table(lake, "scores").to_pylist()}
    assert set(after) - set(before) == {"new-1", "new-2"}
    assert {key: after[key] for key in before} == before
