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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet

from sparkml.errors import MissingToolError, SparkmlError

RowGroupRef = tuple[str, int]


@contextmanager
def batch_reader(
    filesystem: pyarrow.fs.FileSystem,
    row_groups: Sequence[RowGroupRef],
    columns: Sequence[str],
    *,
    prefetch: int = 2,
) -> Iterator[Iterator[dict[str, npt.NDArray[Any]]]]:
    """Petastorm's `make_batch_reader` over exactly these (path, row group) pairs, in this order.

    Yields one mapping of column to array per row group; a list column becomes a matrix [rows, length].
    At most `prefetch` row groups wait decoded in memory.
    """
    if not row_groups:
        yield iter(())
        return
    petastorm = load_petastorm()
    reader = petastorm.make_batch_reader(
        ["file:///planned-row-groups"],
        schema_fields=[f"^{column}$" for column in columns],
        # One worker: a second one would hand row groups over in any order.
        reader_pool_type="thread",
        workers_count=1,
        results_queue_size=prefetch,
        shuffle_row_groups=False,
        num_epochs=1,
        filesystem=PlannedFileSystem(filesystem, row_groups),
    )
    try:
        yield (batch._asdict() for batch in reader)
    finally:
        reader.stop()
        reader.join()


class PlannedFileSystem:
    """What petastorm takes for a legacy pyarrow filesystem: opens files, carries the planned row groups."""

    def __init__(self, filesystem: pyarrow.fs.FileSystem, row_groups: Sequence[RowGroupRef]) -> None:
        self._filesystem = filesystem
        self.row_groups = tuple(row_groups)

    def open(self, path: str, mode: str = "rb") -> BinaryIO:
        """A random-access file."""
        if mode != "rb":
            raise SparkmlError(
                "the petastorm reader opens files to read them only", where=path, got=f"mode {mode}"
            )
        file: BinaryIO = self._filesystem.open_input_file(path)
        return file


class ParquetDatasetPiece:
    """One row group of a file, or (row_group None) the whole file."""

    def __init__(
        self,
        path: str,
        open_file_func: Any = None,
        row_group: int | None = None,
        partition_keys: Sequence[tuple[str, int]] = (),
    ) -> None:
        self.path = path
        self.row_group = row_group
        self.partition_keys = partition_keys
        self._open = open_file_func

    def get_metadata(self) -> pyarrow.parquet.FileMetaData:
        """The file's footer."""
        with self._open(self.path) as file:
            return pyarrow.parquet.read_metadata(file)

    def read(self, columns: Any = None, partitions: Any = None) -> pa.Table:
        """The wanted columns of the piece."""
        with self._open(self.path) as file:
            # The ranks of a host share its cores: a pool of decoding threads in each would fight over them.
            parquet = pyarrow.parquet.ParquetFile(file)
            wanted = None if columns is None else sorted(columns)
            if self.row_group is None:
                return parquet.read(columns=wanted, use_threads=False)
            return parquet.read_row_group(self.row_group, columns=wanted, use_threads=False)


class ParquetDataset:
    """The legacy dataset as far as petastorm's batch reader looks at it: the planned pieces."""

    def __init__(self, path_or_paths: Any, filesystem: Any = None, **_unused: Any) -> None:
        if not isinstance(filesystem, PlannedFileSystem):
            raise SparkmlError(
                "petastorm reads planned row groups only, never a folder",
                got=str(path_or_paths),
                expected="batch_reader(filesystem, row_groups, columns)",
            )
        self.fs = filesystem
        self.paths = path_or_paths
        self.metadata = None
        self.common_metadata = types.SimpleNamespace(metadata={})
        self.partitions = None
        self.pieces = [
            ParquetDatasetPiece(path, open_file_func=filesystem.open, row_group=index)
            for path, index in filesystem.row_groups
        ]


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
    parquet = _View(pyarrow.parquet, ParquetDataset=ParquetDataset, ParquetDatasetPiece=ParquetDatasetPiece)
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
