"""Compressed files as streams: bounded in what they inflate to, and read so that all before a fault is kept."""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import zstandard

from sparkml.sources.codecs import CODECS, MOST_DECODER_BYTES, Codec, DecoderMemoryError, Member
from sparkml.sources.records import printable

# However small a file is, it may inflate to this: about what a task reads of a plain file.
FREE_BYTES = 64 * 1024**2
_FEED_BYTES = 16 * 1024  # a decoder copies what it has not taken yet
_BY_SUFFIX = {suffix: codec for codec in CODECS for suffix in codec.suffixes}
SUFFIXES = tuple(_BY_SUFFIX)
_FAULTS = (zlib.error, OSError, EOFError, lzma.LZMAError, zstandard.ZstdError)


class BrokenStreamError(Exception):
    """The bytes end early, do not decode or pass a limit; raised after all that came before was yielded."""

    def __init__(
        self, reason: str, detail: str, value: float | None = None, threshold: float | None = None
    ) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.value = value
        self.threshold = threshold


def compression_suffix(path: str) -> str | None:
    """The suffix that says how a file is compressed; None for a plain file."""
    return next((suffix for suffix in SUFFIXES if path.lower().endswith(suffix)), None)


class Piece(NamedTuple):
    """Decompressed bytes, and where in the file their member begins."""

    member: int
    data: bytes


def codec_of(path: str) -> Codec:
    """The codec of a compressed file."""
    return _BY_SUFFIX[compression_suffix(path) or ""]


def decompressed(chunks: Iterable[bytes], suffix: str) -> Iterator[bytes]:
    """The decompressed bytes of one or more concatenated members, in pieces of at most 4 MiB.

    BrokenStreamError where they end early or are corrupt, or where their decoder asks for too much memory.
    """
    return (piece.data for piece in member_pieces(chunks, _BY_SUFFIX[suffix], 0) if piece.data)


def member_pieces(chunks: Iterable[bytes], codec: Codec, begin: int) -> Iterator[Piece]:
    """The same with the members that pieces come from; `begin`: where the first chunk lies. Empty members give one."""
    member: Member | None = None
    start = fed = begin  # of the member; behind the last bytes that were fed
    for data in _feeds(chunks):
        fed += len(data)
        while True:
            if member is None:
                data = data.lstrip(b"\0")  # zero padding between members is allowed
                if not data:
                    break
                member, start = codec.new_member(), fed - len(data)
                yield Piece(start, b"")
            elif not data and member.needs_input:
                break
            out = _decompress(member, data, codec)
            if out:
                yield Piece(start, out)
            data = member.unused_data if member.eof else b""
            member = None if member.eof else member
    if member is not None:
        reason = "truncated_gzip" if codec.name == "gzip" else "truncated_compression"
        raise BrokenStreamError(reason, f"the {codec.name} data ends before its end mark")


def within_inflation(
    pieces: Iterable[bytes], *, compressed_bytes: int, max_inflation: int
) -> Iterator[bytes]:
    """The first `max_inflation` bytes for each byte of a compressed file, but at least `FREE_BYTES`.

    BrokenStreamError beyond them. Where the stream is cut depends on the two numbers alone.
    """
    most = max(FREE_BYTES, max_inflation * compressed_bytes)
    total = 0
    for piece in pieces:
        total += len(piece)
        if total <= most:
            yield piece
            continue
        yield piece[: most - total]
        ratio = most / max(compressed_bytes, 1)
        detail = f"{compressed_bytes} bytes inflate to more than {most}; the limit is max_inflation"
        raise BrokenStreamError("decompression_limit", detail, ratio, max_inflation)


def _feeds(chunks: Iterable[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        for start in range(0, len(chunk), _FEED_BYTES):
            yield chunk[start : start + _FEED_BYTES]


def _decompress(member: Member, data: bytes, codec: Codec) -> bytes:
    try:
        return member.decompress(data, codec.piece_bytes)
    except DecoderMemoryError as error:
        detail = f"{codec.name}: {error}"
        raise BrokenStreamError(
            "decompression_memory", detail, error.needed_bytes, MOST_DECODER_BYTES
        ) from error
    except _FAULTS as error:
        raise BrokenStreamError("corrupt_compression", f"{codec.name}: {printable(str(error))}") from error
