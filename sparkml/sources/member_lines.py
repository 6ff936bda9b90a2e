"""Lines and records of a compressed file that several tasks read: each takes the members that begin in its part of it.

A gzip member, zstd frame, bzip2 or xz stream decodes by itself. A line that runs on into the next member belongs to the
task in whose member it begins; so does the line that begins with the first member of the next task, for nobody can tell
whether the member before ended a line. Archives begin a member with every record: of them a task takes members from the
first that begins as a record does.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from sparkml.sources.codecs import Codec
from sparkml.sources.compression import (
    BrokenStreamError,
    Piece,
    codec_of,
    member_pieces,
    within_inflation,
)
from sparkml.sources.lines import Line, as_utf8, split_lines, wide_encoding
from sparkml.sources.open_split import CHUNK_BYTES, OpenSplit

# What a candidate must decode to be taken for the begin of a member.
_PROBE_BYTES = 256 * 1024


def member_lines(opened: OpenSplit) -> Iterator[Line]:
    """The lines that belong to a split of a compressed file (`stop` -1: all), with the members that they begin in."""
    split, size = opened.split, int(opened.file.size())
    codec, limit = codec_of(split.path), opened.options.max_record_bytes
    if split.start > 0 and _is_wide(opened.file, codec):
        return  # members may cut its characters: the first task takes the whole file
    begin = 0 if split.start == 0 else find_member(opened.file, codec, split.start, split.stop)
    if begin is None:
        return
    opened.file.seek(begin)
    members = Members(split.stop)
    raw = iter(lambda: opened.file.read(CHUNK_BYTES), b"")
    pieces = members.note(member_pieces(raw, codec, begin))
    chunks = within_inflation(pieces, compressed_bytes=size, max_inflation=opened.options.max_inflation)
    if split.start == 0 and _is_wide(opened.file, codec):
        opened.file.seek(0)
        yield from split_lines(as_utf8(chunks), limit=limit)
        return
    opened.file.seek(begin)
    for line in split_lines(chunks, limit=limit, skip_first=split.start > 0):
        if members.border is not None and line.offset > members.border:
            return
        decoded, member = members.of(line.offset)
        yield line._replace(offset=line.offset - decoded, member=member)


def member_records(opened: OpenSplit, head: bytes, members: Members) -> Iterator[bytes]:
    """What is decoded of the members of a split, from the first that begins with `head` in it to the first behind it.

    `members` notes where they begin. The first split has also what lies before.
    """
    split, codec = opened.split, codec_of(opened.split.path)
    begin = 0 if split.start == 0 else find_member(opened.file, codec, split.start, split.stop)
    if begin is None:
        return
    opened.file.seek(begin)
    raw = iter(lambda: opened.file.read(CHUNK_BYTES), b"")
    pieces = _from_head_to_head(member_pieces(raw, codec, begin), head, split.start == 0, split.stop)
    chunks = members.note(pieces)
    yield from within_inflation(
        chunks, compressed_bytes=int(opened.file.size()), max_inflation=opened.options.max_inflation
    )


def _from_head_to_head(pieces: Iterator[Piece], head: bytes, is_ours: bool, stop: int) -> Iterator[Piece]:
    current, beginning = -1, b""
    for piece in pieces:
        if piece.member != current:
            if is_ours and beginning:  # a member shorter than a head
                yield Piece(current, beginning)
            current, beginning, looking = piece.member, b"", True
            if 0 <= stop <= current and not is_ours:
                return
        if looking:
            beginning += piece.data
            if len(beginning) < len(head):
                continue
            is_head, looking = beginning.startswith(head), False
            if is_head and 0 <= stop <= current:
                return
            is_ours = is_ours or is_head
            piece, beginning = Piece(current, beginning), b""
        if is_ours:
            yield piece
    if is_ours and beginning:
        yield Piece(current, beginning)


class Members:
    """Where members begin: in what is decoded, and in the file."""

    def __init__(self, stop: int = -1) -> None:
        self._stop = stop
        self._starts: list[tuple[int, int]] = []
        self.border: int | None = None  # where the first member of the next task begins in what is decoded

    def note(self, pieces: Iterator[Piece]) -> Iterator[bytes]:
        """The bytes of pieces, their members noted."""
        decoded = 0
        for piece in pieces:
            if not self._starts or self._starts[-1][1] != piece.member:
                self._starts.append((decoded, piece.member))
                if self.border is None and 0 <= self._stop <= piece.member:
                    self.border = decoded
            decoded += len(piece.data)
            if piece.data:
                yield piece.data

    def of(self, offset: int) -> tuple[int, int]:
        """The member in which a decoded byte lies; those of earlier bytes are forgotten."""
        place = next(n for n in range(len(self._starts), 0, -1) if self._starts[n - 1][0] <= offset)
        del self._starts[: place - 1]
        return self._starts[0]


def find_member(file: pa.NativeFile, codec: Codec, start: int, stop: int) -> int | None:
    """Where the first member begins from byte `start` on; None where none does before `stop`."""
    at = start
    while at < stop:
        file.seek(at)
        window = file.read(CHUNK_BYTES)
        place = codec.find(window, 0)
        while place >= 0:
            if at + place >= stop:
                return None
            if _decodes(file, codec, at + place):
                return at + place
            place = codec.find(window, place + 1)
        if len(window) < CHUNK_BYTES:
            return None
        at += CHUNK_BYTES - codec.head_bytes  # a head may lie across the end
    return None


def has_members(file: pa.NativeFile, path: str, within: int) -> bool:
    """Whether a second member begins in the first `within` bytes, so that it is worth while to read it in parts."""
    return find_member(file, codec_of(path), 1, min(within, int(file.size()))) is not None


def _decodes(file: pa.NativeFile, codec: Codec, at: int) -> bool:
    file.seek(at)
    head = file.read(_PROBE_BYTES)
    decoded = 0
    try:
        for piece in member_pieces([head], codec, at):
            decoded += len(piece.data)
            if piece.member > at or decoded > _PROBE_BYTES:
                return True
    except BrokenStreamError as error:
        # It ends where what was read ends, not because it is wrong.
        return error.reason.startswith("truncated") and decoded > 0
    return True


def _is_wide(file: pa.NativeFile, codec: Codec) -> bool:
    """Whether a compressed file is UTF-16 or UTF-32."""
    file.seek(0)
    head = b""
    try:
        for piece in member_pieces([file.read(_PROBE_BYTES)], codec, 0):
            head += piece.data
            if len(head) >= 4:
                break
    except BrokenStreamError:
        pass  # whoever reads its lines will say so
    return wide_encoding(head[:4]) is not None
