"""Petastorm 0.12.1 on today's pyarrow and numpy.

Its modules import `pyarrow.filesystem` and the legacy `ParquetDataset` (gone since pyarrow 15 and 16) and
use `np.unicode_` and `np.string_` (gone in numpy 2). They are loaded here with an `__import__` of their own,
which hands them stand-ins; pyarrow and numpy stay as they are for everybody else in the process.

Petastorm lists folders and ignores the Delta log, and it shuffles row groups as it likes. Here it gets the
row groups by name and in order: files that a log has removed are never seen, and a resumed epoch starts where
it should.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from sparkml.errors import MissingToolError, SparkmlError


@contextmanager
def table_reader(
    pieces: Sequence[Any],
    load: Callable[[Any], pa.Table | None],
    schema: pyarrow.parquet.ParquetSchema,
    columns: Sequence[str],
    most_ahead: int,
) -> Iterator[Iterator[pa.Table]]:
    """What `load` gives of each piece, in their order, through petastorm's `make_batch_reader`.

    `load` is called in petastorm's thread, while at most `most_ahead` tables wait; None from it ends the thread.
    `schema` is that of a file that holds such pieces.
    """
    petastorm = load_petastorm()
    reader = petastorm.make_batch_reader(
        ["file:///planned-row-groups"],
        schema_fields=[f"^{column}$" for column in columns],
        # One worker: a second one would hand row groups over in any order.
        reader_pool_type="thread",
        workers_count=1,
        results_queue_size=most_ahead,
        shuffle_row_groups=False,
        num_epochs=1,
        filesystem=PlannedPieces(pieces, load, schema),
    )
    # Petastorm makes arrays of lists row by row; whoever reads here does it without a copy.
    reader._results_queue_reader = _Tables()
    try:
        yield reader
    finally:
        reader.stop()
        reader.join()


class PlannedPieces:
    """What petastorm takes for a legacy pyarrow filesystem: carries what is to be read, and how."""

    def __init__(
        self,
        pieces: Sequence[Any],
        load: Callable[[Any], pa.Table | None],
        schema: pyarrow.parquet.ParquetSchema,
    ) -> None:
        self.pieces, self.load, self.schema = pieces, load, schema

    def open(self, path: Any) -> Any:
        """Petastorm opens the file of a piece before it reads the piece; here the piece does both."""
        return path


class ParquetDatasetPiece:
    """One row group, by whatever names it."""

    row_group = None
    partition_keys: Sequence[tuple[str, int]] = ()

    def __init__(self, planned: PlannedPieces, piece: Any) -> None:
        self.path = piece
        self._planned = planned

    def get_metadata(self) -> Any:
        """What petastorm asks of a footer: its schema."""
        return types.SimpleNamespace(schema=self._planned.schema)

    def read(self, columns: Any = None, partitions: Any = None) -> pa.Table:
        """The wanted columns of the piece."""
        table = self._planned.load(self.path)
        if table is None:
            raise importlib.import_module("petastorm.workers_pool.thread_pool").WorkerTerminationRequested
        return table


class ParquetDataset:
    """The legacy dataset as far as petastorm's batch reader looks at it: the planned pieces."""

    def __init__(self, path_or_paths: Any, filesystem: Any = None, **_unused: Any) -> None:
        if not isinstance(filesystem, PlannedPieces):
            raise SparkmlError(
                "petastorm reads planned row groups only, never a folder",
                got=str(path_or_paths),
                expected="table_reader(pieces, load, schema, columns, most_ahead)",
            )
        self.fs = filesystem
        self.paths = path_or_paths
        self.metadata = None
        self.common_metadata = types.SimpleNamespace(metadata={})
        self.partitions = None
        self.pieces = [ParquetDatasetPiece(filesystem, piece) for piece in filesystem.pieces]


class _Tables:
    """In place of petastorm's `ArrowReaderWorkerResultsQueueReader`: tables as they come."""

    batched_output = True

    def read_next(self, workers_pool: Any, schema: Any, ngram: Any) -> pa.Table:
        """The next table; StopIteration behind the last one."""
        pools = importlib.import_module("petastorm.workers_pool")
        try:
            return workers_pool.get_results()
        except pools.EmptyResultError:
            raise StopIteration from None


@functools.cache
def load_petastorm() -> types.ModuleType:
    """Import petastorm with the stand-ins; MissingToolError where it is not installed."""
    loaded = sys.modules.get("petastorm.reader")
    if loaded is not None and loaded.__dict__.get("pq") is not _stand_ins()["pyarrow.parquet"]:
        raise SparkmlError(
            "petastorm is already imported, without the stand-ins that it needs on this pyarrow",
            where=str(loaded.__file__),
            next_action="do not import petastorm in the same process; read through sparkml.feed",
        )
    finder = _PetastormFinder()
    sys.meta_path.insert(0, finder)
    try:
        petastorm = importlib.import_module("petastorm")
        metadata = importlib.import_module("petastorm.etl.dataset_metadata")
    except ModuleNotFoundError as error:
        raise MissingToolError(
            "petastorm cannot be imported",
            got=str(error),
            next_action="make setup, or choose train.reader=arrow",
        ) from error
    finally:
        sys.meta_path.remove(finder)
    # The plan knows the row groups: no footer has to be opened to count them.
    metadata.__dict__["load_row_groups"] = lambda dataset: list(dataset.pieces)
    # Petastorm hands its thread so many pieces more than it has threads, and sleeps 10 ms where that many are on their
    # way: with two, 300 row groups a second were the most. What waits in memory is bounded by `most_ahead` and `load`.
    importlib.import_module("petastorm.reader").__dict__["_VENTILATE_EXTRA_ROWGROUPS"] = 256
    return petastorm


class _PetastormFinder(importlib.abc.MetaPathFinder):
    """Finds petastorm's modules where they are, and nothing else."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] != "petastorm":
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _StandInLoader(spec.loader)
        return spec


class _StandInLoader(importlib.abc.Loader):
    """Runs a module with builtins in which `__import__` hands out the stand-ins."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": _import_with_stand_ins}
        self._loader.exec_module(module)


def _import_with_stand_ins(
    name: str, globals: Any = None, locals: Any = None, fromlist: Sequence[str] = (), level: int = 0
) -> types.ModuleType:
    stand_in = _stand_ins().get(name) if level == 0 else None
    if stand_in is not None and (fromlist or "." not in name):
        return stand_in
    return builtins.__import__(name, globals, locals, fromlist, level)


class _View(types.ModuleType):
    """A module as it is, except for the names that are replaced."""

    def __init__(self, real: types.ModuleType, **replaced: Any) -> None:
        super().__init__(real.__name__, real.__doc__)
        self.__dict__.update(replaced)
        self.__dict__["_real"] = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_real"], name)


@functools.cache
def _stand_ins() -> dict[str, types.ModuleType]:
    parquet = _View(
        pyarrow.parquet,
        ParquetDataset=ParquetDataset,
        ParquetDatasetPiece=ParquetDatasetPiece,
        ParquetFile=lambda opened: opened,  # what is opened before a piece is read, and never used
    )
    filesystem = types.ModuleType("pyarrow.filesystem")
    filesystem.__dict__["LocalFileSystem"] = type("LocalFileSystem", (), {})
    hdfs = types.ModuleType("pyarrow.hdfs")
    hdfs.__dict__["HadoopFileSystem"] = type("HadoopFileSystem", (), {})
    return {
        "numpy": _View(np, unicode_=np.str_, string_=np.bytes_),
        "pyarrow": _View(pa, parquet=parquet, filesystem=filesystem, hdfs=hdfs, localfs=None),
        "pyarrow.parquet": parquet,
        "pyarrow.filesystem": filesystem,
        "pyarrow.hdfs": hdfs,
        "pyarrow.lib": _View(pa.lib, ArrowIOError=OSError),
    }
