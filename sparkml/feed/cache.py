"""Row groups of remote shards on the local disk, within a size limit: later epochs do not ask the store again."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa

from sparkml.errors import InputError
from sparkml.feed.plan import RowGroup
from sparkml.log import get_logger

_log = get_logger(__name__)
_SUFFIX = ".row-group"
_SUM_BYTES = 4
_COMPRESSED = pa.ipc.IpcWriteOptions(compression="lz4")
# The oldest go until this part of the limit is left: the folder is not listed for every row group.
_KEPT = 0.9


class GroupCache:
    """A folder of row groups, which the ranks of a machine share; those that were used longest ago go first.

    What is read is checked by a sum. A disk that is full, or a file that is damaged, costs speed alone.
    """

    def __init__(self, folder: str, limit: int) -> None:
        # Of each user his own: what lies there is read as if it came from the store.
        self._folder = Path(folder or Path(tempfile.gettempdir()) / f"sparkml-row-groups-{os.getuid()}")
        self._limit = limit
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not folder and self._folder.stat().st_uid != os.getuid():
            raise InputError(
                "the folder for row groups is another user's",
                where=str(self._folder),
                next_action="name one of your own: cache_folder",
            )
        self._bytes = sum(size for _, size, _ in self._listed())

    def get(self, group: RowGroup, columns: Sequence[str], load: Callable[[], pa.Table]) -> pa.Table:
        """The row group from the disk, else from `load`, and kept then."""
        place = self._place(group, columns)
        found = self._read(place)
        if found is None:
            found = load()
            self._write(place, found)
        return found

    def _place(self, group: RowGroup, columns: Sequence[str]) -> Path:
        # A file of a table never changes; its size tells another one of the same name.
        text = f"{group.path}\n{group.file_bytes}\n{group.index}\n{','.join(columns)}"
        return self._folder / (hashlib.sha256(text.encode()).hexdigest() + _SUFFIX)

    def _read(self, place: Path) -> pa.Table | None:
        try:
            content = pa.py_buffer(place.read_bytes())
            os.utime(place)
        except OSError:
            return None
        body = content[: content.size - _SUM_BYTES]
        if content.size < _SUM_BYTES or _sum_of(body) != content[body.size :].to_pybytes():
            place.unlink(missing_ok=True)
            return None
        return pa.ipc.open_stream(body).read_all()

    def _write(self, place: Path, table: pa.Table) -> None:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema, options=_COMPRESSED) as writer:
            writer.write_table(table)
        body = sink.getvalue()
        size = body.size + _SUM_BYTES
        try:
            if self._bytes + size > self._limit:
                self._make_room(size)
            if size > self._limit:
                return
            handle, name = tempfile.mkstemp(dir=self._folder)
            with os.fdopen(handle, "wb") as file:
                file.write(body)
                file.write(_sum_of(body))
            os.replace(name, place)
            self._bytes += size
        except OSError as error:
            _log.warning("a row group could not be kept in %s: %s", self._folder, error)

    def _make_room(self, size: int) -> None:
        """Ranks that share the folder have written, too: what lies there counts, not what this one knows of."""
        files = sorted(self._listed())
        total = sum(held for _, held, _ in files)
        for _, held, path in files:
            if total + size <= _KEPT * self._limit:
                break
            path.unlink(missing_ok=True)
            total -= held
        self._bytes = total

    def _listed(self) -> list[tuple[float, int, Path]]:
        found = []
        for path in self._folder.glob(f"*{_SUFFIX}"):
            try:
                stat = path.stat()
            except FileNotFoundError:  # another rank has removed it
                continue
            found.append((stat.st_mtime, stat.st_size, path))
        return found


def _sum_of(content: pa.Buffer) -> bytes:
    return zlib.crc32(content).to_bytes(_SUM_BYTES, "little")
