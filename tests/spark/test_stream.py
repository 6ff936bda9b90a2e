"""Streams: every document is scored once, whatever comes twice, changes, is broken or stops in the middle."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from sparkml.errors import ConfigError, InputError, ScoringError
from sparkml.frame.config import ProjectConfig, load_config
from sparkml.frame.effects import watched_effects
from sparkml.frame.lineage import trace
from sparkml.frame.progress import Progress
from sparkml.frame.runner import Runner, StepOutcome
from sparkml.frame.stage import RunReport
from sparkml.inference.scorer import load_scorer
from sparkml.stages.stream.config import StreamConfig
from tests import identities
from tests.conftest import SMALL
from tests.streams import answers, put_file
from tests.tiny import tiny_classifier

WORDS = ("spam offer money", "meeting tomorrow lunch", "win prize now click", "friend home train late")
DDL = "doc_id string, text string"


def text_of(number: int) -> str:
    return f"{WORDS[number % 4]} {WORDS[number // 4 % 4]} {number}"


def document(number: int, **other: Any) -> dict[str, Any]:
    return {"id": f"doc-{number:03d}", "text": text_of(number), **other}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_classifier(tmp_path_factory.mktemp("model") / "tiny")


class Stream:
    """A lake with a folder that files come into, and the stream over them."""

    def __init__(self, spark: SparkSession, folder: Path, model: Path) -> None:
        self.spark, self.folder, self.model = spark, folder, model
        self.lake, self.files = folder / "lake", folder / "in"
        self.files.mkdir()
        self._seconds = time.time() - 1000
        self.followed = [f"stream.files.path={self.files}", "stream.files.id_field=id"]

    def config(self, *words: str) -> ProjectConfig:
        given = [f"lake={self.lake}", f"stream.model={self.model}", *SMALL, *self.followed, *words]
        return load_config("local", given, pipeline="stream", known=lambda lake: lambda ref: True)

    def runner(self, *words: str) -> Runner:
        runner = Runner(lambda: self.spark, self.config(*words), Progress())
        runner.ledger.abandon_started()  # as the command line does: the lake is ours
        return runner

    def outcome(self, *words: str) -> StepOutcome:
        runner = self.runner(*words)
        return runner.run(self.config(*words).pipeline.step("stream"))

    def run(self, *words: str) -> RunReport:
        found = self.outcome(*words)
        assert not found.skipped
        return found.report

    def put(self, name: str, *lines: Any) -> None:
        # Files come one after the other; those of one millisecond have no order.
        self._seconds += 1
        os.utime(put_file(self.files, name, lines), (self._seconds, self._seconds))

    def table(self, rows: list[tuple[Any, ...]], ddl: str = DDL, mode: str = "append") -> None:
        writer = self.spark.createDataFrame(rows, ddl).write.format("delta").mode(mode)
        option = "overwriteSchema" if mode == "overwrite" else "mergeSchema"
        writer.option(option, "true").save(str(self.lake / "documents"))

    def rejects(self) -> list[tuple[str, str]]:
        rows = identities.table(self.lake, "rejects").to_pylist()
        return sorted((row["drop_reason"], row["detail"]) for row in rows if row["step"] == "stream")


@pytest.fixture
def stream(spark: SparkSession, tmp_path: Path, model: Path) -> Stream:
    return Stream(spark, tmp_path, model)


@pytest.mark.rare
def test_files_are_scored_as_they_come_by_the_same_scorer(stream: Stream) -> None:
    stream.put("a.jsonl", *map(document, range(6)))
    report = stream.run()
    assert (report.rows_in, report.rows_kept, report.rows_rejected) == (6, 6, 0)
    scorer = load_scorer(stream.model)
    for doc_id, row in answers(stream.lake).items():
        (alone,) = scorer.answer([text_of(int(doc_id[4:]))])
        assert (row["prediction"], row["error"]) == (alone.prediction, None)
        assert row["score"] == pytest.approx(alone.score, abs=2e-5)
        assert (row["input_table"], row["input_version"]) == (str(stream.files), None)
    assert len(answers(stream.lake)) == 6

    assert stream.outcome().skipped  # no new file: nothing to do
    before = answers(stream.lake)
    stream.put("b.jsonl", document(6), document(0))
    second = stream.run()
    assert (second.rows_in, second.rows_kept) == (2, 2)
    assert (second.metrics["scored"], second.metrics["scored_before"]) == (1, 1)
    after = answers(stream.lake)
    assert {doc_id: after[doc_id] for doc_id in before} == before  # untouched, their runs too
    assert after.keys() - before.keys() == {"doc-006"}
    assert second.metrics["batch_seconds_p95"] >= second.metrics["batch_seconds_p50"] > 0
    assert second.metrics["documents_per_second"] > 0


def test_bad_records_become_rejects_and_errors_and_nothing_stops(stream: Stream) -> None:
    good = [document(number) for number in range(3)]
    bad = ["{broken", '["a list"]', {"text": "no id"}, {"id": "no text"}]
    stream.put("a.jsonl", *good, *bad)
    stream.put("odd name %20.csv", "id,text", "doc-100,a row of a table")
    report = stream.run()
    assert (report.rows_in, report.rows_kept, report.rows_rejected) == (8, 4, 4)
    reasons = {"malformed_json": 1, "not_an_object": 1, "missing_id": 1, "missing_text": 1}
    assert report.reasons == reasons
    assert [reason for reason, _ in stream.rejects()] == sorted(reasons)
    assert set(answers(stream.lake)) == {"doc-000", "doc-001", "doc-002", "doc-100"}


def test_a_document_that_changes_is_answered_anew_and_the_last_of_a_batch_counts(stream: Stream) -> None:
    stream.put("a.jsonl", document(1), document(2))
    stream.run()
    stream.put("b.jsonl", {"id": "doc-001", "text": "neither this"}, document(3))
    stream.put("c.jsonl", {"id": "doc-001", "text": "nor that"}, {"id": "doc-001", "text": text_of(7)})
    report = stream.run()
    assert report.metrics["scored_again"] == 1
    assert (report.rows_in, report.reasons) == (4, {"superseded": 2})
    (alone,) = load_scorer(stream.model).answer([text_of(7)])
    rows = answers(stream.lake)
    assert rows["doc-001"]["score"] == pytest.approx(alone.score, abs=2e-5)
    assert len(rows) == 3


def test_back_pressure_makes_several_batches(stream: Stream) -> None:
    for number in range(5):
        stream.put(f"{number}.jsonl", document(number))
    report = stream.run("stream.max_files_per_batch=2")
    assert (report.metrics["batches"], report.rows_in) == (3, 5)
    assert len(answers(stream.lake)) == 5


def test_a_folder_without_files_leaves_an_empty_table(stream: Stream) -> None:
    report = stream.run()
    assert (report.rows_in, report.rows_kept) == (0, 0)
    assert answers(stream.lake) == {}


def test_a_table_is_followed_through_changes_of_rows_and_columns(stream: Stream) -> None:
    stream.followed = ["stream.source=documents"]
    stream.table([("a", text_of(1)), ("b", text_of(2)), (None, "no id"), ("n", None)])
    first = stream.run()
    assert (first.rows_in, first.rows_kept, first.reasons) == (4, 2, {"missing_id": 1, "error": 1})
    assert stream.outcome().skipped

    # A new column, and a document twice in what has come: the table says which one stands.
    stream.table([("c", text_of(3), "x"), ("a", text_of(1), "y")], f"{DDL}, extra string")
    assert stream.run().metrics["scored_before"] == 1
    # An overwrite without that column, in which `a` has changed twice.
    stream.table([("a", "first"), ("b", text_of(2))], mode="overwrite")
    stream.table([("a", text_of(9)), ("b", text_of(2)), ("d", text_of(4))], mode="overwrite")
    report = stream.run()
    assert report.metrics["scored_again"] == 1
    rows = answers(stream.lake)
    assert set(rows) == {"a", "b", "c", "d", "n"}
    (alone,) = load_scorer(stream.model).answer([text_of(9)])
    assert rows["a"]["score"] == pytest.approx(alone.score, abs=2e-5)
    assert rows["b"]["run_id"] == rows["n"]["run_id"] != rows["a"]["run_id"]

    stream.table([("e",)], "doc_id string", mode="overwrite")
    with pytest.raises(InputError, match="lacks columns") as caught:
        stream.run()
    assert caught.value.expected == "text"
    assert set(answers(stream.lake)) == {"a", "b", "c", "d", "n"}
    stream.table([("e", text_of(5))], mode="overwrite")
    stream.run()
    assert "e" in answers(stream.lake)


class KilledError(Exception):
    """The process is gone."""


@pytest.mark.parametrize("at", ["rejects", "scores"])
@pytest.mark.parametrize("written", [True, False], ids=["after", "before"])
def test_a_run_that_dies_in_a_batch_is_continued(stream: Stream, at: str, written: bool) -> None:
    """Behind the commit or right before it; what it has committed counts at once."""
    stream.put("a.jsonl", document(0), "{broken")
    stream.put("b.jsonl", document(1), document(2), "{broken, too")
    wanted = f"table {'committed' if written else 'about to be written'}: {at}"

    def kill(name: str) -> None:
        if name == wanted:
            raise KilledError(name)

    with watched_effects(kill), pytest.raises(KilledError):
        stream.outcome("stream.max_files_per_batch=1")
    done = {"doc-000"} if at == "scores" and written else set()
    if done:
        assert set(answers(stream.lake)) == done
        run_id = answers(stream.lake)["doc-000"]["run_id"]
        runner = stream.runner()
        stations = trace(runner.tables, runner.ledger, "scores", "doc-000")
        assert any(station.title == "scores" for station in stations)

    report = stream.run("stream.max_files_per_batch=1")
    rows = answers(stream.lake)
    assert set(rows) == {"doc-000", "doc-001", "doc-002"}
    assert (report.rows_in, report.rows_kept, report.metrics["scored_before"]) == (5, 3, len(done))
    assert [reason for reason, _ in stream.rejects()] == ["malformed_json"] * 2
    if done:
        assert rows["doc-000"]["run_id"] == run_id
    assert stream.outcome().skipped


def test_a_checkpoint_that_is_lost_loses_and_doubles_nothing(stream: Stream) -> None:
    stream.put("a.jsonl", document(0), "{broken")
    stream.run()
    shutil.rmtree(stream.lake / "_artifacts" / "streams")
    stream.put("b.jsonl", document(1))
    report = stream.run()
    assert (report.rows_in, report.metrics["scored"], report.metrics["scored_before"]) == (3, 1, 1)
    assert set(answers(stream.lake)) == {"doc-000", "doc-001"}
    assert len(stream.rejects()) == 1


def test_another_model_begins_a_stream_of_its_own(stream: Stream, tmp_path: Path) -> None:
    stream.put("a.jsonl", document(0), document(1))
    stream.run()
    other = tiny_classifier(tmp_path / "other", seed=9)
    stream.run(f"stream.model={other}")
    rows = identities.table(stream.lake, "scores").to_pylist()
    assert sorted((row["doc_id"], row["model_id"]) for row in rows) == sorted(
        (doc_id, str(folder)) for doc_id in ("doc-000", "doc-001") for folder in (stream.model, other)
    )


def test_a_model_that_disappears_stops_the_stream_before_its_batch(stream: Stream, tmp_path: Path) -> None:
    copy, away = tmp_path / "copy", tmp_path / "away"
    shutil.copytree(stream.model, copy)
    for number in range(3):
        stream.put(f"{number}.jsonl", document(number))
    words = [f"stream.model={copy}", "stream.max_files_per_batch=1"]

    def hide(name: str) -> None:
        if name == "table committed: scores":
            copy.rename(away)

    with watched_effects(hide), pytest.raises(InputError, match="files of the model are gone"):
        stream.run(*words)
    assert len(answers(stream.lake)) == 1
    away.rename(copy)
    assert stream.run(*words).rows_in == 2
    assert len(answers(stream.lake)) == 3


def test_too_many_errors_stop_the_stream_and_their_batch_comes_again(stream: Stream) -> None:
    stream.followed = ["stream.source=documents"]
    stream.table([(f"good-{number}", text_of(number)) for number in range(90)])
    assert stream.run().rows_kept == 90
    stream.table([(f"bad-{number}", None) for number in range(99)])
    assert stream.run().rows_rejected == 99  # so few say nothing yet
    stream.table([(f"worse-{number}", None) for number in range(100)])
    with pytest.raises(ScoringError, match="too many documents"):
        stream.run()
    assert len(answers(stream.lake)) == 189
    assert stream.run("stream.max_error_fraction=1").rows_rejected == 100


def test_an_endless_stream_takes_what_comes_until_its_time_is_up(stream: Stream) -> None:
    stream.put("a.jsonl", document(0))

    def more(name: str) -> None:
        if name == "table committed: scores" and not (stream.files / "b.jsonl").exists():
            stream.put("b.jsonl", document(1))

    with watched_effects(more):
        report = stream.run("stream.trigger=500 milliseconds", "stream.max_seconds=15")
    assert (report.rows_in, report.metrics["batches"]) == (2, 2)
    assert set(answers(stream.lake)) == {"doc-000", "doc-001"}


def test_nothing_to_follow_is_said(stream: Stream) -> None:
    stream.followed = []
    with pytest.raises(ConfigError, match="nothing to follow"):
        stream.run()
    stream.followed = [f"stream.files.path={stream.folder / 'none'}"]
    with pytest.raises(InputError, match="nothing at the path"):
        stream.run()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"source": "kept", "files": {"path": "x"}}, "only one of"),
        ({"kafka": {"topic": "t"}}, "together"),
        ({"trigger": "soon"}, "10 seconds"),
        ({"kafka": {"options": {"sasl.jaas.config": "password=x"}}}, "is a secret"),
        ({"kafka": {"secrets": {"sasl.jaas.config": "password=x"}}}, "where the secret is"),
        ({"files": {"path": "x"}, "columns": {"text": "body"}}, "files.text_field"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        StreamConfig.model_validate(settings)


def test_the_report_tells_of_a_stream(stream: Stream) -> None:
    stream.put("a.jsonl", *map(document, range(4)))
    runner = stream.runner()
    for step in stream.config().pipeline.steps:
        runner.run(step)
    page = (stream.lake / "_artifacts" / "report" / "report.html").read_text()
    assert "Documents scored" in page
    run = next(run for run in runner.ledger.runs() if run.stage == "stream")
    assert json.loads(run.config)["files"]["path"] == str(stream.files)
