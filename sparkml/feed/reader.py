"""Readers: row groups of token ids in the order asked for. One through petastorm, one plain pyarrow."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from sparkml.compat.petastorm import batch_reader
from sparkml.errors import InputError
from sparkml.feed.plan import RowGroup
from sparkml.frame.storage import filesystem_of

TokenIds = npt.NDArray[np.int32]
ReaderName = Literal["petastorm", "arrow"]
COLUMN = "input_ids"


class Reader(Protocol):
    """Reads row groups of token ids."""

    def read(self, groups: Iterable[RowGroup]) -> Iterator[TokenIds]:
        """The rows of each group, int32 [rows, sequence_length], in the order of `groups`.

        Raises InputError where a file is missing or holds something other than the manifest says.
        """
        ...


class PetastormReader:
    """Row groups through petastorm's `make_batch_reader`, decoded ahead by one thread."""

    def __init__(self, sequence_length: int, prefetch: int = 2) -> None:
        self._sequence_length = sequence_length
        self._prefetch = prefetch

    def read(self, groups: Iterable[RowGroup]) -> Iterator[TokenIds]:
        """See `Reader.read`."""
        planned = tuple(groups)
        if not planned:
            return
        filesystem, _ = filesystem_of(planned[0].path)
        wanted = [(filesystem_of(group.path)[1], group.index) for group in planned]
        remaining = iter(planned)
        try:
            with batch_reader(filesystem, wanted, [COLUMN], prefetch=self._prefetch) as batches:
                for batch in batches:
                    yield _checked(batch[COLUMN], next(remaining), self._sequence_length)
        # Petastorm meets a null list with an AttributeError, uneven lists with a RuntimeError.
        except (OSError, pa.ArrowException, RuntimeError, AttributeError) as error:
            raise unreadable(next(remaining, planned[-1]), error) from error
        left = next(remaining, None)
        if left is not None:
            raise unreadable(left, RuntimeError("petastorm ended before this row group"))


class ArrowReader:
    """Row groups by pyarrow alone, decoded ahead by one thread."""

    def __init__(self, sequence_length: int, prefetch: int = 2) -> None:
        self._sequence_length = sequence_length
        self._prefetch = prefetch

    def read(self, groups: Iterable[RowGroup]) -> Iterator[TokenIds]:
        """See `Reader.read`."""
        waiting: deque[Future[TokenIds]] = deque()
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

    def _load(self, group: RowGroup) -> TokenIds:
        filesystem, path = filesystem_of(group.path)
        try:
            with filesystem.open_input_file(path) as file:
                table = pq.ParquetFile(file).read_row_group(group.index, columns=[COLUMN], use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise unreadable(group, error) from error
        return _checked(_matrix(table.column(COLUMN), group), group, self._sequence_length)


def open_reader(name: ReaderName, sequence_length: int) -> Reader:
    """The reader of that name."""
    return PetastormReader(sequence_length) if name == "petastorm" else ArrowReader(sequence_length)


def unreadable(group: RowGroup, error: BaseException) -> InputError:
    """The error for a row group that cannot be read."""
    return InputError(
        "cannot read a row group of the pinned manifest",
        where=f"{group.path}, row group {group.index}",
        got=f"{type(error).__name__}: {error}",
        next_action="write the samples and their manifest again: sparkml run shard",
    )


def _matrix(column: pa.ChunkedArray, group: RowGroup) -> npt.NDArray[np.int32]:
    """A column of equally long lists as a matrix, without a copy of the values."""
    parts = [
        chunk.flatten().to_numpy(zero_copy_only=False).reshape(len(chunk), -1)
        for chunk in column.chunks
        if len(chunk) and _equal_lengths(chunk, group)
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _equal_lengths(chunk: pa.Array, group: RowGroup) -> bool:
    lengths = np.diff(chunk.offsets.to_numpy())
    if chunk.null_count or (lengths != lengths[0]).any():
        raise unreadable(
            group, ValueError("the lists of `input_ids` have different lengths, or some are null")
        )
    return True


def _checked(rows: npt.NDArray[np.int32], group: RowGroup, sequence_length: int) -> TokenIds:
    if rows.shape != (group.rows, sequence_length):
        raise unreadable(group, ValueError(f"shape {rows.shape}, not {(group.rows, sequence_length)}"))
    return rows.astype(np.int32, copy=False)
