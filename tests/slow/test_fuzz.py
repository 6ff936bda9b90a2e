"""Readers and kernels against 100,000 broken inputs: each ends, loses no row in silence, and says the same twice."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import random
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from sparkml.kernels.texts import read_texts
from sparkml.kernels.words import Memory
from sparkml.sources.reader import read_splits
from sparkml.stages.clean.batches import decide
from sparkml.stages.clean.config import RULE_SETS, CleanConfig
from sparkml.stages.clean.rules.bad_words import BadWords
from sparkml.stages.clean.rules.decontaminate import Decontaminate
from sparkml.stages.clean.rules.gopher_quality import GopherQuality
from sparkml.stages.clean.rules.url import URL
from sparkml.stages.ingest.config import IngestConfig
from sparkml.stages.ingest.origins.files import Files
from tests.unit.sources.test_dumps_and_papers import PAGE, WIKI, arc, pdf

READ_INPUTS, TEXTS = 84_000, 30_000  # some formats get a part of theirs
ROWS = [{"text": f"Row {n} says ünd more.", "url": f"http://a.com/{n}", "n": n} for n in range(8)]
LINES = "\n".join(json.dumps(row) for row in ROWS).encode()
WARC = b"".join(
    b"WARC/1.0\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:uuid:%d>\r\nWARC-Date: 2024-01-01T00:00:00Z\r\n"
    b"WARC-Target-URI: http://a.com/%d\r\nContent-Type: application/http;msgtype=response\r\n"
    b"Content-Length: %d\r\n\r\n%s\r\n\r\n" % (n, n, len(PAGE), PAGE)
    for n in range(3)
)


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a.html", "b/c.html"):
            archive.writestr(name, "<html><body><p>page</p></body></html>")
    return out.getvalue()


def tarred() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("a.html")
        info.size = 13
        archive.addfile(info, io.BytesIO(b"<p>page</p>\n\n"))
    return out.getvalue()


def parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(
        pa.Table.from_pylist([{**row, "deep": {"a": [row["n"]]}} for row in ROWS]), out, row_group_size=3
    )
    return out.getvalue()


def letter() -> bytes:
    out, document = io.BytesIO(), docx.Document()
    document.add_paragraph("Dear all")
    document.save(out)
    return out.getvalue()


SAMPLES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "a.jsonl": ("auto", lambda: LINES),
    "a.jsonl.gz": ("auto", lambda: gzip.compress(LINES[:200]) + gzip.compress(LINES[200:])),
    "a.jsonl.zst": ("auto", lambda: zstandard.ZstdCompressor().compress(LINES)),
    "a.jsonl.bz2": ("auto", lambda: bz2.compress(LINES)),
    "a.jsonl.xz": ("auto", lambda: lzma.compress(LINES)),
    "a.csv": ("auto", lambda: b'text,n\n"a, ""b""",1\nc,2\n'),
    "a.parquet": ("auto", parquet),
    "a.txt": ("auto", lambda: "Text with ünd.\n".encode("utf-16")),
    "a.conll": ("auto", lambda: b"EU B-ORG\nrejects O\n\nPeter B-PER\n"),
    "a.html": ("auto", lambda: b"<html><body><p>page</p></body></html>"),
    "a.zip": ("html", zipped),
    "a.tar": ("html", tarred),
    "a.warc": ("auto", lambda: WARC),
    "a.warc.gz": ("auto", lambda: gzip.compress(WARC)),
    "a.arc": ("auto", lambda: gzip.decompress(arc(("http://a.com/", "text/html", PAGE)))),
    "a.xml": ("mediawiki", lambda: (WIKI % ("utf-8", "Short.")).encode()),
    "a.pdf": ("auto", lambda: pdf("One.", "Two.")),
    "a.docx": ("auto", letter),
}
# Libraries that take milliseconds a file get a smaller part.
SLOW = {"a.pdf": 20, "a.docx": 20, "a.xml": 4}


def broken(data: bytes, chance: random.Random) -> bytes:
    """Bytes that are changed, lost, doubled or put in, or cut off."""
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        at = chance.randrange(len(found) + 1) if found else 0
        match chance.randrange(6):
            case 0:
                found[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del found[at : at + chance.choice((1, 4, 50))]
            case 2:
                found[at:at] = found[at : at + 30] * chance.choice((1, 3))
            case 3:
                found[at:at] = chance.randbytes(chance.choice((1, 8)))
            case 4:
                found[at : at + 4] = chance.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f"))
            case _:
                del found[at:]
    return bytes(found)


def read(path: Path, format_name: str) -> list[dict[str, Any]]:
    config = IngestConfig(
        source={"path": str(path), "dataset": "d", "format": format_name},
        max_record_bytes=60_000,
        split_bytes=150,
    )
    files = Files(config)
    rows = [row for batch in read_splits(files.splits(), files.options) for row in batch.to_pylist()]
    for row in rows:
        assert (row["text"] is None) != (row["drop_reason"] is None)
    return rows


@pytest.mark.parametrize("name", SAMPLES)
def test_broken_files_end_as_rows_and_rejects(tmp_path: Path, name: str) -> None:
    format_name, make = SAMPLES[name]
    data, chance = make(), random.Random(name)
    path = tmp_path / name
    path.write_bytes(data)
    assert any(row["text"] for row in read(path, format_name))
    # For some forged footers Arrow ends the process instead of raising an error: the footer stays whole.
    footer = int.from_bytes(data[-8:-4], "little") + 8 if name.endswith(".parquet") else 0
    body, end = data[: len(data) - footer], data[len(data) - footer :]
    for turn in range(READ_INPUTS // len(SAMPLES) // SLOW.get(name, 1)):
        path.write_bytes(broken(body, chance) + end)
        rows = read(path, format_name)
        if turn % 10 == 0:
            assert read(path, format_name) == rows


PARTS = (
    *("The cat and the dog. ", "übel ", "<html><body><p>", "</p>", "\n\n", "{", "lorem ipsum "),
    *("4111 1111 1111 1111 ", "a@b.com ", "http://bad.org/x ", "\u2028", "\u200b", "\ud7ff", "\U0010ffff"),
    *("我今天早上在公园里", "â€™ ", "x" * 3000, "((((((((", "1.1.1.1.1.1.1.1", "javascript ", "[3]", "..."),
    *("…", "#", "-", "\x00", "\x1f", "\x85", "<!--", "&#x110000;"),
)


def texts(chance: random.Random, count: int) -> Iterator[str]:
    for _ in range(count):
        if chance.random() < 0.2:
            yield chance.randbytes(chance.randrange(200)).decode("utf-8", "replace")
        else:
            yield "".join(
                chance.choice(PARTS) * chance.choice((1, 1, 3, 40)) for _ in range(chance.randrange(25))
            )


def test_any_text_is_decided_the_same_alone_and_in_company(tmp_path: Path) -> None:
    (tmp_path / "set.txt").write_text("The cat and the dog. The cat and the dog. The cat\n")
    config = CleanConfig(
        rules=tuple(name for name in RULE_SETS if name != "quality"),
        url=URL(listed=("bad.org",)),
        gopher_quality=GopherQuality(by_language=True),
        bad_words=BadWords(words={"en": ("dog",), "zh": ("公园",)}),
        decontaminate=Decontaminate(sets={"s": str(tmp_path / "set.txt")}, action="cut"),
    ).prepared()
    chance, memory = random.Random(9), Memory()
    given = list(texts(chance, TEXTS))
    for start in range(0, TEXTS, 100):
        batch = given[start : start + 100]
        given_urls = [chance.choice((None, "http://bad.org/", "x", text[:50])) for text in batch]
        urls = {"url": pa.array(given_urls, pa.string())}
        found = decide(pa.array(batch, pa.string()), config, memory, None, urls)
        assert all((text is None) != (why is None) for text, why in zip(*both(found), strict=True))
        assert len(read_texts(found["text"]).offsets) == len(batch) + 1
        one = chance.randrange(len(batch))
        alone = decide(
            pa.array([batch[one]], pa.string()), config, Memory(), None, {"url": urls["url"][one : one + 1]}
        )
        assert [column[0] for column in both(alone)] == [column[one] for column in both(found)]


def both(found: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    return found["text"].to_pylist(), found["drop_reason"].to_pylist()
