"""Parquet files of a few hundred bytes that stand for gigabytes: by dictionary, prefix, run, page and list."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparkml.sources import compression
from sparkml.sources.formats.parquet_limits import inflation_limits, plan_group

Read = Callable[..., list[dict[str, Any]]]
MEBIBYTE = 1024**2


def repeated(value: str | bytes, times: int) -> pa.Array:
    """The same value many times, which Parquet stores once."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * times, pa.int32()), pa.array([value]))


def one_list(values: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)


def text(rows: int) -> pa.Array:
    return pa.array(["x"] * rows)


def write(path: Path, table: pa.Table, **options: Any) -> None:
    pq.write_table(table, path, compression="zstd", **{"store_schema": False, **options})


def nulls_first(value: str, times: int) -> pa.Array:
    """As `repeated`, behind more nulls than a batch has rows."""
    return pa.concat_arrays([pa.nulls(3_000, pa.string()).dictionary_encode(), repeated(value, times)])


LONG = "a" * MEBIBYTE
MANY_ROWS: dict[str, tuple[Callable[[], pa.Table], dict[str, Any]]] = {
    "dictionary": (lambda: pa.table({"text": repeated(LONG, 1_000)}), {}),
    "dictionary in memory": (lambda: pa.table({"text": repeated(LONG, 1_000)}), {"store_schema": True}),
    "field of a struct": (
        lambda: pa.table(
            {"text": text(1_000), "s": pa.StructArray.from_arrays([repeated(LONG, 1_000)], ["a"])}
        ),
        {},
    ),
    "shared prefix": (
        lambda: pa.table({"text": [LONG] * 100}),
        {"use_dictionary": False, "column_encoding": {"text": "DELTA_BYTE_ARRAY"}},
    ),
    "fixed length": (
        lambda: pa.table({"text": text(100), "b": pa.array([LONG.encode()] * 100, pa.binary(MEBIBYTE))}),
        {},
    ),
}
DECLARED: dict[str, tuple[Callable[[], pa.Table], dict[str, Any]]] = {
    "list of strings": (lambda: pa.table({"text": text(1), "l": one_list(repeated(LONG, 10_000))}), {}),
    "list of numbers": (
        lambda: pa.table({"text": text(1), "l": one_list(pa.nulls(10_000_000, pa.int8()).fill_null(0))}),
        {},
    ),
    "nulls": (lambda: pa.table({"text": pa.nulls(6_000_000, pa.string())}), {"row_group_size": 6_000_000}),
    "page": (lambda: pa.table({"text": ["a" * 70 * MEBIBYTE]}), {"use_dictionary": False}),
}


@pytest.mark.parametrize("shape", MANY_ROWS)
def test_rows_are_kept_up_to_the_limit(tmp_path: Path, read: Read, shape: str) -> None:
    make, options = MANY_ROWS[shape]
    write(tmp_path / "a.parquet", make(), **options)
    assert (tmp_path / "a.parquet").stat().st_size < 2_000
    *kept, cut = read(tmp_path, max_record_bytes=2 * MEBIBYTE)
    assert len(kept) == 63  # of 64 MiB, and a few bytes a row
    assert [row["drop_reason"] for row in kept] == [None] * 63
    assert (cut["drop_reason"], cut["threshold"]) == ("decompression_limit", 1_000)
    last = make().num_rows - 1
    assert cut["locator"] == f"63-{last}"
    assert cut["value"] > 30_000
    assert f"{last - 62} rows lost" in cut["detail"]


@pytest.mark.parametrize("shape", DECLARED)
def test_what_the_footer_declares_over_the_limit_is_one_reject(
    tmp_path: Path, read: Read, shape: str
) -> None:
    make, options = DECLARED[shape]
    write(tmp_path / "a.parquet", make(), **options)
    (row,) = read(tmp_path, max_record_bytes=1 << 30)
    last = 5_999_999 if shape == "nulls" else 0
    assert (row["drop_reason"], row["locator"]) == ("decompression_limit", f"0-{last}")


READ_IN_A_CHILD = """
import json, sys
import pyarrow
from sparkml.sources.reader import read_splits
from sparkml.stages.ingest.config import IngestConfig
from sparkml.stages.ingest.origins.files import Files

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

files = Files(IngestConfig(source={"path": sys.argv[1], "dataset": "d"}))
splits = files.splits()
pyarrow.array([1])
before = peak()
rows = sum(batch.num_rows for batch in read_splits(splits, files.options))
print(json.dumps([rows, (peak() - before) / 1024]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_a_dictionary_that_stands_for_gigabytes_keeps_to_the_memory_of_a_batch(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", pa.table({"text": repeated(LONG, 100_000)}))
    command = [sys.executable, "-c", READ_IN_A_CHILD, str(tmp_path)]
    rows, mebibytes = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert rows == 64
    assert mebibytes < 300  # 64 MiB of batch, twice while it grows, and as many of Python's strings


def test_nulls_before_the_first_value_do_not_hide_it(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", pa.table({"text": nulls_first(LONG, 1_000)}))
    with pa.OSFile(str(tmp_path / "a.parquet")) as file:
        assert plan_group(file, pq.ParquetFile(file).metadata, 0, 1 << 20).batch_rows == 64


def test_the_cut_depends_on_neither_splits_nor_batches(tmp_path: Path, read: Read) -> None:
    table = pa.table({"text": repeated("b" * 100_000, 3_000)})
    write(tmp_path / "a.parquet", table, row_group_size=500)
    whole = read(tmp_path)
    reasons = [row["drop_reason"] for row in whole]
    assert reasons.count("decompression_limit") == 6
    assert 500 < reasons.count(None) < 700
    assert read(tmp_path, split_bytes=1) == whole
    assert read(tmp_path, batch_bytes=10) == whole


def test_a_row_that_is_too_large_leaves_its_neighbours(tmp_path: Path, read: Read) -> None:
    write(tmp_path / "a.parquet", pa.table({"text": ["a", "b" * 2_000, "c"]}))
    rows = read(tmp_path, max_record_bytes=1_000)
    assert [(row["locator"], row["text"], row["drop_reason"]) for row in rows] == [
        ("0", "a", None),
        ("1", None, "record_too_large"),
        ("2", "c", None),
    ]
    assert (rows[1]["value"], rows[1]["threshold"]) == (2_016, 1_000)


def test_a_limit_that_is_raised_lets_the_rows_through(tmp_path: Path, read: Read) -> None:
    write(tmp_path / "a.parquet", pa.table({"text": repeated("b" * 100_000, 1_000)}))
    assert read(tmp_path)[-1]["drop_reason"] == "decompression_limit"
    rows = read(tmp_path, max_inflation=10**7)
    assert [row["drop_reason"] for row in rows] == [None] * 1_000


def test_lists_of_words_come_through_a_dictionary_unchanged(
    tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = [[f"w{(row * number) % 50}" for number in range(row % 7)] or None for row in range(500)]
    table = pa.table({"text": [str(row) for row in range(500)], "tags": lists})
    write(tmp_path / "a.parquet", table)
    plain = read(tmp_path)
    monkeypatch.setattr("sparkml.sources.formats.parquet_limits._MOST_BATCH_BYTES", 1_000)
    file = pa.OSFile(str(tmp_path / "a.parquet"))
    assert plan_group(file, pq.ParquetFile(file).metadata, 0, 1 << 20).dictionaries == ("tags.list.element",)
    assert read(tmp_path) == plain
    assert [json.loads(row["meta"]["tags"]) for row in plain] == lists


def test_the_limits_of_row_groups_add_up_to_the_file_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparkml.sources.formats.parquet_limits.FREE_BYTES", 100)
    assert compression.FREE_BYTES > 100
    assert inflation_limits([10, 30], 50, max_inflation=2) == [25, 75]  # as much as is free
    assert inflation_limits([10, 30], 50, max_inflation=20) == [200, 600]
    assert inflation_limits([50, 50, 50, 50], 50, max_inflation=20) == [250] * 4  # they share their pages
    assert inflation_limits([0], 50, max_inflation=20) == [0]
