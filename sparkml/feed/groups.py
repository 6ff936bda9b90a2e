"""One row group: found where the manifest says, checked, decoded. A store that stumbles is asked again."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from sparkml.errors import InputError
from sparkml.feed.cache import GroupCache
from sparkml.feed.plan import RowGroup
from sparkml.frame.storage import filesystem_of, is_remote
from sparkml.log import get_logger

_log = get_logger(__name__)

Rows = dict[str, npt.NDArray[Any]]
# The columns to read, and for lists of equal length that length (0: no list).
Widths = Mapping[str, int]
# A store that is away for a moment: pyarrow's own clients have tried for seconds before they say so.
_PAUSES = (0.5, 1.0, 2.0, 4.0)
_FOR_GOOD = (FileNotFoundError, PermissionError, IsADirectoryError)
_FOOTERS = 64


class GroupLoader:
    """Loads row groups of pinned files; keeps the footers of those that were read last."""

    def __init__(self, widths: Widths, cache: GroupCache | None = None) -> None:
        self.widths = widths
        self._cache = cache
        self._footers: OrderedDict[str, pq.FileMetaData] = OrderedDict()

    def load(self, group: RowGroup) -> pa.Table:
        """The wanted columns, as far as they are there.

        Raises InputError, which names the file, where it is missing, has not the size that the manifest says, or does
        not decode; damaged pages are found by their checksums, where they have some. Remote ones are kept in the cache.
        """
        if self._cache is None or not is_remote(group.path):
            return self._from_store(group)
        return self._cache.get(group, list(self.widths), lambda: self._from_store(group))

    def _from_store(self, group: RowGroup) -> pa.Table:
        for pause in _PAUSES:
            try:
                return self._load(group)
            except _FOR_GOOD as error:
                raise unreadable(group, error) from error
            except OSError as error:
                if not is_remote(group.path):
                    raise unreadable(group, error) from error
                _log.warning(
                    "%s, row group %d: %s; tries again in %g s", group.path, group.index, error, pause
                )
                time.sleep(pause)
        try:
            return self._load(group)
        except OSError as error:
            raise unreadable(group, error) from error

    def footer(self, group: RowGroup) -> pq.FileMetaData:
        """The footer of the group's file."""
        if group.path not in self._footers:
            self._from_store(group)
        return self._footers[group.path]

    def _load(self, group: RowGroup) -> pa.Table:
        filesystem, path = filesystem_of(group.path)
        footer = self._footers.get(group.path)
        try:
            with filesystem.open_input_file(path) as file:
                size = file.size()
                if size != group.file_bytes:
                    raise unreadable(
                        group, ValueError(f"{size} bytes, not the {group.file_bytes} of the manifest")
                    )
                # The ranks of a host share its cores: a pool of decoding threads in each would fight over them.
                parquet = pq.ParquetFile(
                    file,
                    metadata=footer,
                    page_checksum_verification=True,
                    pre_buffer=is_remote(group.path),
                )
                self._keep(group.path, parquet.metadata)
                return parquet.read_row_group(group.index, columns=list(self.widths), use_threads=False)
        except pa.ArrowException as error:
            if isinstance(error, OSError):
                raise
            raise unreadable(group, error) from error

    def _keep(self, path: str, footer: pq.FileMetaData) -> None:
        self._footers[path] = footer
        self._footers.move_to_end(path)
        if len(self._footers) > _FOOTERS:
            self._footers.popitem(last=False)

    def rows(self, table: pa.Table, group: RowGroup) -> Rows:
        """Its columns as arrays; InputError unless they have the shapes that the manifest says."""
        missing = [name for name in self.widths if name not in table.column_names]
        if missing:
            raise unreadable(group, KeyError(f"no column {', '.join(missing)}"))
        rows: Rows = {}
        for name, width in self.widths.items():
            found = _array(table.column(name), width, group)
            wanted = (group.rows, width) if width else (group.rows,)
            if found.shape != wanted:
                raise unreadable(group, ValueError(f"`{name}` has shape {found.shape}, not {wanted}"))
            rows[name] = found.astype(np.int32, copy=False) if width else found
        return rows


def unreadable(group: RowGroup, error: BaseException) -> InputError:
    """The error for a row group that cannot be read."""
    return InputError(
        "cannot read a row group of the pinned manifest",
        where=f"{group.path}, row group {group.index}",
        got=f"{type(error).__name__}: {error}",
        next_action="write the samples and their manifest again, by the step that made them",
    )


def _array(column: pa.ChunkedArray, width: int, group: RowGroup) -> npt.NDArray[Any]:
    if not width:
        return np.asarray(column.to_numpy(zero_copy_only=False))
    # Equally long lists as a matrix, without a copy of the values.
    parts = [
        chunk.flatten().to_numpy(zero_copy_only=False).reshape(len(chunk), -1)
        for chunk in column.chunks
        if len(chunk) and _equal_lengths(chunk, group)
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _equal_lengths(chunk: pa.Array, group: RowGroup) -> bool:
    lengths = np.diff(chunk.offsets.to_numpy())
    if chunk.null_count or (lengths != lengths[0]).any():
        raise unreadable(group, ValueError("the lists of a column have different lengths, or some are null"))
    return True
