"""Readers: the columns of row groups in the order asked for. One through petastorm, one plain pyarrow.

A column of numbers or texts is one array [rows]; lists of equal length are a matrix [rows, length]; a binary column,
which holds values of any number, is an array of bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from sparkml.compat.petastorm import batch_reader
from sparkml.errors import InputError
from sparkml.feed.plan import RowGroup
from sparkml.frame.storage import filesystem_of

Rows = dict[str, npt.NDArray[Any]]
ReaderName = Literal["petastorm", "arrow"]
# The columns to read, and for lists of equal length that length (0: no list).
Widths = Mapping[str, int]


class Reader(Protocol):
    """Reads row groups."""

    def read(self, groups: Iterable[RowGroup]) -> Iterator[Rows]:
        """The columns of each group, in the order of `groups`.

        Raises InputError where a file is missing or holds something other than the manifest says.
        """
        ...


class PetastormReader:
    """Row groups through petastorm's `make_batch_reader`, decoded ahead by one thread."""

    def __init__(self, widths: Widths, prefetch: int = 2) -> None:
        self._widths = widths
        self._prefetch = prefetch

    def read(self, groups: Iterable[RowGroup]) -> Iterator[Rows]:
        """See `Reader.read`."""
        planned = tuple(groups)
        if not planned:
            return
        filesystem, _ = filesystem_of(planned[0].path)
        wanted = [(filesystem_of(group.path)[1], group.index) for group in planned]
        remaining = iter(planned)
        try:
            with batch_reader(filesystem, wanted, list(self._widths), prefetch=self._prefetch) as batches:
                for batch in batches:
                    yield _checked(batch, next(remaining), self._widths)
        # Petastorm meets a null list with an AttributeError, uneven lists with a RuntimeError.
        except (OSError, pa.ArrowException, RuntimeError, AttributeError) as error:
            raise unreadable(next(remaining, planned[-1]), error) from error
        left = next(remaining, None)
        if left is not None:
            raise unreadable(left, RuntimeError("petastorm ended before this row group"))


class ArrowReader:
    """Row groups by pyarrow alone, decoded ahead by one thread."""

    def __init__(self, widths: Widths, prefetch: int = 2) -> None:
        self._widths = widths
        self._prefetch = prefetch

    def read(self, groups: Iterable[RowGroup]) -> Iterator[Rows]:
        """See `Reader.read`."""
        waiting: deque[Future[Rows]] = deque()
        with ThreadPoolExecutor(1, thread_name_prefix="arrow-reader") as pool:
            try:
                for group in groups:
                    waiting.append(pool.submit(self._load, group))
                    if len(waiting) > self._prefetch:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _load(self, group: RowGroup) -> Rows:
        filesystem, path = filesystem_of(group.path)
        try:
            with filesystem.open_input_file(path) as file:
                columns = list(self._widths)
                table = pq.ParquetFile(file).read_row_group(group.index, columns=columns, use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise unreadable(group, error) from error
        there = set(self._widths) & set(table.column_names)
        rows = {name: _array(table.column(name), self._widths[name], group) for name in there}
        return _checked(rows, group, self._widths)


def open_reader(name: ReaderName, widths: Widths) -> Reader:
    """The reader of that name."""
    return PetastormReader(widths) if name == "petastorm" else ArrowReader(widths)


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


def _checked(found: Mapping[str, npt.NDArray[Any]], group: RowGroup, widths: Widths) -> Rows:
    missing = [name for name in widths if name not in found]
    if missing:
        raise unreadable(group, KeyError(f"no column {', '.join(missing)}"))
    rows: Rows = {}
    for name, width in widths.items():
        wanted = (group.rows, width) if width else (group.rows,)
        if found[name].shape != wanted:
            raise unreadable(group, ValueError(f"`{name}` has shape {found[name].shape}, not {wanted}"))
        rows[name] = found[name].astype(np.int32, copy=False) if width else found[name]
    return rows
