"""Web pages: HTML files, also inside zip and tar archives; one document a file, its markup as it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from sparkml.sources.encodings import decode
from sparkml.sources.formats.media import WHOLE_FILE, stored_files
from sparkml.sources.members import Member
from sparkml.sources.open_split import OpenSplit
from sparkml.sources.records import Defect, Record

HTML = "text/html"


def read_web_pages(opened: OpenSplit) -> Iterator[Record | Defect]:
    """A record for every page: its markup as text, `folder`, `file_name`, `content_type` and `encoding`."""
    for item in stored_files(opened):
        if isinstance(item, Defect):
            yield item
        elif item.data:
            yield _record(item, opened)


def _record(member: Member, opened: OpenSplit) -> Record:
    place = PurePosixPath(opened.split.relative if member.path is None else member.path)
    found = decode(member.data, is_html=True)
    fields = {
        opened.options.text_field: found.text,
        "folder": place.parent.name,
        "file_name": place.name,
        "content_type": HTML,
        **found.fields(),
    }
    locator = WHOLE_FILE if member.path is None else member.path
    return Record(member.position, locator, fields, member.data, member.path)
