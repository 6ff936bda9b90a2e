"""Images and sounds: a record a file, also inside zip and tar archives; the bytes are looked at, not decoded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from sparkml.sources.byte_stream import ByteStream
from sparkml.sources.compression import BrokenStreamError, compression_suffix
from sparkml.sources.magic import IMAGES, SOUNDS, media_type_of
from sparkml.sources.members import Member
from sparkml.sources.open_split import OpenSplit
from sparkml.sources.records import Defect, Record, too_large
from sparkml.sources.tar_members import is_tar, tar_members
from sparkml.sources.zip_members import MAGIC, zip_members

WHOLE_FILE = "0"
_HEAD_BYTES = 512


def read_images(opened: OpenSplit) -> Iterator[Record | Defect]:
    """A record for every png, jpeg, gif, bmp, webp and tiff: its bytes, `folder` and `file_name`."""
    return _records(opened, IMAGES, "not_an_image")


def read_audio(opened: OpenSplit) -> Iterator[Record | Defect]:
    """A record for every wav and flac: its bytes, `folder` and `file_name`."""
    return _records(opened, SOUNDS, "not_audio")


def _records(opened: OpenSplit, kind: str, reason: str) -> Iterator[Record | Defect]:
    for item in stored_files(opened):
        yield item if isinstance(item, Defect) else _record(item, opened, kind, reason)


def stored_files(opened: OpenSplit) -> Iterator[Member | Defect]:
    """The files of an archive, or the file itself; a larger one than a record may be is not read to its end."""
    suffix = compression_suffix(opened.split.path)
    if suffix is None:
        head = opened.file.read(4)
        opened.file.seek(0)
        if head in MAGIC:
            yield from zip_members(opened)
            return
    name = opened.split.path.lower().removesuffix(suffix or "")
    stream = ByteStream(opened.chunks())
    limit = opened.options.max_record_bytes
    try:
        if is_tar(stream.peek(_HEAD_BYTES), name):
            yield from tar_members(stream, opened)
            return
        data = stream.read(limit + 1)
    except BrokenStreamError as error:
        yield Defect(0, WHOLE_FILE, error.reason, error.detail, error.value, error.threshold)
        return
    if len(data) > limit:
        size = int(opened.file.size()) if suffix is None else None
        yield too_large(0, WHOLE_FILE, size, limit)
        return
    yield Member(0, None, data)


def _record(member: Member, opened: OpenSplit, kind: str, reason: str) -> Record | Defect:
    locator = WHOLE_FILE if member.path is None else member.path
    media_type = media_type_of(member.data)
    if media_type is None or not media_type.startswith(kind):
        found = f"{len(member.data)} bytes that begin {member.data[:16].hex(' ')}" if member.data else "empty"
        return Defect(member.position, locator, reason, f"{media_type or found}, by its first bytes")
    place = PurePosixPath(opened.split.relative if member.path is None else member.path)
    fields = {
        opened.options.labelled.media or "media": member.data,
        "folder": place.parent.name,
        "file_name": place.name,
    }
    return Record(member.position, locator, fields, member.data, member.path)
