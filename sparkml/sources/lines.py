"""Lines of a byte stream, with their offsets, in bounded memory."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from typing import NamedTuple

UTF8_BOM = codecs.BOM_UTF8
# UTF-32 first: its little-endian mark begins with UTF-16's.
_WIDE_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


_MEMBER_SHIFT = 24
# What is no character becomes half of a surrogate pair, whose bytes are not UTF-8.
_BROKEN = "sparkml.broken"
codecs.register_error(
    _BROKEN, lambda error: ("\ud800", error.end if isinstance(error, UnicodeDecodeError) else 0)
)


class Line(NamedTuple):
    """A line without its newline; `data` is None where it is longer than the limit.

    `offset` is where it begins: in the file, or in the member of a compressed file that begins at byte `member` of it.
    """

    offset: int
    length: int
    data: bytes | None
    member: int = 0

    @property
    def locator(self) -> str:
        """Where it begins, whoever reads the file in whatever parts."""
        return f"{self.member}+{self.offset}" if self.member else str(self.offset)

    @property
    def position(self) -> int:
        """Orders the lines of a file."""
        if not self.member:
            return self.offset
        return (self.member << _MEMBER_SHIFT) + min(self.offset, (1 << _MEMBER_SHIFT) - 1)


def wide_encoding(head: bytes) -> str | None:
    """UTF-16 or UTF-32, where the first four bytes of a file say so."""
    return next((name for mark, name in _WIDE_MARKS if head.startswith(mark)), None)


def as_utf8(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """UTF-8 for a stream that begins with a byte-order mark of UTF-16 or UTF-32; any other stream unchanged.

    A broken code unit becomes bytes that are not UTF-8, so that only the record around it is rejected.
    """
    source = iter(chunks)
    head = b""
    while len(head) < 4 and (chunk := next(source, b"")):
        head += chunk
    encoding = wide_encoding(head)
    if encoding is None:
        if head:
            yield head
        yield from source
        return
    decoder = codecs.getincrementaldecoder(encoding)(_BROKEN)
    mark = 4 if "32" in encoding else 2
    yield decoder.decode(head[mark:]).encode("utf-8", "surrogatepass")
    for chunk in source:
        yield decoder.decode(chunk).encode("utf-8", "surrogatepass")
    if decoder.getstate()[0]:
        yield b"\xff"  # half a code unit at the end


def split_lines(
    chunks: Iterable[bytes],
    *,
    limit: int,
    offset: int = 0,
    stop: int | None = None,
    skip_first: bool = False,
) -> Iterator[Line]:
    """The lines that begin before `stop`; `offset` is where the first chunk lies in the stream.

    `skip_first` leaves out the line that the stream begins in (it belongs to the split before). A line longer
    than `limit` bytes is measured, not kept. Whatever `chunks` raises comes out after all complete lines; the
    line that was open then is lost.
    """
    begin = offset
    held: list[bytes] = []
    size = 0
    for chunk in chunks:
        first, *rest = chunk.split(b"\n")
        size += len(first)
        if size <= limit and not skip_first:
            held.append(first)
        else:
            held.clear()
        if not rest:
            if skip_first and stop is not None and begin + size >= stop:
                return
            continue
        if not skip_first:
            yield Line(begin, size, b"".join(held) if size <= limit else None)
        skip_first = False
        begin += size + 1
        last = rest.pop()
        for data in rest:
            if stop is not None and begin >= stop:
                return
            yield Line(begin, len(data), data if len(data) <= limit else None)
            begin += len(data) + 1
        if stop is not None and begin >= stop:
            return
        held, size = ([last] if len(last) <= limit else []), len(last)
    if size and not skip_first:
        yield Line(begin, size, b"".join(held) if size <= limit else None)
