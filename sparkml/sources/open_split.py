"""A split whose file is open: what a format's reader is given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
from pyarrow import fs

from sparkml.sources.compression import compression_suffix, decompressed, within_inflation
from sparkml.sources.lines import as_utf8, wide_encoding
from sparkml.sources.records import ReadOptions, Split

CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True)
class OpenSplit:
    """The open file of a split, and how to read it."""

    file: pa.NativeFile
    split: Split
    options: ReadOptions
    filesystem: fs.FileSystem

    def chunks(self) -> Iterator[bytes]:
        """The file's bytes from its current position, decompressed; BrokenStreamError after the last good one."""
        raw = iter(lambda: self.file.read(CHUNK_BYTES), b"")
        return self._decompressed(raw, self.split.path, self.file.size())

    def chunks_beside(self, name: str) -> Iterator[bytes]:
        """As `chunks`, of another file of the same folder; FileNotFoundError where there is none."""
        path = self.split.path.rpartition("/")[0] + "/" + name
        with self.filesystem.open_input_file(path) as file:
            raw = iter(lambda: file.read(CHUNK_BYTES), b"")
            yield from self._decompressed(raw, path, file.size())

    def _decompressed(self, raw: Iterator[bytes], path: str, size: int) -> Iterator[bytes]:
        suffix = compression_suffix(path)
        if suffix is None:
            return raw
        return within_inflation(
            decompressed(raw, suffix), compressed_bytes=size, max_inflation=self.options.max_inflation
        )

    def utf8_chunks(self) -> Iterator[bytes]:
        """`chunks`, as UTF-8 where the file is UTF-16 or UTF-32."""
        return as_utf8(self.chunks())

    def is_wide(self) -> bool:
        """Whether a plain file is UTF-16 or UTF-32. Ask before anything is read; the file is then at its start."""
        head = self.file.read(4)
        self.file.seek(0)
        return wide_encoding(head) is not None
