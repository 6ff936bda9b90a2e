"""The stage `ingest` on real tables: golden rows, empty input, repetition, bad input, order and partitions."""

from __future__ import annotations

import bz2
import gzip
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from chispa import assert_df_equality
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkml.errors import InputError
from sparkml.frame.run import StageRun
from sparkml.frame.schemas import BRONZE
from sparkml.frame.stage import RunReport
from sparkml.frame.tables import Tables
from sparkml.kernels.hashing import content_hash, document_id
from sparkml.stages.ingest.config import IngestConfig
from sparkml.stages.ingest.origins.files import Files
from sparkml.stages.ingest.stage import run, source_state, with_duplicate_ids

Make = Callable[..., StageRun]

LINES = [
    b'{"text": "first", "url": "http://a", "tag": "x", "published": "2024-03-01T12:00:00Z", "n": 1}',
    b'{"text": "second", "tag": null}',
    b'{"body": "no text"}',
    b"not json",
    b'{"text": "caf\xe9"}',
    b'{"text": "third"}',
]
TEXTS = ["first", "second", "third"]


def config(path: object, **fields: Any) -> IngestConfig:
    own = ("split_bytes", "max_record_bytes", "target")
    stage = {name: fields.pop(name) for name in own if name in fields}
    return IngestConfig(source={"path": str(path), "dataset": "demo", **fields}, **stage)


def ingest(stage_run: Make, settings: IngestConfig) -> RunReport:
    report = run(stage_run("ingest"), settings)
    report.check("ingest")
    return report


def assert_same_content(first: DataFrame, second: DataFrame) -> None:
    """Equal but for the run and its time, in any order. A map cannot be sorted by; its JSON can."""
    maps = [name for name in ("meta", "signals") if name in first.columns]
    comparable = [
        frame.drop("run_id", "ingested_at").withColumns({name: F.to_json(name) for name in maps})
        for frame in (first, second)
    ]
    assert_df_equality(*comparable, ignore_row_order=True)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(b"\n".join(LINES))
    return folder


def test_golden_rows(stage_run: Make, tables: Tables, source: Path) -> None:
    report = ingest(stage_run, config(source, label_field="tag"))
    bronze = tables.read("bronze")
    assert sorted(bronze.columns) == sorted(BRONZE.names)
    first = bronze.where(F.col("text") == "first").collect()[0].asDict()
    assert {name: first[name] for name in first if name not in ("ingested_at", "run_id")} == {
        "doc_id": document_id("demo", "a.jsonl", "0"),
        "dataset": "demo",
        "source": f"file://{source}/a.jsonl",
        "locator": "0",
        "content_hash": content_hash(LINES[0]),
        "text": "first",
        "text_b": None,
        "tokens": None,
        "tags": None,
        "media": None,
        "media_type": None,
        "url": "http://a",
        "title": None,
        "published": datetime(2024, 3, 1, 12),
        "label": "x",
        "split": None,
        "meta": {"n": "1"},
    }
    assert sorted(row["text"] for row in bronze.collect()) == TEXTS
    assert bronze.select("ingested_at").distinct().count() == 1
    assert (report.rows_in, report.rows_kept, report.rows_rejected) == (6, 3, 3)
    assert report.bytes_in == (source / "a.jsonl").stat().st_size
    assert report.reasons == {"invalid_utf8": 1, "malformed_json": 1, "missing_text": 1}
    rejects = {row["drop_reason"]: row for row in tables.read("rejects").collect()}
    offset = sum(len(line) + 1 for line in LINES[:4])
    assert rejects["invalid_utf8"]["locator"] == str(offset)
    assert rejects["invalid_utf8"]["value"] == offset + 13
    assert rejects["invalid_utf8"]["doc_id"] == document_id("demo", "a.jsonl", str(offset))
    assert {(row["stage"], row["step"]) for row in rejects.values()} == {("ingest", "ingest")}


def test_empty_folder_is_an_error_and_an_empty_file_is_an_empty_table(
    stage_run: Make, tables: Tables, tmp_path: Path
) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    with pytest.raises(InputError, match="nothing to read"):
        ingest(stage_run, config(folder))
    assert not tables.exists("bronze")
    (folder / "a.jsonl").write_bytes(b"")
    report = ingest(stage_run, config(folder))
    assert (report.rows_in, report.rows_kept, report.rows_rejected) == (0, 0, 0)
    assert tables.read("bronze").count() == 0


def test_run_twice_gives_the_same_tables(stage_run: Make, tables: Tables, source: Path) -> None:
    settings = config(source)
    state = source_state(settings)
    ingest(stage_run, settings)
    ingest(stage_run, settings)
    for table in ("bronze", "rejects"):
        first, second = tables.read(table, 0), tables.read(table)
        assert tables.version(table) == 1
        assert first.count() == 3
        assert_same_content(first, second)
    assert source_state(settings) == state
    (source / "b.jsonl").write_bytes(b'{"text": "new"}')
    assert source_state(settings) != state


def test_broken_files_become_reasons(stage_run: Make, tables: Tables, source: Path) -> None:
    data = gzip.compress(b"\n".join(b'{"text": "%d"}' % index for index in range(2_000)))
    (source / "b.jsonl.gz").write_bytes(data[: len(data) // 2])
    (source / "c.jsonl.gz").write_bytes(b"plain")
    (source / "d.jsonl").write_bytes(b'{"text": "' + b"x" * 300_000 + b'"}\n{"text": "fourth"}')
    report = ingest(stage_run, config(source, max_record_bytes=100_000))
    assert report.reasons == {
        "corrupt_compression": 1,
        "invalid_utf8": 1,
        "malformed_json": 1,
        "missing_text": 1,
        "record_too_large": 1,
        "truncated_gzip": 1,
    }
    whole = tables.read("bronze").where(F.col("source").endswith("b.jsonl.gz"))
    texts = sorted(int(row["text"]) for row in whole.collect())
    assert 200 < len(texts) < 1_900
    assert texts == list(range(len(texts)))
    large = tables.read("rejects").where(F.col("drop_reason") == "record_too_large").collect()[0]
    assert (large["value"], large["threshold"]) == (300_012.0, 100_000.0)
    ids = tables.read("bronze").select("doc_id").union(tables.read("rejects").select("doc_id"))
    assert ids.distinct().count() == report.rows_in


def test_a_bomb_is_cut_and_what_stands_before_it_is_kept(
    stage_run: Make, tables: Tables, source: Path
) -> None:
    data = bz2.compress(b'{"text": "before"}\n' + bytes(200_000_000))
    assert len(data) < 500
    (source / "b.jsonl.bz2").write_bytes(data)
    report = ingest(stage_run, config(source))
    assert report.rows_kept == 4
    assert report.reasons["decompression_limit"] == 1
    cut = tables.read("rejects").where(F.col("drop_reason") == "decompression_limit").collect()[0]
    assert (cut["value"], cut["threshold"]) == (64 * 1024**2 / len(data), 1_000.0)
    assert cut["locator"] == "19"


def test_the_number_of_partitions_changes_nothing(stage_run: Make, tables: Tables, source: Path) -> None:
    (source / "b.jsonl").write_bytes(b"\n".join(b'{"text": "%d"}' % index for index in range(500)))
    one, many = config(source), config(source, split_bytes=3_000)
    groups = [{split.group for split in Files(settings).splits()} for settings in (one, many)]
    assert groups[0] == {0}
    assert len(groups[1]) > 2
    rows = Files(many).read(stage_run("ingest"), None, {}).rows.select(F.spark_partition_id())
    assert {row[0] for row in rows.distinct().collect()} == groups[1]
    ingest(stage_run, one)
    assert ingest(stage_run, many).rows_kept == 503
    for table in ("bronze", "rejects"):
        assert_same_content(tables.read(table, 0), tables.read(table))


def test_two_steps_keep_their_own_records_and_rejects(stage_run: Make, tables: Tables, source: Path) -> None:
    (source / "b.jsonl").write_bytes(b'{"text": "only one"}\nnot json')
    for step, name in (("left", "a.jsonl"), ("right", "b.jsonl")):
        run(stage_run("ingest", step=step), config(source / name, target=step))
    texts = {step: sorted(row["text"] for row in tables.read(step).collect()) for step in ("left", "right")}
    assert texts == {"left": TEXTS, "right": ["only one"]}
    rejects = [(row["step"], row["drop_reason"]) for row in tables.read("rejects").collect()]
    assert sorted(rejects) == [
        ("left", "invalid_utf8"),
        ("left", "malformed_json"),
        ("left", "missing_text"),
        ("right", "malformed_json"),
    ]


def test_an_id_given_twice_stays_with_its_first_place(
    stage_run: Make, tables: Tables, tmp_path: Path
) -> None:
    (tmp_path / "b.jsonl").write_bytes(b'{"id": "x", "text": "later file"}\n{"id": "y", "text": "alone"}')
    (tmp_path / "a.jsonl").write_bytes(
        b'{"id": "x", "text": "first"}\n{"id": "x", "text": "again"}\n{"id": "x"}\n{"text": "none"}'
    )
    settings = config(tmp_path / "*.jsonl", id_field="id")
    report = ingest(stage_run, settings)
    assert report.reasons == {"duplicate_id": 2, "missing_id": 1, "missing_text": 1}
    kept = {row["doc_id"]: row["text"] for row in tables.read("bronze").collect()}
    assert kept == {"x": "first", "y": "alone"}
    rejects = tables.read("rejects").where(F.col("drop_reason") == "duplicate_id").orderBy("source").collect()
    again, later = rejects
    assert again["doc_id"] == document_id("demo", "a.jsonl", "29")
    assert (again["value"], again["threshold"]) == (3.0, 1.0)
    assert later["detail"] == f"id x is taken by file://{tmp_path}/a.jsonl at 0"


def test_duplicate_ids_do_not_depend_on_the_order_of_rows(stage_run: Make, tmp_path: Path) -> None:
    lines = [b'{"id": %d, "text": "%d"}' % (index % 7, index) for index in range(40)]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    rows = Files(config(tmp_path / "a.jsonl", id_field="id")).read(stage_run("ingest"), None, {}).rows
    shuffled = rows.orderBy(F.xxhash64("text")).repartition(3)
    assert_same_content(with_duplicate_ids(rows).drop("first"), with_duplicate_ids(shuffled).drop("first"))
    assert with_duplicate_ids(rows).where(F.col("drop_reason").isNull()).count() == 7


def test_a_source_without_the_text_field_is_an_error_before_any_table(
    stage_run: Make, tables: Tables, source: Path
) -> None:
    (source / "a.jsonl").write_bytes(b'{"body": "a", "n": 1}\n{"body": "b"}')
    with pytest.raises(InputError) as caught:
        ingest(stage_run, config(source))
    assert "fields: body, n" in caught.value.got
    assert "ingest.source.text_field" in caught.value.next_action
    assert not tables.exists("bronze")
    assert not tables.exists("rejects")


def test_embedded_corpus(stage_run: Make, tables: Tables) -> None:
    report = ingest(stage_run, IngestConfig(source={"max_files": 60}))
    assert report.metrics["files"] == 60
    assert report.rows_kept > 60
    bronze = tables.read("bronze")
    assert {row["dataset"] for row in bronze.select("dataset").distinct().collect()} == {"python_env"}
    assert bronze.where("label is null or title is null or text is null").count() == 0
    assert bronze.select("doc_id").distinct().count() == report.rows_kept
