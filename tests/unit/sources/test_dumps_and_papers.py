"""Dumps of wikis, the older form of web archives, PDF and office documents."""

from __future__ import annotations

import bz2
import gzip
import io
import zipfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from sparkml.errors import MissingToolError
from sparkml.sources.formats import table
from sparkml.sources.wikitext import plain_text
from tests.unit.sources.conftest import Read

WIKI = """<?xml version="1.0" encoding="%s"?>
<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/">
  <siteinfo><sitename>W</sitename></siteinfo>
  <page><title>Köln</title><ns>0</ns><id>7</id>
    <revision><id>70</id><timestamp>2017-04-10T12:33:45Z</timestamp><contributor><id>1</id></contributor>
      <text>'''Köln''' is a [[city (place)|city]] &lt;ref&gt;x&lt;/ref&gt; on the [[Rhine]].</text></revision></page>
  <page><title>Old</title><ns>0</ns><id>8</id><redirect title="Köln" /><revision><text>#R</text></revision></page>
  <page><title>Talk:Köln</title><ns>1</ns><id>9</id><revision><text>hm</text></revision></page>
  <page><title>Long</title><ns>0</ns><id>10</id><revision><text>%s</text></revision></page>
  <page><title>Again</title><ns>0</ns><id>7</id><revision><text>Two.</text></revision></page>
</mediawiki>"""


def outline(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(row["locator"], row["text"], row["drop_reason"]) for row in rows]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_articles_of_a_dump(tmp_path: Path, read: Read, encoding: str) -> None:
    dump = (WIKI % (encoding, "x" * 3_000)).encode(encoding)
    (tmp_path / "wiki.xml.bz2").write_bytes(bz2.compress(dump))
    rows = read(tmp_path / "wiki.xml.bz2", format="mediawiki", max_record_bytes=2_000)
    assert outline(rows) == [
        ("7", "Köln is a city on the Rhine.", None),
        ("8", None, "redirect"),
        ("9", None, "not_an_article"),
        ("10", None, "record_too_large"),
        ("#4", "Two.", None),
    ]
    assert rows[0]["title"] == "Köln"
    assert rows[0]["published"] == datetime(2017, 4, 10, 12, 33, 45, tzinfo=timezone.utc)
    assert len({row["doc_id"] for row in rows}) == 5


@pytest.mark.parametrize(
    ("break_it", "kept"),
    [
        (lambda dump: dump[:-200], 1),
        (lambda dump: dump.replace("<siteinfo>", "<siteinfo><broken>"), 0),
        (lambda dump: dump.replace("<mediawiki", '<!DOCTYPE m [<!ENTITY a "aa">]><mediawiki', 1), 0),
    ],
)
def test_all_before_a_fault_of_a_dump_is_kept(tmp_path: Path, read: Read, break_it: Any, kept: int) -> None:
    (tmp_path / "wiki.xml").write_text(break_it(WIKI % ("utf-8", "Short.")), encoding="utf-8")
    rows = read(tmp_path / "wiki.xml", format="mediawiki")
    assert rows[-1]["drop_reason"] == "malformed_xml"
    assert len([row for row in rows if row["text"]]) == kept


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("A {{template|x=1}} b.", "A b."),
        ("Before\n{| class=x\n| cell\n|}\nafter", "Before\n\nafter"),
        ("[[File:a.jpg|thumb|A [[cat]]]] Text [http://a.b a link].", "Text a link."),
        ("[[Category:Cats]] [[de:Katze]] [[Cat|cats]]", "cats"),
        ("'''Bold''' and ''it''", "Bold and it"),
        ("== Head ==\n* one\n* two", "Head\none\ntwo"),
        ("Name ({{lang|x}}) is", "Name is"),
        ("__NOTOC__ x<!-- no -->y", "xy"),
        ("<math>x^2</math>ok&nbsp;&amp; so", "ok\xa0& so"),
        ("", ""),
    ],
)
def test_markup_of_wikis(markup: str, text: str) -> None:
    assert plain_text(markup) == text


def test_markup_that_nests_without_end_is_read_in_time() -> None:
    for opening in ("[[", "{{", "<b>", "{|", "''", "[[File:"):
        plain_text(opening * 5_000)


PAGE = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=latin-1\r\n\r\n<p>caf\xe9</p>"


def arc(*records: tuple[str, str, bytes]) -> bytes:
    """An archive of version 1; each record a member of its own, as they are written."""
    head = b"1 0 InternetArchive\nURL IP-address Archive-date Content-type Archive-length\n"
    all_records = [("filedesc://x.arc", "text/plain", head), *records]
    members = (
        f"{url} 1.2.3.4 20080430204825 {kind} {len(body)}\n".encode() + body + b"\n"
        for url, kind, body in all_records
    )
    return b"".join(gzip.compress(member) for member in members)


def test_pages_of_an_old_archive(tmp_path: Path, read: Read) -> None:
    head = b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\n\r\n"
    data = arc(
        ("http://a.com/", "text/html", PAGE),
        ("dns:a.com", "text/dns", b"1.2.3.4"),
        ("http://a.com/b", "text/html", head + gzip.compress(b"<p>b</p>")),
        ("http://a.com/c", "text/html", b"HTTP/1.0 404 Not Found\r\n\r\n"),
        ("http://a.com/d.png", "image/png", b"HTTP/1.0 200 OK\r\n\r\n\x89PNG"),
        ("http://a.com/e", "text/plain", b"no answer of a server"),
        ("http://a.com/f", "text/plain", b"x" * 3_000),
    )
    (tmp_path / "a.arc.gz").write_bytes(data)
    rows = read(tmp_path / "a.arc.gz", max_record_bytes=2_000)
    assert outline(rows) == [
        ("1", "<p>café</p>", None),
        ("3", "<p>b</p>", None),
        ("4", None, "http_status"),
        ("5", None, "not_text"),
        ("6", "no answer of a server", None),
        ("7", None, "record_too_large"),
    ]
    assert rows[0]["url"] == "http://a.com/"
    assert rows[0]["published"] == datetime(2008, 4, 30, 20, 48, 25, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("tail", "reason"),
    [
        (b"http://b.com/ 1.2.3.4 2008 text/html 100\nshort", "truncated_archive"),
        (b"nonsense\n", "corrupt_archive"),
        (b"a b c d " + b"9" * 30 + b"\nx", "corrupt_archive"),
        (b"a b c d " + b"9" * 15 + b"\nx", "record_too_large"),
    ],
)
def test_the_rest_of_a_broken_old_archive_is_one_reject(
    tmp_path: Path, read: Read, tail: bytes, reason: str
) -> None:
    plain = gzip.decompress(arc(("http://a.com/", "text/html", PAGE)))
    (tmp_path / "a.arc").write_bytes(plain + tail)
    rows = read(tmp_path / "a.arc")
    assert rows[0]["text"] == "<p>café</p>"
    assert rows[1]["drop_reason"] == reason


def pdf(*pages: str) -> bytes:
    """A PDF with a line of text a page."""
    from pypdf import PdfWriter
    from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

    names = {"/Type": "/Font", "/Subtype": "/Type1", "/BaseFont": "/Helvetica"}
    font = DictionaryObject({NameObject(key): NameObject(value) for key, value in names.items()})
    writer = PdfWriter()
    for text in pages:
        page = writer.add_blank_page(200, 200)
        fonts = DictionaryObject({NameObject("/F1"): font})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        stream = DecodedStreamObject()
        stream.set_data(f"BT /F1 12 Tf 10 100 Td ({text}) Tj ET".encode())
        page[NameObject("/Contents")] = writer._add_object(stream)
    writer.add_metadata({"/Title": "A paper"})
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def test_text_of_pdf_files_also_in_archives(tmp_path: Path, read: Read) -> None:
    with zipfile.ZipFile(tmp_path / "papers.zip", "w") as archive:
        archive.writestr("x/one.pdf", pdf("First page.", "Second page."))
        archive.writestr("x/none.pdf", b"text")
        archive.writestr("x/cut.pdf", pdf("First")[:300])
    rows = read(tmp_path / "papers.zip", format="pdf")
    assert outline(rows)[0] == ("x/one.pdf", "First page.\n\nSecond page.", None)
    assert rows[0]["title"] == "A paper"
    assert [row["drop_reason"] for row in rows[1:]] == ["not_a_pdf", "unreadable_document"]


def test_text_of_office_documents(tmp_path: Path, read: Read) -> None:
    import docx
    import pptx

    document = docx.Document()
    document.core_properties.title = "Letter"
    document.add_heading("Dear all", 1)
    document.add_paragraph("Come at once.")
    document.add_table(1, 2).rows[0].cells[1].text = "cell"
    document.save(str(tmp_path / "a.docx"))
    slides = pptx.Presentation()
    slide = slides.slides.add_slide(slides.slide_layouts[0])
    assert slide.shapes.title is not None
    slide.shapes.title.text = "Slide"
    slides.save(str(tmp_path / "b.pptx"))
    (tmp_path / "c.docx").write_bytes(b"PK\x03\x04 no zip")
    with zipfile.ZipFile(tmp_path / "d.docx", "w") as archive:
        archive.writestr("other", "x")
    with zipfile.ZipFile(tmp_path / "e.docx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", b"<w>" * 30_000_000)
    rows = read(tmp_path, max_inflation=10)
    assert outline(rows)[0] == ("0", "Dear all\n\nCome at once.\n\n\tcell", None)
    assert rows[0]["title"] == "Letter"
    assert rows[1]["text"].startswith("Slide")
    reasons = [row["drop_reason"] for row in rows[2:]]
    assert reasons == ["not_an_office_document", "not_an_office_document", "decompression_limit"]


def test_a_format_whose_library_is_not_there_says_so(
    tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.pdf").write_bytes(pdf("x"))
    monkeypatch.setattr(table.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingToolError, match="`pdf` needs pypdf"):
        read(tmp_path)
