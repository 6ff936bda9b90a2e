"""Compressed streams, read so that everything before a fault is kept."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import zstandard

from sparkml.sources.records import printable

# Bounds what one call may inflate: deflate grows at most 1,032 times (16 MiB here), zstd's run-length blocks
# far more (0.5 GiB, of data made for it).
_FEED_BYTES = 16 * 1024


class BrokenStreamError(Exception):
    """The bytes end early or do not decode; raised after all that came before was yielded."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


def _gzip() -> _Decompressor:
    return zlib.decompressobj(wbits=31)


def _zstd() -> _Decompressor:
    return zstandard.ZstdDecompressor().decompressobj()


_CODECS: dict[str, tuple[str, Callable[[], _Decompressor]]] = {
    ".gz": ("gzip", _gzip),
    ".zst": ("zstd", _zstd),
    ".zstd": ("zstd", _zstd),
    ".bz2": ("bzip2", bz2.BZ2Decompressor),
    ".xz": ("xz", lzma.LZMADecompressor),
}


def compression_suffix(path: str) -> str | None:
    """The suffix that says how a file is compressed; None for a plain file."""
    return next((suffix for suffix in _CODECS if path.lower().endswith(suffix)), None)


def decompressed(chunks: Iterable[bytes], suffix: str) -> Iterator[bytes]:
    """The decompressed bytes of one or more concatenated members; BrokenStreamError where they end or rot."""
    name, new_member = _CODECS[suffix]
    member: _Decompressor | None = None
    for chunk in chunks:
        for start in range(0, len(chunk), _FEED_BYTES):
            data = chunk[start : start + _FEED_BYTES]
            while data:
                if member is None:
                    data = data.lstrip(b"\0")  # zero padding between members is allowed
                    if not data:
                        break
                    member = new_member()
                try:
                    out = member.decompress(data)
                except (zlib.error, OSError, EOFError, lzma.LZMAError, zstandard.ZstdError) as error:
                    detail = f"{name}: {printable(str(error))}"
                    raise BrokenStreamError("corrupt_compression", detail) from error
                if out:
                    yield out
                data = member.unused_data if member.eof else b""
                member = None if member.eof else member
    if member is not None:
        reason = "truncated_gzip" if name == "gzip" else "truncated_compression"
        raise BrokenStreamError(reason, f"the {name} data ends before its end mark")
