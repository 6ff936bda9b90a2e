"""Readers: the columns of row groups in the order asked for. One through petastorm, one plain pyarrow.

A column of numbers or texts is one array [rows]; lists of equal length are a matrix [rows, length]; a binary column,
which holds values of any number, is an array of bytes. Both decode ahead, in one thread, until what waits to be taken
holds `prefetch_bytes`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Condition
from typing import Literal, Protocol

import pyarrow as pa

from sparkml.compat.petastorm import table_reader
from sparkml.feed.cache import GroupCache
from sparkml.feed.groups import GroupLoader, Rows, Widths, unreadable
from sparkml.feed.plan import RowGroup

ReaderName = Literal["petastorm", "arrow"]
# Small row groups: not more of them wait, however little they hold.
_MOST_AHEAD = 64


@dataclass(frozen=True)
class FeedSettings:
    """What waits decoded at most, and what of remote shards is kept on the local disk (0: nothing)."""

    prefetch_bytes: int = 64 << 20
    cache_bytes: int = 0
    cache_folder: str = ""


class Reader(Protocol):
    """Reads row groups."""

    def read(self, groups: Iterable[RowGroup]) -> Iterator[Rows]:
        """The columns of each group, in the order of `groups`.

        Raises InputError where a file is missing or holds something other than the manifest says.
        """
        ...


class _Ahead:
    """Loads row groups while those that wait to be taken hold less than `limit` bytes; one is always allowed."""

    def __init__(self, loader: GroupLoader, limit: int) -> None:
        self._loader, self._limit = loader, limit
        self._held = self._largest = 0
        self._closed = False
        self._changed = Condition()

    def load(self, group: RowGroup) -> pa.Table | None:
        """The row group, when there is room for it; None once nobody takes any more."""
        with self._changed:
            self._changed.wait_for(self._has_room)
            if self._closed:
                return None
        table = self._loader.load(group)
        with self._changed:
            self._held += table.nbytes
            self._largest = max(self._largest, table.nbytes)
        return table

    def _has_room(self) -> bool:
        return self._closed or not self._held or self._held + self._largest <= self._limit

    def taken(self, table: pa.Table, group: RowGroup) -> Rows:
        """Its arrays; it waits no longer."""
        with self._changed:
            self._held -= table.nbytes
            self._changed.notify_all()
        return self._loader.rows(table, group)

    def close(self) -> None:
        """Nobody takes any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class PetastormReader:
    """Row groups through petastorm's reader, which decodes ahead in a thread of its own."""

    def __init__(self, loader: GroupLoader, prefetch_bytes: int) -> None:
        self._loader = loader
        self._prefetch_bytes = prefetch_bytes

    def read(self, groups: Iterable[RowGroup]) -> Iterator[Rows]:
        """See `Reader.read`."""
        planned = tuple(groups)
        if not planned:
            return
        ahead = _Ahead(self._loader, self._prefetch_bytes)
        schema = self._loader.footer(planned[0]).schema
        left = iter(planned)
        with table_reader(planned, ahead.load, schema, list(self._loader.widths), _MOST_AHEAD) as tables:
            try:
                for table in tables:
                    yield ahead.taken(table, next(left))
            finally:
                ahead.close()  # before petastorm waits for its thread
        missing = next(left, None)
        if missing is not None:
            raise unreadable(missing, RuntimeError("petastorm ended before this row group"))


class ArrowReader:
    """Row groups by pyarrow alone."""

    def __init__(self, loader: GroupLoader, prefetch_bytes: int) -> None:
        self._loader = loader
        self._prefetch_bytes = prefetch_bytes

    def read(self, groups: Iterable[RowGroup]) -> Iterator[Rows]:
        """See `Reader.read`."""
        ahead = _Ahead(self._loader, self._prefetch_bytes)
        waiting: deque[tuple[RowGroup, Future[pa.Table | None]]] = deque()
        with ThreadPoolExecutor(1, thread_name_prefix="arrow-reader") as pool:
            try:
                for group in groups:
                    waiting.append((group, pool.submit(ahead.load, group)))
                    while len(waiting) > _MOST_AHEAD:
                        yield self._next(waiting, ahead)
                while waiting:
                    yield self._next(waiting, ahead)
            finally:
                ahead.close()
                for _, future in waiting:
                    future.cancel()

    @staticmethod
    def _next(waiting: deque[tuple[RowGroup, Future[pa.Table | None]]], ahead: _Ahead) -> Rows:
        group, future = waiting.popleft()
        table = future.result()
        assert table is not None  # it is closed by the one that asks here
        return ahead.taken(table, group)


def open_reader(name: ReaderName, widths: Widths, settings: FeedSettings | None = None) -> Reader:
    """The reader of that name."""
    settings = settings or FeedSettings()
    cache = GroupCache(settings.cache_folder, settings.cache_bytes) if settings.cache_bytes else None
    kind = PetastormReader if name == "petastorm" else ArrowReader
    return kind(GroupLoader(widths, cache), settings.prefetch_bytes)
