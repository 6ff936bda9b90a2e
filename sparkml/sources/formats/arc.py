"""ARC, the Internet Archive's form before WARC (version 1 and 2): one document a page that a server gave.

The fields are those of a WARC record. From the first record on that cannot be read, the rest is one defect.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import datetime, timezone
from http.client import HTTPException, HTTPMessage, parse_headers
from typing import NamedTuple

from sparkml.sources.byte_stream import ByteStream
from sparkml.sources.compression import BrokenStreamError, decompressed, within_inflation
from sparkml.sources.encodings import decode
from sparkml.sources.formats.web_archives import PAGES, TEXTS
from sparkml.sources.open_split import OpenSplit
from sparkml.sources.records import Defect, Record, printable, too_large

_LONGEST_LINE = 64 * 1024
_MOST_DIGITS = 15
_CODINGS = {"gzip": ".gz", "x-gzip": ".gz"}


class _Head(NamedTuple):
    url: str
    date: str
    content_type: str
    length: int


def read_arc(opened: OpenSplit) -> Iterator[Record | Defect]:
    """A record for every page; its locator is its number in the file."""
    stream = ByteStream(opened.chunks())
    number = -1
    try:
        while line := _next_line(stream):
            head = _head_of(line)
            number += 1
            if head is None:
                detail = printable(f"arc: {line[:80]!r} where a record begins")
                yield Defect(number, f"{number}//", "corrupt_archive", detail, number)
                return
            if head.length > opened.options.max_record_bytes:
                yield too_large(number, str(number), head.length, opened.options.max_record_bytes)
                if stream.skip(head.length) < head.length:
                    yield _truncated(number)
                    return
                continue
            data = stream.read(head.length)
            if len(data) < head.length:
                yield _truncated(number)
                return
            if not head.url.startswith(("filedesc:", "dns:")):
                yield _item(number, head, data, opened)
    except BrokenStreamError as error:
        rest = number + 1
        yield Defect(rest, f"{rest}//", error.reason, error.detail, error.value, error.threshold)


def _next_line(stream: ByteStream) -> bytes:
    """The line that a record begins with; empty at the end. Between records there are empty lines."""
    while line := stream.read_line(_LONGEST_LINE):
        if line.strip():
            return line
    return b""


def _head_of(line: bytes) -> _Head | None:
    """URL, address, date, type, ..., length."""
    parts = line.decode("utf-8", "replace").split()
    length = parts[-1] if len(parts) >= 5 and line.endswith(b"\n") else ""
    if not (length.isascii() and length.isdigit() and len(length) <= _MOST_DIGITS):
        return None
    return _Head(parts[0], parts[2], parts[3].partition(";")[0].lower(), int(length))


def _truncated(number: int) -> Defect:
    return Defect(number, f"{number}//", "truncated_archive", "arc: the last record ends early", number)


def _item(number: int, head: _Head, data: bytes, opened: OpenSplit) -> Record | Defect:
    locator = str(number)
    status, headers, body = _http(data)
    if status is not None and not 200 <= status < 300:
        return Defect(number, locator, "http_status", str(status), status, 200)
    content_type, charset = head.content_type, None
    if headers is not None:
        content_type = headers.get_content_type() if headers.get("Content-Type") else content_type
        charset = headers.get_content_charset()
        suffix = _CODINGS.get((headers.get("Content-Encoding") or "").strip().lower())
        if suffix is not None:
            limits = {"compressed_bytes": len(body), "max_inflation": opened.options.max_inflation}
            try:
                body = b"".join(within_inflation(decompressed([body], suffix), **limits))
            except BrokenStreamError as error:
                return Defect(number, locator, error.reason, error.detail, error.value, error.threshold)
            if len(body) > opened.options.max_record_bytes:
                return too_large(number, locator, len(body), opened.options.max_record_bytes)
    if not content_type.startswith(TEXTS):
        return Defect(number, locator, "not_text", printable(content_type or "no content type"))
    found = decode(body, charset, is_html=content_type.startswith(PAGES))
    fields = {
        opened.options.text_field: found.text,
        "url": head.url,
        "published": _time_of(head.date),
        "content_type": content_type,
        **found.fields(),
        "status": status,
        "record_type": "response",
    }
    return Record(number, locator, fields, body)


def _http(data: bytes) -> tuple[int | None, HTTPMessage | None, bytes]:
    """Status, headers and body of an answer; what is none is a body."""
    if not data.startswith(b"HTTP/"):
        return None, None, data
    stream = io.BytesIO(data)
    words = stream.readline(_LONGEST_LINE).split()
    try:
        headers = parse_headers(stream)
    except HTTPException:
        return None, None, data
    status = int(words[1]) if len(words) > 1 and words[1].isdigit() else None
    return status, headers, stream.read()


def _time_of(date: str) -> datetime | None:
    try:
        return datetime.strptime(date, "%Y%m%d%H%M%S").replace(tzinfo=timezone.utc)
    except ValueError:
        return None
