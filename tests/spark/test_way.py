"""The whole way by the command line: fates, identities, re-runs, traces, killed drivers."""

from __future__ import annotations

import io
import json
import logging
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import SparkSession

from sparkml.cli.main import main
from sparkml.frame.pipeline import STAGES
from tests import corpus, identities
from tests.jvm import QUICK_JVM

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    "spark.master=local[2]",
    "spark.driver.memory=1500m",
    "spark.sql.shuffle.partitions=2",
    "spark.databricks.delta.snapshotPartitions=1",
    "ingest.source.text_field=body",
    "ingest.source.id_field=id",
    "ingest.source.label_field=topic",
    "ingest.source.dataset=toy",
    "shard.vocabulary_size=600",
    "shard.sequence_length=64",
    "shard.validation_fraction=0.2",
    "shard.n_buckets=2",
    "shard.rows_per_row_group=16",
    "shard.rows_per_file=64",
    "train.shape.hidden=32",
    "train.shape.layers=1",
    "train.shape.heads=2",
    "train.shape.intermediate=64",
    "train.max_steps=24",
    "train.micro_batch=4",
    "train.validation_every_steps=12",
    "train.checkpoint_every_steps=8",
    "train.validation_rows=16",
    "finetune.max_steps=20",
    "finetune.batch_size=8",
    "compress.latency_documents=5",
    "compress.rounds=2",
    "compress.throughput_documents=16",
]

ENVIRONMENT = {**os.environ, "JAVA_TOOL_OPTIONS": QUICK_JVM}


@dataclass(frozen=True)
class Way:
    """A lake that the command line has filled."""

    lake: Path
    source: Path
    fates: corpus.Fates
    shown: str


def overrides(lake: Path, source: Path) -> list[str]:
    return [f"lake={lake}", f"ingest.source.path={source}", *TINY]


def call(lake: Path, source: Path, *words: str) -> tuple[int, str]:
    """Exit code and words shown of a command that finds a running session, as in a notebook, and leaves it."""
    shown = io.StringIO()
    with (
        redirect_stdout(shown),
        redirect_stderr(shown),
        logging_restored(),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("COLUMNS", "200")
        code = main([*words, *overrides(lake, source)])
    return code, " ".join(shown.getvalue().split())


@contextmanager
def logging_restored() -> Iterator[None]:
    """The command line sets logging up for itself; the tests that follow get theirs back."""
    logger = logging.getLogger("sparkml")
    before = list(logger.handlers), logger.propagate, logger.level
    try:
        yield
    finally:
        logger.handlers[:], logger.propagate = before[:2]
        logger.setLevel(before[2])


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory, spark: SparkSession) -> Way:
    """An undisturbed run from source to report."""
    folder = tmp_path_factory.mktemp("way")
    fates = corpus.write(folder / "source")
    code, shown = call(folder / "lake", folder / "source", "run-all")
    assert code == 0, shown[-3000:]
    assert spark.range(1).count() == 1
    return Way(folder / "lake", folder / "source", fates, shown)


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
    assert "report.html" in way.shown
    assert all(stage.name in way.shown for stage in STAGES)


def test_a_second_run_skips_everything_but_the_report(way: Way) -> None:
    versions = {name: DeltaTable(str(way.lake / name)).version() for name in ("clean", "scores", "models")}
    code, shown = call(way.lake, way.source, "run-all")
    assert code == 0
    assert shown.count("up to date (run") == len(STAGES) - 1
    for name, version in versions.items():
        assert DeltaTable(str(way.lake / name)).version() == version


def test_plan_tells_origins_and_what_would_run(way: Way) -> None:
    code, text = call(way.lake, way.source, "plan", "clean.min_words=20")
    assert code == 0
    assert "clean.min_words 20 command line" in text
    assert "clean run its configuration changed" in text
    assert "dedupe run after clean" in text
    assert "ingest skip up to date" in text


def test_runs_shows_the_ledger(way: Way) -> None:
    code, text = call(way.lake, way.source, "runs")
    assert code == 0
    assert text.count("succeeded") >= len(STAGES)


def test_a_trace_leads_from_a_score_to_its_source(way: Way) -> None:
    code, text = call(way.lake, way.source, "trace", "scores", "sea-0")
    assert code == 0
    for station in (
        "model classifier version 1",
        "model encoder version 1",
        "manifest",
        "zz-copy-0",
        "clean",
        "source",
    ):
        assert station in text
    code, text = call(way.lake, way.source, "trace", "scores", "nobody")
    assert code == 1
    assert "has no document `nobody`" in text


@pytest.mark.parametrize("notebook", sorted((ROOT / "notebooks").glob("*.py")), ids=lambda path: path.stem)
def test_a_notebook_runs(
    notebook: Path, way: Way, spark: SparkSession, capsys: pytest.CaptureFixture
) -> None:
    spark.conf.set("sparkml.lake", str(way.lake))
    try:
        names = runpy.run_path(str(notebook), init_globals={"spark": spark})
    finally:
        spark.conf.unset("sparkml.lake")
    assert set(names["newest"]) == {stage.name for stage in STAGES}
    words = set(capsys.readouterr().out.replace("|", " ").split())
    assert {"succeeded", *way.fates.near, *way.fates.rejected_by_clean.values()} <= words


def test_new_documents_alone_are_scored(way: Way, tmp_path: Path) -> None:
    """Documents arrive at the table of kept ones; the rest keeps its scores, run ids included."""
    lake = tmp_path / "lake"
    shutil.copytree(way.lake, lake)
    before = {row["doc_id"]: row["run_id"] for row in identities.table(lake, "scores").to_pylist()}
    kept = DeltaTable(str(lake / "kept"))
    arrived = kept.to_pyarrow_table().slice(0, 2)
    ids = pa.array(["new-1", "new-2"])
    write_deltalake(
        kept, arrived.set_column(arrived.schema.get_field_index("doc_id"), "doc_id", ids), mode="append"
    )
    code, shown = call(lake, way.source, "run", "score")
    assert code == 0, shown[-3000:]
    after = {row["doc_id"]: row["run_id"] for row in identities.table(lake, "scores").to_pylist()}
    assert set(after) - set(before) == {"new-1", "new-2"}
    assert {key: after[key] for key in before} == before


def test_a_driver_killed_in_every_stage_leaves_the_same_tables(way: Way, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    for stage in STAGES:
        kill_in(stage.name, lake, way.source)
    done = subprocess.run(
        command(lake, way.source), env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert identities.violations(lake) == []
    for name, fields in COMPARED.items():
        assert rows(lake, name, fields) == rows(way.lake, name, fields), name
    statuses = identities.column(lake, "_runs", "status")
    assert statuses.count("failed") == len(STAGES)
    assert "started" not in statuses
    assert not orphans(str(lake))


# What a run decides: everything but run ids, times, and the Delta versions that a repeated write moves.
COMPARED = {
    "bronze": ["doc_id", "source", "locator", "content_hash", "text", "label", "meta"],
    "clean": ["doc_id", "text", "n_words", "signals", "label"],
    "rejects": ["stage", "doc_id", "drop_reason", "value", "threshold", "detail"],
    "kept": ["doc_id", "text", "n_words"],
    "duplicates": ["doc_id", "kind", "cluster_id", "partner_id", "kept_id", "similarity"],
    "samples": ["sample_id", "split", "input_ids", "doc_starts", "doc_ids"],
    "models": ["model_id", "version", "kind", "parent"],
    "scores": ["doc_id", "model_id", "model_version", "prediction", "score", "scores", "error"],
}


def command(lake: Path, source: Path) -> list[str]:
    return [sys.executable, "-m", "sparkml.cli.main", "run-all", *overrides(lake, source)]


def rows(lake: Path, name: str, fields: list[str]) -> list[str]:
    found = identities.table(lake, name).select(fields).to_pylist()
    return sorted(json.dumps(row, sort_keys=True, default=str) for row in found)


def kill_in(stage: str, lake: Path, source: Path) -> None:
    """Start the whole way and kill the driver a moment after the ledger has got the start of `stage`."""
    driver = subprocess.Popen(
        command(lake, source),
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert driver.stderr is not None
    for line in driver.stderr:
        if f"-{stage}-" in line and "wrote _runs" in line:
            time.sleep(1)
            break
    else:
        raise AssertionError(f"the run ended before stage {stage} started")
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()


def orphans(mark: str) -> list[str]:
    """Processes other than this one whose command line names `mark`, after a moment to die."""
    for _ in range(20):
        left = [line for line in commands() if mark in line]
        if not left:
            break
        time.sleep(0.5)
    return left


def commands() -> Iterator[str]:
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                yield (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            except OSError:
                continue
