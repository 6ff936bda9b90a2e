"""Decompressors that give out a bounded number of bytes a call: one interface over gzip, bzip2, xz and zstd.

A few bytes can stand for gigabytes: deflate grows up to 1,032 times, a block of zstd 32,768 times, bzip2 a
million times. So no call gives out more than it is asked for, and a decoder that wants more than
`MOST_DECODER_BYTES` of memory for itself is refused.
"""

from __future__ import annotations

import bz2
import lzma
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import zstandard

# Window of zstd, dictionary of xz. The zstd program refuses larger windows too; `xz -9` takes 65 MiB.
MOST_DECODER_BYTES = 128 * 1024**2
# What a call gives out: at least a block of zstd (RFC 8878, 3.1.1.2.4), which comes out as a whole or not at all.
_PIECE_BYTES = 128 * 1024
# A block of bzip2, most often of 900,000 bytes, is checked at its end: a corrupt one must not come out in part.
_BZIP2_PIECE_BYTES = 4 * 1024**2
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_SHORTEST_HEADER = 5  # bytes in which a zstd header says how long it is
_BLOCK_HEADER = 3
_RUN_LENGTH_BLOCK = 1


class DecoderMemoryError(Exception):
    """A member that needs more memory to decode than it is given; `needed_bytes` is None where it is unknown."""

    def __init__(self, detail: str, needed_bytes: int | None) -> None:
        super().__init__(detail)
        self.needed_bytes = needed_bytes


class Member(Protocol):
    """One member of a compressed file: a gzip member, a zstd frame, a bzip2 or xz stream."""

    @property
    def eof(self) -> bool:
        """Whether the member's end mark has been read."""

    @property
    def unused_data(self) -> bytes:
        """What was fed beyond the end mark."""

    @property
    def needs_input(self) -> bool:
        """Whether the next call gives nothing unless it is fed."""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Take `data`; give out what is ready, at most `max_length` bytes."""


@dataclass(frozen=True)
class Codec:
    """A form of compression: its name, the extensions of its files, what decodes a member, bytes a call.

    `head` matches the first bytes of a member, `head_bytes` of them at most.
    """

    name: str
    suffixes: tuple[str, ...]
    new_member: Callable[[], Member]
    head: re.Pattern[bytes]
    head_bytes: int
    piece_bytes: int = _PIECE_BYTES

    def find(self, data: bytes, start: int) -> int:
        """Where a member may begin in some bytes; -1: nowhere."""
        found = self.head.search(data, start)
        return -1 if found is None else found.start()


class _GzipMember:
    def __init__(self) -> None:
        self._inflater = zlib.decompressobj(wbits=31)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._inflater.eof

    @property
    def unused_data(self) -> bytes:
        return self._inflater.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        held = self._inflater.unconsumed_tail
        out = self._inflater.decompress(held + data if held else data, max_length)
        # A full answer may leave output inside although all input is taken.
        self.needs_input = len(out) < max_length and not self._inflater.unconsumed_tail
        return out


class _ZstdFrame:
    """A zstd frame, fed block by block.

    The library's object has no bound on what it gives out. But no block inflates to more than `_PIECE_BYTES`, and
    its header says how long it is (RFC 8878, 3.1.1): a call feeds what ends at most one block.
    """

    def __init__(self) -> None:
        decompressor = zstandard.ZstdDecompressor(max_window_size=MOST_DECODER_BYTES)
        self._frame = decompressor.decompressobj()
        self._held = b""
        self._next: Callable[[], int] | None = self._header_bytes
        self._left = 0  # bytes that may be fed before the next header is looked at
        self.needs_input = True
        self.unused_data = b""

    @property
    def eof(self) -> bool:
        return self._frame.eof

    def decompress(self, data: bytes, max_length: int) -> bytes:
        held = self._held + data if self._held else data
        self._held = held
        if self._left == 0 and self._next is not None:
            self._left = self._next()
        take = min(self._left, len(held)) if self._next is not None else len(held)
        out: bytes = self._frame.decompress(held[:take]) if take else b""
        self._left -= take
        self._held = held[take:]
        self.needs_input = not take or not self._held
        if self._frame.eof:
            self.unused_data = self._frame.unused_data + self._held
        return out

    def _header_bytes(self) -> int:
        """Bytes of the frame's header; 0 where more are needed to know; DecoderMemoryError."""
        held = self._held
        if not held.startswith(_ZSTD_MAGIC[: len(held)]):
            self._next = None  # skippable, or not zstd at all: the library gives out nothing, or raises
            return 0
        if len(held) < _SHORTEST_HEADER or len(held) < zstandard.frame_header_size(held):
            return 0
        header = zstandard.get_frame_parameters(held)
        if header.window_size > MOST_DECODER_BYTES:
            detail = f"{header.window_size} bytes for its window, at most {MOST_DECODER_BYTES}"
            raise DecoderMemoryError(detail, header.window_size)
        self._next = self._block_bytes
        return int(zstandard.frame_header_size(held))

    def _block_bytes(self) -> int:
        """Bytes of the next block with its header; 0 where more are needed to know."""
        if len(self._held) < _BLOCK_HEADER:
            return 0
        header = int.from_bytes(self._held[:_BLOCK_HEADER], "little")
        is_last, kind, size = header & 1, header >> 1 & 3, header >> 3
        if is_last:
            self._next = self._trailer_bytes
        return _BLOCK_HEADER + (1 if kind == _RUN_LENGTH_BLOCK else size)

    def _trailer_bytes(self) -> int:
        """After the last block there is at most a checksum: the library finds the end."""
        self._next = None
        return 0


class _XzStream:
    def __init__(self) -> None:
        self._stream = lzma.LZMADecompressor(memlimit=MOST_DECODER_BYTES)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    @property
    def needs_input(self) -> bool:
        return self._stream.needs_input

    def decompress(self, data: bytes, max_length: int) -> bytes:
        try:
            return self._stream.decompress(data, max_length)
        except lzma.LZMAError as error:
            if "Memory usage limit" not in str(error):
                raise
            detail = f"more than {MOST_DECODER_BYTES} bytes for its dictionary"
            raise DecoderMemoryError(detail, None) from error


CODECS = (
    # Deflate, no reserved flag (RFC 1952).
    Codec("gzip", (".gz", ".tgz"), _GzipMember, re.compile(rb"\x1f\x8b\x08[\x00-\x1f]"), 4),
    Codec("zstd", (".zst", ".zstd"), _ZstdFrame, re.compile(re.escape(_ZSTD_MAGIC)), 4),
    Codec(
        "bzip2",
        (".bz2",),
        bz2.BZ2Decompressor,
        re.compile(rb"BZh[1-9](?:1AY&SY|\x17\x72\x45\x38\x50\x90)"),
        10,
        _BZIP2_PIECE_BYTES,
    ),
    Codec("xz", (".xz",), _XzStream, re.compile(rb"\xfd7zXZ\x00"), 6),
)
