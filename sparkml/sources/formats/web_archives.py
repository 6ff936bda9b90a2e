"""WARC, also as WET (texts) and WAT (metadata): one document a record that holds a page or a text.

Requests, the archive's own information and revisits are no documents. What a server gave that is no text (images, PDF),
or with another status than success, is a reject with its reason.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from functools import reduce
from operator import or_
from typing import Any

from sparkml.sources.byte_stream import ByteStream
from sparkml.sources.compression import BrokenStreamError, compression_suffix
from sparkml.sources.encodings import decode
from sparkml.sources.lines import Line
from sparkml.sources.member_lines import Members, member_records
from sparkml.sources.open_split import OpenSplit
from sparkml.sources.records import Defect, Record, printable, too_large

TEXTS = ("text/", "application/xhtml", "application/xml", "application/json", "application/ld+json")
# Kinds of records that may hold a text.
_KINDS = ("response", "resource", "conversion", "metadata")
_HEAD = b"WARC/"
PAGES = ("text/html", "application/xhtml")


def read_web_archive(opened: OpenSplit) -> Iterator[Record | Defect]:
    """A record for every response, resource and conversion with text; its locator is where it begins: see `Line`.

    Fields: the text (of a page its markup), `url`, `published` (when it was fetched), `content_type`, `encoding`,
    `status`, `record_type`, `record_id`. From the first record on that cannot be read, the rest is one defect.
    """
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    kinds = {name: getattr(WarcRecordType, name) for name in _KINDS}
    wanted = reduce(or_, kinds.values())
    names = {int(kind): name for name, kind in kinds.items()}
    members = Members() if compression_suffix(opened.split.path) is not None else None
    chunks = opened.chunks() if members is None else member_records(opened, _HEAD, members)
    stream = _Source(ByteStream(chunks))
    place, why = Line(opened.split.start, 0, None), ""
    try:
        records = ArchiveIterator(stream, wanted, parse_http=True, auto_decode="all", stream_detect=False)
        for record in records:
            decoded, member = (0, 0) if members is None else members.of(record.stream_pos)
            place = Line(record.stream_pos - decoded, 0, None, member)
            found = _item(place, record, names[int(record.record_type)], opened)
            if found is not None:
                yield found
    except (OSError, ValueError) as error:
        why = str(error)
    except BaseException as error:
        # The library's own: bytes that it did not think of.
        if type(error).__name__ != "PanicException":
            raise
        why = str(error)
    rest, behind = place.position + 1, f"{place.locator}//"
    if (broken := stream.failure) is not None:
        yield Defect(rest, behind, broken.reason, broken.detail, broken.value, broken.threshold)
    elif why:
        detail = printable(f"warc: {why}, behind the record at {place.locator}")
        yield Defect(rest, behind, "corrupt_archive", detail, place.offset)


class _Source(io.RawIOBase):
    """A stream as the library reads it; one that breaks ends, and `failure` says why."""

    def __init__(self, stream: ByteStream) -> None:
        super().__init__()
        self._stream = stream
        self._read = 0
        self.failure: BrokenStreamError | None = None

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        try:
            found = self._stream.read(size if size >= 0 else sys.maxsize)
        except BrokenStreamError as error:
            self.failure = error
            return b""
        self._read += len(found)
        return found

    def tell(self) -> int:
        """Bytes so far."""
        return self._read


def _item(place: Line, record: Any, kind: str, opened: OpenSplit) -> Record | Defect | None:
    http = record.http_headers
    given = record.headers.get("Content-Type") if http is None else record.http_content_type
    content_type = (given or "").partition(";")[0].strip().lower()
    if kind == "metadata" and content_type != "application/json":
        return None
    number, locator = place.position, place.locator
    limit = opened.options.max_record_bytes
    if record.content_length > limit:
        return too_large(number, locator, record.content_length, limit)
    if http is not None and http.status_code is not None and not 200 <= http.status_code < 300:
        return Defect(number, locator, "http_status", printable(str(http.status_code)), http.status_code, 200)
    if not content_type.startswith(TEXTS):
        return Defect(number, locator, "not_text", printable(content_type or "no content type"))
    data = record.reader.read(limit + 1)
    if len(data) > limit:
        return too_large(number, locator, None, limit)
    charset = (
        record.http_charset if http is not None else (given or "").partition("charset=")[2].strip("\"' ")
    )
    found = decode(data, charset or None, is_html=content_type.startswith(PAGES))
    fields = {
        opened.options.text_field: found.text,
        "url": (record.headers.get("WARC-Target-URI") or "").strip("<>") or None,
        "published": record.record_date,
        "content_type": content_type,
        **found.fields(),
        "status": None if http is None else http.status_code,
        "record_type": kind,
        "record_id": record.record_id or None,
    }
    return Record(number, locator, fields, data)
