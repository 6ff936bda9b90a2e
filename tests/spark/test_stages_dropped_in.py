"""A stage is one module: named in a YAML file, it runs, is planned, traced and reported."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import sparkml.stages
from tests import identities
from tests.command_line import call
from tests.way import TINY, Way

MODULE = '''
    """Keep the documents that name a word."""

    from pydantic import Field
    from sparkml.frame.run import StageRun
    from sparkml.frame.stage import Reads, RunReport, Shares, Stage, StageConfig, Writes

    class NamingConfig(StageConfig):
        source: Reads = "kept"
        target: Writes = "naming"
        rejects: Shares = "rejects"
        word: str = Field("storm", description="The word")

    def run(job: StageRun, config: NamingConfig) -> RunReport:
        documents = job.read(config.source)
        names = documents.text.contains(config.word)
        written = job.overwrite(documents.where(names).select("doc_id", "text"), config.target)
        others = documents.where(~names).selectExpr("doc_id", "'word_missing' AS drop_reason")
        reasons = job.write_rejects(others, config.rejects)
        return RunReport(job.input_rows(config.source), written.rows, sum(reasons.values()), reasons)

    STAGE = Stage(NamingConfig, run, "documents that name a word")
'''
PIPELINE = """
    steps:
      storms: {stage: naming}
      whales: {stage: naming, target: whales, word: whale}
      again: {stage: naming, source: whales, target: both}
      report: {}
"""


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "naming.py").write_text(textwrap.dedent(MODULE))
    (tmp_path / "weather.yaml").write_text(textwrap.dedent(PIPELINE))
    monkeypatch.setattr(sparkml.stages, "__path__", [*sparkml.stages.__path__, str(folder)])
    yield str(tmp_path / "weather.yaml")
    sys.modules.pop("sparkml.stages.naming", None)


def test_one_module_and_one_yaml_are_enough(way: Way, pipeline: str, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    shutil.copytree(way.lake, lake)
    words = ["--pipeline", pipeline, f"lake={lake}", *(word for word in TINY if word.startswith("spark."))]

    code, text = call("plan", *words)
    assert code == 0, text
    assert "storms run never ran" in text
    assert "again run never ran" in text

    code, text = call("run-all", *words)
    assert code == 0, text[-3000:]
    texts = {row["doc_id"]: row["text"] for row in identities.table(lake, "kept").to_pylist()}
    storms = {doc_id for doc_id, text in texts.items() if "storm" in text}
    whales = {doc_id for doc_id, text in texts.items() if "whale" in text}
    assert storms - whales
    assert storms & whales
    assert set(identities.column(lake, "naming", "doc_id")) == storms
    assert set(identities.column(lake, "whales", "doc_id")) == whales
    assert set(identities.column(lake, "both", "doc_id")) == storms & whales
    rejects = [row for row in identities.table(lake, "rejects").to_pylist() if row["stage"] == "naming"]
    assert {row["doc_id"] for row in rejects if row["step"] == "storms"} == set(texts) - storms
    assert {row["doc_id"] for row in rejects if row["step"] == "whales"} == set(texts) - whales

    code, text = call("plan", *words, "whales.word=reef")
    assert "storms skip up to date" in text
    assert "whales run its configuration changed" in text
    assert "again run after whales" in text

    doc_id = min(storms & whales)
    code, text = call("trace", "both", doc_id, *words)
    assert code == 0, text
    for station in (
        "both",
        "whales",
        "kept",
        "source: file://",
        "step whales, from kept@",
        "step ingest, from files",
    ):
        assert station in text

    page = (lake / "_artifacts" / "report" / "report.html").read_text()
    for shown in ("storms", "whales", "again", "word_missing", "clean"):
        assert shown in page
    assert identities.violations(lake) == []
