"""The members of a zip archive: bounded in size, one by one, never unpacked onto a disk."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, cast

import pyarrow as pa

from sparkml.sources.compression import FREE_BYTES
from sparkml.sources.members import Member, MemberNames, archive_defect, member_too_large
from sparkml.sources.open_split import OpenSplit
from sparkml.sources.records import Defect, printable


class _SeekError(OSError):
    """A place before the file's begin: the library expects an OSError, where Arrow raises another."""


MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
# The library inflates the others without a bound.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 1
# What the library raises for bytes that are no archive; a storage's fault is none of them.
_FAULTS = (
    zipfile.BadZipFile,
    NotImplementedError,
    struct.error,
    ValueError,
    EOFError,
    zlib.error,
    _SeekError,
)


class _File:
    """A file as the library wants it."""

    def __init__(self, file: pa.NativeFile) -> None:
        self._file = file
        self.read, self.tell = file.read, file.tell

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._file.tell(), io.SEEK_END: self._file.size()}[whence]
        if base + offset < 0:
            raise _SeekError(f"a place {-base - offset} bytes before the archive's begin")
        return int(self._file.seek(base + offset))

    def seekable(self) -> bool:
        return True


def zip_members(opened: OpenSplit) -> Iterator[Member | Defect]:
    """The files of the archive in the order of its directory; without the directory, at its end, there is none."""
    size = int(opened.file.size())
    most = max(FREE_BYTES, opened.options.max_inflation * size)
    try:
        archive = zipfile.ZipFile(cast(IO[bytes], _File(opened.file)))
    except _FAULTS as error:
        yield archive_defect(0, "corrupt_archive", f"zip: {error}")
        return
    names, total = MemberNames(), 0
    for position, info in enumerate(archive.infolist()):
        if info.filename.endswith("/"):  # `is_dir` fails for a member without a name
            continue
        path = names.path(position, info.filename.replace("\\", "/"))
        if not isinstance(path, str):
            if path is not None:
                yield path
            continue
        found = _member(archive, info, position, path, size, opened.options.max_record_bytes)
        total += len(found.data) if isinstance(found, Member) else 0
        if total > most:
            detail = f"{size} bytes inflate to more than {most}; the limit is max_inflation"
            rest = archive_defect(position, "decompression_limit", detail)
            yield rest._replace(value=total / max(size, 1), threshold=opened.options.max_inflation)
            return
        yield found


def _member(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, position: int, path: str, size: int, limit: int
) -> Member | Defect:
    if info.file_size > limit:
        return member_too_large(position, path, info.file_size, limit)
    why = None
    if info.flag_bits & _ENCRYPTED:
        why = "the member is encrypted"
    elif info.compress_type not in _METHODS:
        why = f"compression method {info.compress_type}, expected stored or deflated"
    elif not 0 <= info.header_offset < size:
        why = f"the member begins at byte {info.header_offset} of {size}"
    if why is not None:
        return Defect(position, path, "unreadable_member", why)
    try:
        with archive.open(info) as file:
            # One byte more than it says: the library checks the sum at the end alone.
            return Member(position, path, file.read(info.file_size + 1))
    except _FAULTS as error:
        return Defect(position, path, "corrupt_member", printable(str(error)))
