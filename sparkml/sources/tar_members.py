"""The members of a tar archive, plain or compressed: read as a stream, one by one, never unpacked onto a disk."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator

from sparkml.sources.byte_stream import ByteStream
from sparkml.sources.compression import BrokenStreamError
from sparkml.sources.members import Member, MemberNames, archive_defect, member_defect, member_too_large
from sparkml.sources.open_split import OpenSplit
from sparkml.sources.records import Defect

_BLOCK = 512
_MAGIC = b"ustar"
_MAGIC_AT = 257
# Headers of names and attributes are read as a whole.
_MOST_HEADER_BYTES = 1024**2
_PAX_RECORD = re.compile(rb"(\d{1,8}) ([^=\n]+)=")
_LONG_NAME, _LONG_LINK = tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_HEADERS = (_LONG_NAME, _LONG_LINK, *_PAX, tarfile.XGLTYPE)
_WITHOUT_DATA = (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)


class _BrokenArchiveError(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def is_tar(head: bytes, name: str) -> bool:
    """Whether a file that begins so is a tar archive; archives of the first form are known by name alone."""
    return head[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] == _MAGIC or name.endswith(".tar")


def tar_members(stream: ByteStream, opened: OpenSplit) -> Iterator[Member | Defect]:
    """The files of the archive; where it ends early or rots, what came before, and one defect for the rest."""
    reader = _Reader(stream, opened.options.max_record_bytes)
    try:
        yield from reader.members()
    except BrokenStreamError as error:
        rest = archive_defect(reader.position, error.reason, error.detail)
        yield rest if error.value is None else rest._replace(value=error.value, threshold=error.threshold)
    except _BrokenArchiveError as error:
        yield archive_defect(reader.position, error.reason, f"tar: {error}")


class _Reader:
    def __init__(self, stream: ByteStream, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self.position = 0  # of the member that is read

    def members(self) -> Iterator[Member | Defect]:
        names = MemberNames()
        long_name: str | None = None
        long_size: int | None = None
        while (info := self._header()) is not None:
            if info.type in _HEADERS:
                content = self._content(info.size, most=_MOST_HEADER_BYTES)
                if info.type == _LONG_NAME:
                    long_name = content.rstrip(b"\0").decode("utf-8", "surrogateescape")
                elif info.type in _PAX:
                    given = _attributes(content)
                    long_name, long_size = given.get("path", long_name), _size(given.get("size"))
                continue
            name = info.name if long_name is None else long_name
            size = info.size if long_size is None else long_size
            long_name = long_size = None
            if info.type != tarfile.DIRTYPE and (found := self._member(info, name, size, names)) is not None:
                yield found
            self.position += 1

    def _member(
        self, info: tarfile.TarInfo, name: str, size: int, names: MemberNames
    ) -> Member | Defect | None:
        if info.type == tarfile.GNUTYPE_SPARSE:
            raise _BrokenArchiveError(
                "unreadable_member", f"{name} is stored with holes, which is not supported"
            )
        if info.type in _WITHOUT_DATA:
            return member_defect(self.position, name, "not_a_file", "a link or a device")
        path = names.path(self.position, name)
        if isinstance(path, str) and size <= self._limit:
            return Member(self.position, path, self._content(size, most=self._limit))
        padded = _padded(size)
        if self._stream.skip(padded) < padded:
            raise _BrokenArchiveError("truncated_archive", f"the archive ends within {name}")
        return member_too_large(self.position, path, size, self._limit) if isinstance(path, str) else path

    def _header(self) -> tarfile.TarInfo | None:
        """The next header; None at the archive's end mark."""
        block = self._stream.read(_BLOCK)
        if len(block) == _BLOCK and not block.strip(b"\0"):
            return None
        if len(block) < _BLOCK:
            raise _BrokenArchiveError("truncated_archive", "the archive ends before its end mark")
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.TarError as error:
            raise _BrokenArchiveError("corrupt_archive", str(error)) from error
        if info.size < 0:
            raise _BrokenArchiveError("corrupt_archive", f"a member of {info.size} bytes")
        return info

    def _content(self, size: int, most: int) -> bytes:
        if size > most:
            raise _BrokenArchiveError("corrupt_archive", f"a header of {size} bytes, at most {most}")
        content = self._stream.read(_padded(size))
        if len(content) < size:
            raise _BrokenArchiveError("truncated_archive", "the archive ends within a member")
        return content[:size]


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _size(text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"\d{1,18}", text):
        raise _BrokenArchiveError("corrupt_archive", f"a member of {text:.40} bytes")
    return int(text)


def _attributes(content: bytes) -> dict[str, str]:
    """The records of a pax header (POSIX.1-2001): `length key=value` and a newline."""
    found = {}
    at = 0
    while (match := _PAX_RECORD.match(content, at)) is not None:
        end = at + int(match[1])
        if end <= match.end() or end > len(content):
            break
        value = content[match.end() : end - 1]
        found[match[2].decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        at = end
    return found
