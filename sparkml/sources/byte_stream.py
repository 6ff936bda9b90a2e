"""A stream of chunks that is read by numbers of bytes, in the memory of a chunk."""

from __future__ import annotations

from collections.abc import Iterable


class ByteStream:
    """Bytes of an iterable of chunks; whatever the chunks raise comes out of the read that meets it."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._held = b""
        self._at = 0

    def peek(self, size: int) -> bytes:
        """The next bytes, which stay; fewer at the end."""
        while len(self._held) - self._at < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._held, self._at = self._held[self._at :] + chunk, 0
        return self._held[self._at : self._at + size]

    def read(self, size: int) -> bytes:
        """The next bytes; fewer at the end."""
        parts = []
        while size > 0 and self._is_filled():
            part = self._held[self._at : self._at + size]
            self._at += len(part)
            size -= len(part)
            parts.append(part)
        return b"".join(parts)

    def read_line(self, limit: int) -> bytes:
        """The bytes up to the next line feed, that among them; at most `limit` of them, and fewer at the end."""
        parts: list[bytes] = []
        size = 0
        while size < limit and self._is_filled():
            stop = self._held.find(b"\n", self._at, self._at + limit - size) + 1
            part = self._held[self._at : stop or self._at + limit - size]
            self._at += len(part)
            size += len(part)
            parts.append(part)
            if stop:
                break
        return b"".join(parts)

    def skip(self, size: int) -> int:
        """Leave out the next bytes; how many there were."""
        left = size
        while left > 0 and self._is_filled():
            step = min(left, len(self._held) - self._at)
            self._at += step
            left -= step
        return size - left

    def _is_filled(self) -> bool:
        """Whether there is a byte left; the next chunk that holds one is then at hand."""
        while self._at == len(self._held):
            chunk = next(self._chunks, None)
            if chunk is None:
                return False
            self._held, self._at = chunk, 0
        return True
