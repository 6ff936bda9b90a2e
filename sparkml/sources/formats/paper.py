"""PDF, also inside zip and tar archives, and office documents: their text; one document a file.

The libraries are an extra (`pip install sparkml[documents]`). What they cannot read, or not in time, is a reject.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any

from sparkml.sources.compression import FREE_BYTES
from sparkml.sources.formats.media import WHOLE_FILE, stored_files
from sparkml.sources.members import Member
from sparkml.sources.open_split import OpenSplit
from sparkml.sources.records import BadRecordError, Defect, Record, is_encodable, printable, too_large
from sparkml.sources.time_limit import at_most

_MOST_SECONDS = 60
_PDF = b"%PDF-"
_HEAD_BYTES = 1024  # in which a PDF says that it is one
_PARAGRAPHS = "\n\n"


def read_pdf(opened: OpenSplit) -> Iterator[Record | Defect]:
    """A record for every PDF: the text of its pages, `title`, `published`, `pages`, `folder` and `file_name`."""
    return _records(opened, _of_pdf)


def read_office(opened: OpenSplit) -> Iterator[Record | Defect]:
    """A record for every document or presentation (docx, pptx): its text, and what it says of itself."""
    if opened.file.size() > opened.options.max_record_bytes:
        return iter((too_large(0, WHOLE_FILE, int(opened.file.size()), opened.options.max_record_bytes),))
    member = Member(0, None, opened.file.read())
    return iter((_record(member, opened, lambda data: _of_office(data, opened.options.max_inflation)),))


def _records(opened: OpenSplit, read: Callable[[bytes], dict[str, Any]]) -> Iterator[Record | Defect]:
    for item in stored_files(opened):
        yield item if isinstance(item, Defect) else _record(item, opened, read)


def _record(member: Member, opened: OpenSplit, read: Callable[[bytes], dict[str, Any]]) -> Record | Defect:
    locator = WHOLE_FILE if member.path is None else member.path
    found: dict[str, Any] | None = None
    try:
        with at_most(_MOST_SECONDS):
            found = read(member.data)
    except BadRecordError as error:
        return Defect(member.position, locator, *error.why)
    except Exception as error:  # the libraries raise whatever a file makes them stumble over
        return Defect(
            member.position, locator, "unreadable_document", printable(f"{type(error).__name__}: {error}")
        )
    if found is None:
        return Defect(member.position, locator, "document_too_slow", "", _MOST_SECONDS, _MOST_SECONDS)
    text = found.pop("text")
    text = text if is_encodable(text) else text.encode("utf-8", "replace").decode()
    place = PurePosixPath(opened.split.relative if member.path is None else member.path)
    fields = {
        opened.options.text_field: text,
        **{name: value for name, value in found.items() if value not in (None, "")},
        "folder": place.parent.name,
        "file_name": place.name,
    }
    return Record(member.position, locator, fields, member.data, member.path)


def _of_pdf(data: bytes) -> dict[str, Any]:
    from pypdf import PdfReader

    if _PDF not in data[:_HEAD_BYTES]:
        raise BadRecordError("not_a_pdf", f"{len(data)} bytes that begin {data[:8].hex(' ')}")
    reader = PdfReader(io.BytesIO(data))
    if reader.is_encrypted and not reader.decrypt(""):
        raise BadRecordError("encrypted", "the PDF asks for a password")
    texts = [page.extract_text().strip() for page in reader.pages]
    said = reader.metadata
    return {
        "text": _PARAGRAPHS.join(text for text in texts if text),
        "title": str(said.title) if said is not None and said.title else None,
        "published": said.creation_date if said is not None else None,
        "pages": len(texts),
    }


def _of_office(data: bytes, max_inflation: int) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names, total = set(archive.namelist()), sum(info.file_size for info in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise BadRecordError("not_an_office_document", f"zip: {error}") from error
    most = max(FREE_BYTES, max_inflation * len(data))
    if total > most:
        ratio = total / max(len(data), 1)
        raise BadRecordError(
            "decompression_limit", f"{len(data)} bytes inflate to {total}", ratio, max_inflation
        )
    if "word/document.xml" in names:
        return _of_docx(data)
    if "ppt/presentation.xml" in names:
        return _of_pptx(data)
    raise BadRecordError("not_an_office_document", "neither a document nor a presentation")


def _of_docx(data: bytes) -> dict[str, Any]:
    import docx
    from docx.table import Table

    document = docx.Document(io.BytesIO(data))
    parts = []
    for block in document.iter_inner_content():
        if isinstance(block, Table):
            parts += ["\t".join(cell.text.strip() for cell in row.cells) for row in block.rows]
        elif block.text.strip():
            parts.append(block.text.strip())
    return {"text": _PARAGRAPHS.join(parts), **_said(document.core_properties)}


def _of_pptx(data: bytes) -> dict[str, Any]:
    import pptx

    slides = pptx.Presentation(io.BytesIO(data))
    texts = [
        "\n".join(shape.text_frame.text.strip() for shape in slide.shapes if shape.has_text_frame)
        for slide in slides.slides
    ]
    return {
        "text": _PARAGRAPHS.join(text for text in texts if text.strip()),
        **_said(slides.core_properties),
        "pages": len(texts),
    }


def _said(properties: Any) -> dict[str, Any]:
    return {"title": properties.title, "author": properties.author, "published": properties.created}
