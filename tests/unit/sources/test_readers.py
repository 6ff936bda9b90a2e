"""Every format, and every way in which a record can be bad: the reason, and the neighbours that are kept."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparkml.kernels.hashing import document_id

Read = Callable[..., list[dict[str, Any]]]


def outline(rows: list[dict[str, Any]]) -> list[tuple[str, str | None, str | None]]:
    return [(row["locator"], row["text"], row["drop_reason"]) for row in rows]


def test_json_line_becomes_a_golden_row(tmp_path: Path, read: Read) -> None:
    line = (
        '{"text": "Hi\\u0000 \\u00fc", "url": "http://a", "title": "T", "published": "2024-02-29T12:00:00+02:00",'
        ' "kind": 7, "n": 1.5, "big": 123456789012345678901234567890, "deep": {"a": [null, true]}, "s": "é\\n"}'
    ).encode()
    (tmp_path / "a.jsonl").write_bytes(b"\n" + line + b"\r\n")
    (row,) = read(tmp_path, label_field="kind")
    assert row == {
        "doc_id": document_id("d", "a.jsonl", "1"),
        "source": f"file://{tmp_path}/a.jsonl",
        "locator": "1",
        "content_hash": hashlib.sha256(line).hexdigest(),
        "text": "Hi\0 ü",
        "text_b": None,
        "tokens": None,
        "tags": None,
        "media": None,
        "media_type": None,
        "url": "http://a",
        "title": "T",
        "published": datetime(2024, 2, 29, 10, tzinfo=timezone.utc),
        "label": "7",
        "split": None,
        "meta": {
            "n": "1.5",
            "big": "123456789012345678901234567890",
            "deep": '{"a": [null, true]}',
            "s": '"é\\n"',
        },
        "position": 1,
        "place_id": None,
        "drop_reason": None,
        "value": None,
        "threshold": None,
        "detail": None,
    }


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b'["text"]', "not_an_object"),
        (b'"text"', "not_an_object"),
        (b"null", "not_an_object"),
        (b'{"text": "open', "malformed_json"),
        (b"plain words", "malformed_json"),
        (b"[" * 100_000, "malformed_json"),
        (b'{"body": "x"}', "missing_text"),
        (b"{}", "missing_text"),
        (b'{"text": null}', "null_text"),
        (b'{"text": 5}', "text_not_a_string"),
        (b'{"text": ["a"]}', "text_not_a_string"),
        (b'{"text": "caf\xe9"}', "invalid_utf8"),
        (b'{"text": "\\ud83d"}', "lone_surrogate"),
        (b'{"text": "' + b"x" * 300_000 + b'"}', "record_too_large"),
    ],
)
def test_a_bad_line_is_one_reject_between_its_neighbours(
    tmp_path: Path, read: Read, bad: bytes, reason: str
) -> None:
    good = b'{"text": "good"}'
    (tmp_path / "a.jsonl").write_bytes(good + b"\n" + bad + b"\n\n  \n" + good)
    rows = read(tmp_path, max_record_bytes=200_000)
    after = len(good) + 1 + len(bad) + 5
    assert outline(rows) == [("0", "good", None), ("17", None, reason), (str(after), "good", None)]
    assert rows[1]["doc_id"] == document_id("d", "a.jsonl", "17")
    assert rows[1]["source"] == f"file://{tmp_path}/a.jsonl"
    assert 0 < len(rows[1]["detail"]) <= 200
    assert rows[1]["detail"].isprintable()


def test_rejects_carry_what_was_measured(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "' + b"x" * 100 + b'"}\n{"text": "\xff"}\n')
    large, broken = read(tmp_path, max_record_bytes=50)
    assert (large["value"], large["threshold"]) == (112.0, 50.0)
    assert broken["value"] == 113 + 10


def test_half_a_surrogate_elsewhere_than_in_the_text_is_kept_as_an_escape(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "t", "title": "\\ud83d", "\\ud83d": "\\ud83d"}')
    (row,) = read(tmp_path)
    assert row["title"] is None
    assert row["meta"] == {"title": '"\\ud83d"', "\\ud83d": '"\\ud83d"'}


@pytest.mark.parametrize("split_bytes", [1, 7, 50, 1000])
def test_splits_by_bytes_read_every_record_once(tmp_path: Path, read: Read, split_bytes: int) -> None:
    lines = [b'{"text": "%s"}' % (b"x" * (index % 40)) for index in range(60)]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    whole = read(tmp_path, split_bytes=1 << 20)
    assert len(whole) == 60
    assert read(tmp_path, split_bytes=split_bytes) == whole


def test_a_split_may_begin_inside_a_record_that_is_too_large(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a"}\n' + b"x" * 5_000 + b'\n{"text": "b"}\n')
    rows = read(tmp_path, split_bytes=700, max_record_bytes=1_000)
    assert outline(rows) == [("0", "a", None), ("14", None, "record_too_large"), ("5015", "b", None)]


def test_batches_are_cut_by_bytes_and_lose_nothing(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "0123456789"}\n' * 50)
    assert read(tmp_path, batch_bytes=1) == read(tmp_path)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.ndjson"])
def test_byte_order_mark_is_no_text(tmp_path: Path, read: Read, mark: bytes, name: str) -> None:
    data = mark + b'{"text": "a"}\n'
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    (row,) = read(tmp_path)
    assert (row["text"], row["content_hash"]) == ("a", hashlib.sha256(b'{"text": "a"}').hexdigest())


@pytest.mark.parametrize("split_bytes", [10, 1 << 20])
def test_utf16_is_decoded(tmp_path: Path, read: Read, split_bytes: int) -> None:
    (tmp_path / "a.jsonl").write_bytes('{"text": "ä"}\n{"text": "漢"}\n'.encode("utf-16"))
    (tmp_path / "b.txt").write_bytes("zwölf".encode("utf-16"))
    assert [row["text"] for row in read(tmp_path, split_bytes=split_bytes)] == ["ä", "漢", "zwölf"]


def test_gzip_cut_in_half_keeps_its_complete_records(tmp_path: Path, read: Read) -> None:
    lines = [b'{"text": "%s"}' % os.urandom(40).hex().encode() for _ in range(400)]
    data = gzip.compress(b"\n".join(lines))
    (tmp_path / "a.jsonl.gz").write_bytes(data[: len(data) // 2])
    *kept, tail = read(tmp_path)
    assert 100 < len(kept) < 300
    assert [row["text"] for row in kept] == [line[10:-2].decode() for line in lines[: len(kept)]]
    assert tail["drop_reason"] == "truncated_gzip"
    assert tail["locator"] == str(sum(len(line) + 1 for line in lines[: len(kept)]))


def test_bytes_that_are_no_gzip_are_one_reject(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(b'{"text": "not compressed"}\n')
    (tmp_path / "b.jsonl").write_bytes(b'{"text": "b"}\n')
    rows = read(tmp_path)
    assert outline(rows) == [("0", None, "corrupt_compression"), ("0", "b", None)]


def test_empty_files_hold_no_records(tmp_path: Path, read: Read) -> None:
    for name in ("a.jsonl", "b.csv", "c.txt", "d.jsonl.gz"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "e.jsonl.gz").write_bytes(gzip.compress(b""))
    assert read(tmp_path) == []


def test_a_file_that_vanished_is_one_reject(
    tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sparkml.stages.ingest.origins import files

    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a"}\n')
    (tmp_path / "b.jsonl").write_bytes(b'{"text": "b"}\n')
    planned = files.plan_files

    def vanish(*arguments: Any) -> Any:
        splits = planned(*arguments)
        (tmp_path / "a.jsonl").unlink()
        return splits

    monkeypatch.setattr(files, "plan_files", vanish)
    assert outline(read(tmp_path)) == [("file", None, "unreadable_file"), ("0", "b", None)]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_forbidden_file_is_one_reject(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a"}\n')
    (tmp_path / "a.jsonl").chmod(0)
    assert outline(read(tmp_path)) == [("file", None, "unreadable_file")]


def test_an_unknown_extension_among_known_ones_is_one_reject(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a"}\n')
    (tmp_path / "b.xyz").write_bytes(b"?")
    assert outline(read(tmp_path)) == [("0", "a", None), ("file", None, "unknown_format")]


def test_csv_with_quotes_newlines_and_bad_rows(tmp_path: Path, read: Read) -> None:
    rows = [
        b"text,category,n\r\n",
        b'"two\r\nlines, ""quoted""",x,1\r\n',
        b"short,x\r\n",
        b"\r\n",
        b"long,x,1,2\r\n",
        b"caf\xe9,x,1\r\n",
        b'"odd" quotes,x,1\r\n',
        b"nul\0,x,1\r\n",
        b"last,y,2",
    ]
    (tmp_path / "a.csv").write_bytes(b"".join(rows))
    offsets = [str(sum(map(len, rows[:index]))) for index in range(len(rows))]
    found = read(tmp_path, label_field="category")
    assert outline(found) == [
        (offsets[1], 'two\r\nlines, "quoted"', None),
        (offsets[2], None, "wrong_field_count"),
        (offsets[4], None, "wrong_field_count"),
        (offsets[5], None, "invalid_utf8"),
        (offsets[6], None, "malformed_csv"),
        (offsets[7], "nul\0", None),
        (offsets[8], "last", None),
    ]
    assert (found[0]["label"], found[0]["meta"]) == ("x", {"n": '"1"'})
    assert found[0]["content_hash"] == hashlib.sha256(rows[1][:-2]).hexdigest()
    assert [(row["value"], row["threshold"]) for row in found[1:3]] == [(2.0, 3.0), (4.0, 3.0)]


def test_csv_quote_that_is_never_closed(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.csv").write_bytes(b'text,n\na,1\n"open,2\n' + b"b,3\n" * 3)
    assert outline(read(tmp_path)) == [("7", "a", None), ("11", None, "malformed_csv")]
    (tmp_path / "a.csv").write_bytes(b'text,n\na,1\n"open,2\n' + b"b,3\n" * 30)
    rows = read(tmp_path, max_record_bytes=30)
    assert [row["drop_reason"] for row in rows[:2]] == [None, "record_too_large"]
    assert all(row["text"] == "b" for row in rows[2:])


def test_tsv_without_header_takes_fields_by_position_and_quotes_as_text(tmp_path: Path, read: Read) -> None:
    (tmp_path / "sms.tsv").write_bytes(b'ham\t"Hi\r\nspam\tWIN "now"\r\n')
    rows = read(tmp_path, header=False, text_field=1, label_field=0)
    assert [(row["label"], row["text"], row["meta"]) for row in rows] == [
        ("ham", '"Hi', {}),
        ("spam", 'WIN "now"', {}),
    ]


def test_csv_delimiter_and_doubled_names(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.csv").write_bytes(b"text;a;a;\n'x;y';1;2;3\n")
    (row,) = read(tmp_path, delimiter=";", quote="'")
    assert (row["text"], row["meta"]) == ("x;y", {"a": '"1"', "a_2": '"2"', "_3": '"3"'})


def test_gzipped_csv_cut_inside_a_record(tmp_path: Path, read: Read) -> None:
    body = b"text,n\n" + b"".join(b"%s,1\n" % os.urandom(30).hex().encode() for _ in range(300))
    data = gzip.compress(body)
    (tmp_path / "a.csv.gz").write_bytes(data[: len(data) // 2])
    *kept, tail = read(tmp_path)
    assert kept
    assert all(len(row["text"]) == 60 for row in kept)
    assert (tail["drop_reason"], tail["locator"]) == ("truncated_gzip", str(7 + 63 * len(kept)))


def test_text_files_and_lines(tmp_path: Path, read: Read) -> None:
    (tmp_path / "pos").mkdir()
    (tmp_path / "pos" / "a.txt").write_bytes(b"one\ntwo\n")
    (tmp_path / "pos" / "b.txt").write_bytes(b"caf\xe9")
    (tmp_path / "pos" / "c.txt").write_bytes(b"x" * 2_000)
    files = read(tmp_path, label_field="folder", max_record_bytes=1_000)
    assert outline(files) == [
        ("0", "one\ntwo\n", None),
        ("0", None, "invalid_utf8"),
        ("0", None, "record_too_large"),
    ]
    assert (files[0]["label"], files[0]["meta"]) == ("pos", {"file_name": '"a.txt"'})
    assert (files[1]["value"], files[2]["value"]) == (3.0, 2000.0)
    lines = read(tmp_path / "pos" / "a.txt", format="lines")
    assert outline(lines) == [("0", "one", None), ("4", "two", None)]


def parquet_table() -> pa.Table:
    return pa.table(
        {
            "text": pa.array(["a", None, "c", "d"]),
            "when": pa.array([datetime(2024, 1, 2)] * 4, pa.timestamp("us")),
            "blob": pa.array([b"\0\xff"] * 4),
            "tags": pa.array([["x"], [], None, ["y"]]),
        }
    )


@pytest.mark.parametrize("split_bytes", [1, 1 << 20])
def test_parquet(tmp_path: Path, read: Read, split_bytes: int) -> None:
    pq.write_table(parquet_table(), tmp_path / "a.parquet", row_group_size=1)
    rows = read(tmp_path, split_bytes=split_bytes)
    assert outline(rows) == [("0", "a", None), ("1", None, "null_text"), ("2", "c", None), ("3", "d", None)]
    assert rows[0]["meta"] == {"when": '"2024-01-02T00:00:00"', "blob": '"AP8="', "tags": '["x"]'}


def test_parquet_of_other_types(tmp_path: Path, read: Read) -> None:
    pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "a.parquet")
    assert outline(read(tmp_path)) == [("0", None, "text_not_a_string"), ("1", None, "text_not_a_string")]


def test_parquet_string_that_is_no_utf8(tmp_path: Path, read: Read) -> None:
    texts = pa.Array.from_buffers(pa.string(), 3, pa.array([b"a", b"\xff", b"c"], pa.binary()).buffers())
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    assert outline(read(tmp_path)) == [("0", "a", None), ("1", None, "invalid_utf8"), ("2", "c", None)]


def test_broken_parquet_footer(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 this is not parquet PAR1")
    (tmp_path / "b.parquet").write_bytes(b"")
    assert outline(read(tmp_path)) == [("file", None, "corrupt_parquet"), ("file", None, "corrupt_parquet")]


def test_broken_parquet_row_group_costs_no_other(tmp_path: Path, read: Read) -> None:
    path = tmp_path / "a.parquet"
    texts = [os.urandom(500).hex() for _ in range(30)]
    pq.write_table(
        pa.table({"text": texts}), path, row_group_size=10, write_page_checksum=True, use_dictionary=False
    )
    where = pq.ParquetFile(path).metadata.row_group(1).column(0)
    data = bytearray(path.read_bytes())
    middle = where.data_page_offset + where.total_compressed_size // 2
    data[middle : middle + 64] = b"\xff" * 64
    path.write_bytes(data)
    rows = read(tmp_path)
    assert [row["text"] for row in rows if row["text"]] == texts[:10] + texts[20:]
    (broken,) = [row for row in rows if row["drop_reason"]]
    assert (broken["drop_reason"], broken["locator"], broken["value"]) == ("corrupt_parquet", "10-19", 10.0)


def test_id_field(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text":"a","id":"x"}\n{"text":"b","id":7}\n{"text":"c"}\n')
    rows = read(tmp_path, id_field="id")
    assert [(row["doc_id"], row["drop_reason"]) for row in rows[:2]] == [("x", None), ("7", None)]
    assert rows[2]["drop_reason"] == "missing_id"
    assert rows[0]["place_id"] == document_id("d", "a.jsonl", "0")
    assert rows[0]["meta"] == {}


def test_the_doc_id_depends_on_the_path_below_the_root_alone(tmp_path: Path, read: Read) -> None:
    for root in ("here", "there/deeper"):
        (tmp_path / root / "sub").mkdir(parents=True)
        (tmp_path / root / "sub" / "a.txt").write_bytes(b"a")
    (here,) = read(tmp_path / "here")
    (there,) = read(tmp_path / "there" / "deeper")
    assert here["doc_id"] == there["doc_id"] == document_id("d", "sub/a.txt", "0")


def test_fields_that_lie_within_others(tmp_path: Path, read: Read) -> None:
    rows = [
        {"page": {"body": {"text": "one"}, "lang": "en"}, "marks": [{"label": "a"}, {"label": "b"}], "n": 1},
        {"page": {"body": None, "lang": "de"}, "marks": []},
        {"page.body.text": "a name with dots", "marks": None},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pq.write_table(
        pa.Table.from_pylist([{"page": rows[0]["page"], "marks": rows[0]["marks"]}]), tmp_path / "b.parquet"
    )
    found = read(tmp_path, text_field="page.body.text", label_field="marks.1.label")
    assert [(row["text"], row["label"], row["drop_reason"]) for row in found] == [
        ("one", "b", None),
        (None, None, "missing_text"),
        ("a name with dots", None, None),
        ("one", "b", None),
    ]
    assert found[0]["meta"] == {
        "page": '{"body": {}, "lang": "en"}',
        "marks": '[{"label": "a"}, {}]',
        "n": "1",
    }
    assert json.loads(found[3]["meta"]["page"]) == {"body": {}, "lang": "en"}
