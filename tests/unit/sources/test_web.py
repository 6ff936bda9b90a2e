"""Web pages and web archives: encodings, records of every kind, archives that are broken."""

from __future__ import annotations

import gzip
import io
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from sparkml.sources.encodings import decode

Read = Callable[..., list[dict[str, Any]]]
PAGE = "<!DOCTYPE html><html><head><title>Größe</title></head><body><p>Größe und Maß.</p></body></html>"


def record(kind: str, body: bytes, content_type: str, number: int = 1, uri: str = "http://a.org/") -> bytes:
    """A record of a WARC file."""
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:0000-{number}>\r\nWARC-Target-URI: {uri}\r\n"
        f"WARC-Date: 2024-05-18T01:58:10Z\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body + b"\r\n\r\n"


def response(
    body: bytes, content_type: str, number: int = 1, status: str = "200 OK", also: str = ""
) -> bytes:
    """The record of an answer over HTTP."""
    http = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n{also}Content-Length: {len(body)}\r\n\r\n"
    return record("response", http.encode() + body, "application/http; msgtype=response", number)


ARCHIVE = (
    record("warcinfo", b"software: test\r\n", "application/warc-fields", 0),
    record("request", b"GET / HTTP/1.1\r\nHost: a.org\r\n\r\n", "application/http; msgtype=request", 1),
    response(PAGE.encode("latin-1"), "text/html; charset=iso-8859-1", 2),
    response(b"\x89PNG\r\n\x1a\n", "image/png", 3),
    response(b"gone", "text/html", 4, status="404 Not Found"),
    response(gzip.compress(PAGE.encode()), "text/html", 5, also="Content-Encoding: gzip\r\n"),
    record("revisit", b"", "application/http; msgtype=response", 6),
    record("resource", b"plain", "text/plain; charset=utf-8", 7),
    record("conversion", "Größe".encode(), "text/plain", 7),
)


def outline(rows: list[dict[str, Any]]) -> list[tuple[str | None, str | None, str | None]]:
    return [(row["meta"].get("record_id"), row["text"], row["drop_reason"]) for row in rows]


def places(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return sorted((row["position"], row["locator"], row["text"], row["drop_reason"]) for row in rows)


@pytest.mark.parametrize(
    ("data", "declared", "is_html", "text", "encoding"),
    [
        ("Größe".encode(), None, False, "Größe", "utf-8"),
        ("Größe".encode("utf-16"), None, False, "Größe", "utf-16-le"),
        (b"\xef\xbb\xbfa", "latin-1", False, "a", "utf-8"),
        ("Größe".encode("latin-1"), "iso-8859-1", False, "Größe", "cp1252"),
        ("Größe “x”".encode("cp1252"), None, False, "Größe “x”", "cp1252"),
        (b'<meta charset="koi8-r">' + "Привет".encode("koi8-r"), None, True, "Привет", "koi8-r"),
        (
            b'<meta http-equiv=Content-Type content="text/html; charset=shift_jis">'
            + "日本".encode("shift_jis"),
            None,
            True,
            "日本",
            "shift_jis",
        ),
        ("Größe".encode(), "no-such-thing", False, "Größe", "utf-8"),
        ("Größe".encode("latin-1"), "utf-8", False, "Größe", "cp1252"),
        (b"", None, True, "", "utf-8"),
    ],
)
def test_bytes_are_text_in_their_encoding(
    data: bytes, declared: str | None, is_html: bool, text: str, encoding: str
) -> None:
    found = decode(data, declared, is_html=is_html)
    assert found.text.endswith(text)
    assert found.encoding == encoding
    assert not found.is_broken


def test_bytes_that_are_no_text_are_kept_as_far_as_they_go() -> None:
    found = decode(b"\xef\xbb\xbfgood \xff\xfe bad")
    assert found.is_broken
    assert found.text == "good \ufffd\ufffd bad"


def test_a_page_that_lost_bytes_says_so(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.html").write_bytes(b"\xef\xbb\xbf<html>good \xff\xfe bad")
    (row,) = read(tmp_path)
    assert row["text"] == "<html>good \ufffd\ufffd bad"
    assert (row["meta"]["encoding"], row["meta"]["undecodable"]) == ('"utf-8"', "true")


@pytest.mark.parametrize("name", ["hex", "bz2", "unicode_escape", "utf-7", "idna", "undefined"])
def test_a_page_does_not_choose_what_is_no_encoding_of_pages(name: str) -> None:
    assert decode(b"a", name).encoding == "utf-8"


def test_a_folder_of_pages_and_an_archive_of_them(tmp_path: Path, read: Read) -> None:
    (tmp_path / "de").mkdir()
    (tmp_path / "de" / "a.html").write_bytes(PAGE.encode("latin-1"))
    (tmp_path / "b.htm.gz").write_bytes(gzip.compress(PAGE.encode()))
    rows = {row["locator"] + row["source"][-9:]: row for row in read(tmp_path)}
    assert {row["text"] for row in rows.values()} == {PAGE}
    assert {row["meta"]["encoding"] for row in rows.values()} == {'"utf-8"', '"cp1252"'}
    assert {row["meta"]["folder"] for row in rows.values()} == {'"de"', '""'}
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("site/a.html", PAGE)
        archive.writestr("../evil.html", PAGE)
        archive.writestr("empty.html", "")
    (tmp_path / "pages.zip").write_bytes(sink.getvalue())
    found = read(tmp_path / "pages.zip", format="html")
    assert [(row["text"], row["drop_reason"]) for row in found] == [(PAGE, None), (None, "unsafe_path")]


@pytest.mark.parametrize("name", ["a.warc", "a.warc.gz", "members.warc.gz"])
def test_records_with_text_are_documents(tmp_path: Path, read: Read, name: str) -> None:
    data = b"".join(ARCHIVE)
    if name.startswith("members"):
        data = b"".join(map(gzip.compress, ARCHIVE))
    elif name.endswith(".gz"):
        data = gzip.compress(data)
    (tmp_path / name).write_bytes(data)
    rows = read(tmp_path)
    assert outline(rows) == [
        ('"<urn:uuid:0000-2>"', PAGE, None),
        (None, None, "not_text"),
        (None, None, "http_status"),
        ('"<urn:uuid:0000-5>"', PAGE, None),
        ('"<urn:uuid:0000-7>"', "plain", None),
        ('"<urn:uuid:0000-7>"', "Größe", None),
    ]
    starts = [sum(map(len, ARCHIVE[:n])) for n in (2, 3, 4, 5, 7, 8)]
    packed = [sum(len(gzip.compress(one)) for one in ARCHIVE[:n]) for n in (2, 3, 4, 5, 7, 8)]
    wanted = [f"{at}+0" for at in packed] if name.startswith("members") else [str(at) for at in starts]
    assert [row["locator"] for row in rows] == wanted
    first = rows[0]
    assert first["url"] == "http://a.org/"
    assert str(first["published"]).startswith("2024-05-18 01:58:10")
    assert (first["meta"]["content_type"], first["meta"]["status"]) == ('"text/html"', "200")
    assert (rows[2]["value"], rows[2]["threshold"]) == (404, 200)
    assert len({row["doc_id"] for row in rows}) == len(rows)


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.ZstdCompressor().compress])
@pytest.mark.parametrize("together", [1, 3])
def test_an_archive_is_read_by_several_tasks(
    tmp_path: Path, read: Read, compress: Callable[[bytes], bytes], together: int
) -> None:
    chance = random.Random(together)
    records = []
    for number in range(120):
        body = f"<p>{number} {chance.randbytes(chance.randrange(200)).hex()}</p>".encode()
        records.append(response(body, "text/html", number, status=chance.choice(("200 OK", "404 No"))))
    parts = [b"".join(records[at : at + together]) for at in range(0, len(records), together)]
    if together > 1:  # a record that runs on in a member of its own, which begins like no record
        parts[3:4] = [parts[3][:-50], parts[3][-50:]]
    path = tmp_path / ("a.warc.gz" if compress is gzip.compress else "a.warc.zst")
    path.write_bytes(b"".join(map(compress, parts)))
    whole = places(read(path))
    assert len(whole) == 120
    assert len({locator for _, locator, _, _ in whole}) == 120
    for size in (50, 400, 900, 5_000, 20_000):
        assert places(read(path, split_bytes=size)) == whole


def test_texts_and_metadata_of_a_crawl(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.warc.wet").write_bytes(record("conversion", b"a text", "text/plain"))
    (tmp_path / "a.warc.wat").write_bytes(record("metadata", b'{"a": 1}', "application/json"))
    assert [row["text"] for row in read(tmp_path)] == ['{"a": 1}', "a text"]


def test_a_large_record_is_a_reject_and_costs_only_itself(tmp_path: Path, read: Read) -> None:
    records = [record("resource", body, "text/plain", n) for n, body in enumerate([b"x" * 5000, b"small"])]
    bomb = response(gzip.compress(b"x" * 100_000), "text/plain", 3, also="Content-Encoding: gzip\r\n")
    (tmp_path / "a.warc").write_bytes(b"".join([*records, bomb]))
    assert [(row["text"], row["drop_reason"]) for row in read(tmp_path, max_record_bytes=1000)] == [
        (None, "record_too_large"),
        ("small", None),
        (None, "record_too_large"),
    ]


@pytest.mark.parametrize("cut", [10, 300, 700])
def test_what_is_before_a_break_is_kept(tmp_path: Path, read: Read, cut: int) -> None:
    whole = b"".join(ARCHIVE)
    (tmp_path / "a.warc").write_bytes(
        whole[: len(whole) - cut] if cut > 10 else whole + b"junk that is no record"
    )
    rows = read(tmp_path)
    assert outline(rows)[0] == ('"<urn:uuid:0000-2>"', PAGE, None)
    assert len(rows) > 1
    packed = gzip.compress(whole)
    (tmp_path / "a.warc").unlink()
    (tmp_path / "b.warc.gz").write_bytes(packed[: len(packed) - cut])
    assert read(tmp_path)[-1]["drop_reason"] in (
        "truncated_gzip",
        "truncated_stream",
        "corrupt_archive",
        "truncated_archive",
    )
