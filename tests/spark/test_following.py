"""Sources that grow and change: only what is new is read and decided, and the tables are as if all had been."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import MapType

from sparkml.errors import ConfigError, InputError
from sparkml.frame.config import load_config
from sparkml.frame.ledger import Ledger
from sparkml.frame.lineage import explain
from sparkml.frame.progress import Progress
from sparkml.frame.run import StageRun
from sparkml.frame.runner import Runner, StepOutcome
from sparkml.frame.tables import Tables
from sparkml.report import signals
from sparkml.report.charts import Histogram
from sparkml.report.config import ReportConfig
from sparkml.report.lake import Lake as ReportLake
from sparkml.report.view import step_views
from sparkml.stages.clean.stage import limits_of
from tests.runs import new_run

STEPS = ("ingest", "clean")
TABLES = ("bronze", "clean", "rejects")
SETTINGS = (
    "ingest.source.dataset=d",
    "clean.rules=[gopher_quality]",
    "clean.gopher_quality.min_words=3",
    "clean.gopher_quality.min_stop_words=null",
)
LINES = (
    '{"id": "%s", "text": "The words of number %s are here to stay."}',
    '{"id": "%s", "text": "too short", "n": "%s"}',
    '{"id": "%s", "body": "%s"}',
    "neither %s nor %s is JSON",
)


class Lake:
    """A folder of files, and lakes that follow it."""

    def __init__(self, spark: SparkSession, folder: Path, *overrides: str) -> None:
        self.spark = spark
        self.folder = folder
        self.source = folder / "source"
        self.overrides = overrides
        self.source.mkdir(parents=True)
        self._made = 0

    def put(self, name: str, *lines: str) -> None:
        """A file of these lines; its time differs from that of every file before it."""
        path = self.source / name
        path.write_text("\n".join(lines), encoding="utf-8")
        self._made += 1
        os.utime(path, ns=(self._made * 10**9, self._made * 10**9))

    def run(self, lake: str = "first", *overrides: str, force: bool = False) -> Mapping[str, StepOutcome]:
        """Both steps, as `sparkml run ingest clean` would."""
        place = [f"lake={self.folder / lake}", f"ingest.source.path={self.source}"]
        config = load_config("local", [*place, *SETTINGS, *self.overrides, *overrides])
        runner = Runner(lambda: self.spark, config, Progress())
        return {name: runner.run(config.pipeline.step(name), force=force) for name in STEPS}

    def table(self, ref: str, lake: str = "first") -> DataFrame:
        return Tables(str(self.folder / lake), lambda: self.spark).read(ref)

    def rows(self, ref: str, lake: str = "first") -> list[str]:
        """The rows, as text in an order of their own, but for the run that wrote them."""
        frame = self.table(ref, lake).drop("run_id", "ingested_at")
        maps = [field.name for field in frame.schema.fields if isinstance(field.dataType, MapType)]
        sortable = frame.withColumns({name: F.array_sort(F.map_entries(name)) for name in maps})
        return sorted(str(row.asDict()) for row in sortable.collect())

    def assert_as_read_at_once(self) -> None:
        other = f"other-{random.randrange(10**9)}"
        self.run(other)
        for ref in TABLES:
            assert self.rows(ref) == self.rows(ref, other), ref

    def version(self, ref: str) -> int | None:
        return Tables(str(self.folder / "first"), lambda: self.spark).version(ref)


@pytest.fixture
def lake(spark: SparkSession, tmp_path: Path) -> Lake:
    found = Lake(spark, tmp_path)
    for name in ("a", "b", "c"):
        found.put(f"{name}.jsonl", *(line % (f"{name}{n}", n) for n, line in enumerate(LINES)))
    found.run()
    return found


def metrics(outcome: StepOutcome) -> tuple[float, float]:
    return outcome.report.metrics.get("parts_read", -1), outcome.report.metrics.get("documents_read", -1)


def test_new_files_alone_are_read_and_their_documents_alone_decided(lake: Lake) -> None:
    lake.put("d.jsonl", *(line % ("d", n) for n, line in enumerate(LINES)))
    done = lake.run()
    assert metrics(done["ingest"])[0] == 1
    assert metrics(done["clean"])[1] == 2
    report = done["clean"].report
    assert (report.rows_in, report.rows_kept, report.rows_rejected) == (8, 4, 4)
    assert lake.version("bronze") == lake.version("clean") == 1
    lake.assert_as_read_at_once()
    assert all(outcome.skipped for outcome in lake.run().values())


def test_a_changed_file_replaces_its_documents_and_a_vanished_one_takes_its_own_away(lake: Lake) -> None:
    runs = {row["doc_id"]: row["run_id"] for row in lake.table("bronze").collect()}
    lake.put("a.jsonl", LINES[0] % ("a0", 0), LINES[0] % ("a1", "one"), LINES[3] % (1, 2))
    (lake.source / "b.jsonl").unlink()
    lake.put("c.jsonl", *(line % (f"c{n}", n) for n, line in enumerate(LINES)))  # of another time alone
    done = lake.run()
    assert metrics(done["ingest"])[0] == 2
    assert metrics(done["clean"])[1] == 1  # a0 and c are as they were
    now = {row["doc_id"]: row["run_id"] for row in lake.table("bronze").collect()}
    assert sum(runs.get(doc_id) == run_id for doc_id, run_id in now.items()) == 3
    lake.assert_as_read_at_once()


@pytest.mark.rare
def test_what_has_vanished_may_stay_even_where_all_is_read_again(lake: Lake) -> None:
    lake.overrides = ("ingest.vanished=keep",)
    lake.run()
    before = lake.rows("bronze"), lake.rows("rejects")
    (lake.source / "b.jsonl").unlink()
    done = lake.run()
    assert done["ingest"].report.rows_in == 12
    assert (lake.rows("bronze"), lake.rows("rejects")) == before
    again = lake.run("first", force=True)
    assert again["ingest"].report.rows_in == 12
    assert (lake.rows("bronze"), lake.rows("rejects")) == before


def test_a_run_that_dies_between_its_commits_is_repeated_without_reading_the_rest(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    dies_behind(lake, "update", monkeypatch)


def dies_behind(lake: Lake, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run dies when this part of it is done; the next one comes to the same tables."""
    lake.put("d.jsonl", *(line % ("d", n) for n, line in enumerate(LINES)))
    with monkeypatch.context() as patched:
        whole = getattr(StageRun, where)

        def dies(*arguments: Any, **named: Any) -> None:
            whole(*arguments, **named)
            raise InputError("killed here")

        patched.setattr(StageRun, where, dies)
        with pytest.raises(InputError, match="killed here"):
            lake.run()
    done = lake.run()
    assert metrics(done["ingest"])[0] == 1
    lake.assert_as_read_at_once()


@pytest.mark.rare
def test_other_settings_are_for_all_documents(lake: Lake) -> None:
    lake.put("d.jsonl", LINES[0] % ("d", 1))
    lake.overrides = ("clean.gopher_quality.min_words=1",)
    done = lake.run()
    assert metrics(done["clean"])[1] == 7
    lake.assert_as_read_at_once()


def test_other_limits_are_decided_from_signals_and_read_what_comes_back_alone(lake: Lake) -> None:
    lake.put(
        "d.jsonl", LINES[1] % ("d", 1), '{"text": ""}', LINES[0] % ("d", 2), '{"text": "One two three four."}'
    )
    lake.run()
    strict = ("clean.gopher_quality.min_words=5", "clean.from_signals=true")
    done = lake.run("first", *strict)
    assert metrics(done["clean"])[1] == 0
    assert done["clean"].report.reasons == {"gopher_short_doc": 5, "empty": 1}
    lake.overrides = strict[:1]
    lake.assert_as_read_at_once()
    assert lake.run()["clean"].skipped
    loose = ("clean.gopher_quality.min_words=2", "clean.from_signals=true")
    assert metrics(lake.run("first", *loose)["clean"])[1] == 5
    lake.overrides = loose[:1]
    lake.assert_as_read_at_once()


def test_signals_of_other_work_decide_nothing(lake: Lake) -> None:
    with pytest.raises(ConfigError, match="other settings than limits"):
        lake.run("first", "clean.gopher_quality.stop_words=[a]", "clean.from_signals=true")
    lake.put("d.jsonl", LINES[0] % ("d", 1))
    with pytest.raises(ConfigError, match="`bronze` has changed"):
        lake.run("first", "clean.from_signals=true")
    with pytest.raises(ConfigError, match="never ran"):
        lake.run("second", "clean.from_signals=true")


def test_a_decision_is_explained_signal_by_signal(lake: Lake) -> None:
    config = load_config("local", [f"lake={lake.folder / 'first'}", *SETTINGS])
    tables = Tables(str(lake.folder / "first"), lambda: lake.spark)
    dropped = tables.read("rejects").where("stage = 'clean'").first()
    assert dropped is not None
    stations = explain(tables, Ledger(tables), config.pipeline.steps, dropped["doc_id"])
    assert [station.title for station in stations] == ["clean: decision: dropped", "clean: gopher_quality"]
    facts = dict(stations[1].facts)
    assert facts["gopher_short_doc"] == "n_words 2, at least 3  <- dropped here"
    assert facts["gopher_alpha_words"] == "alpha_words 1, at least 0.5"
    assert facts["gopher_stop_words"] == "stop_words 0, no limit"
    with pytest.raises(InputError, match="has read `nobody`"):
        explain(tables, Ledger(tables), config.pipeline.steps, "nobody")


def test_the_report_shows_signals_against_their_limits(lake: Lake) -> None:
    tables = Tables(str(lake.folder / "first"), lambda: lake.spark)
    job = new_run(tables, Ledger(tables), lake.folder / "artifacts", "report")
    view = next(one for one in step_views(ReportLake(job, ReportConfig())) if one.step == "clean")
    facts = signals.gather(view, limits_of)
    assert facts is not None
    assert facts.lead == "Of 6 documents 50.0 % stayed; charts and margins are of all that were measured."
    chart = facts.charts["gopher_short_doc: n_words"]
    assert isinstance(chart, Histogram)
    assert (sum(chart.values), chart.mark, chart.mark_label) == (6, 3, "at least 3")
    margins, sources = facts.tables
    stays, goes = margins.rows[:2]
    assert stays[:4] == ["gopher_short_doc", "stays", 9.0, 3]
    assert goes[:4] == ["gopher_short_doc", "goes", 2.0, 3]
    assert goes[5] == "too short"
    assert [row[:3] for row in sources.rows] == [[f"{name}.jsonl", 2, "50.0 %"] for name in "abc"]
