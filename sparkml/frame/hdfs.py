"""HDFS for Python without a JVM: `hdfs-native`, a client written in Rust, as a file system of pyarrow.

Where a name service lies is read from `core-site.xml` and `hdfs-site.xml` in HADOOP_CONF_DIR (or in etc/hadoop of
HADOOP_HOME), as Spark does. Who asks: HADOOP_USER_NAME or the owner of the process; with Kerberos the ticket.

A new file is written beside its place and renamed when it is closed: HDFS shows a file while it grows, and what reads
here takes a file that is there for whole. delta-rs reaches HDFS by the same client and commits by a rename that fails
where the version is there already.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
from pyarrow import fs

from sparkml.errors import InputError, MissingToolError

if TYPE_CHECKING:
    from hdfs_native import Client, FileWriter

_T = TypeVar("_T")
_FOLDER_RIGHTS = 0o755
# The client's own 15 tries wait for some minutes where no name node answers; these for some seconds, and a name service
# that fails over has its second name node within them.
OPTIONS = {"dfs.client.failover.max.attempts": "4"}


def open_hdfs(root: str) -> fs.FileSystem:
    """The file system of a name node or name service (`hdfs://host:port/`); nothing is asked of it yet.

    MissingToolError where hdfs-native is not installed, InputError for a name service that no configuration names.
    """
    try:
        from hdfs_native import Client
    except ImportError as error:
        raise MissingToolError(
            "Python has no client for hdfs:// here",
            where=root,
            got=str(error),
            expected="the package hdfs-native, on the driver and on every worker",
            next_action="pip install hdfs-native (`make setup` brings it)",
        ) from error
    try:
        client = _asked(Client, root.rstrip("/"), OPTIONS)
    except OSError as error:
        raise InputError(
            "this HDFS is not known here",
            where=root,
            got=str(error),
            expected="hdfs://HOST:PORT/..., or a name service of hdfs-site.xml",
            next_action="name the port, or set HADOOP_CONF_DIR on the driver and on every worker",
        ) from error
    return fs.PyFileSystem(_Handler(root, client))


class _Handler(fs.FileSystemHandler):  # type: ignore[misc]
    """pyarrow's questions, answered by the client. Paths are absolute, without scheme and host."""

    def __init__(self, root: str, client: Client) -> None:
        self._root = root
        self._client = client

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Handler) and other._root == self._root

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._root)

    def get_type_name(self) -> str:
        return "hdfs"

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: Iterable[str]) -> list[fs.FileInfo]:
        return [self._info(path) for path in paths]

    def _info(self, path: str) -> fs.FileInfo:
        try:
            return _told(_asked(self._client.get_file_info, path), path)
        except FileNotFoundError:
            return fs.FileInfo(path, fs.FileType.NotFound)

    def get_file_info_selector(self, selector: fs.FileSelector) -> list[fs.FileInfo]:
        base = selector.base_dir
        try:
            found = _asked(lambda: list(self._client.list_status(base, selector.recursive)))
        except FileNotFoundError:
            if selector.allow_not_found:
                return []
            raise
        if [status.path for status in found] == [base]:  # what was asked for is a file
            raise NotADirectoryError(f"{base} is a file")
        return [_told(status, status.path) for status in found]

    def create_dir(self, path: str, recursive: bool) -> None:
        _asked(self._client.mkdirs, path, _FOLDER_RIGHTS, recursive)

    def delete_dir(self, path: str) -> None:
        self._delete(path)

    def delete_dir_contents(self, path: str, missing_dir_ok: bool) -> None:
        selector = fs.FileSelector(path, allow_not_found=missing_dir_ok)
        for info in self.get_file_info_selector(selector):
            self._delete(info.path)

    def delete_root_dir_contents(self) -> None:
        raise NotImplementedError("nobody empties a whole HDFS from here")

    def delete_file(self, path: str) -> None:
        self._delete(path)

    def _delete(self, path: str) -> None:
        if not _asked(self._client.delete, path, True):
            raise FileNotFoundError(path)

    def move(self, src: str, dest: str) -> None:
        _asked(self._client.rename, src, dest, True)

    def copy_file(self, src: str, dest: str) -> None:
        with self.open_output_stream(dest, None) as out:
            for block in _asked(self._client.read, src):
                out.write(block)

    def open_input_stream(self, path: str) -> pa.NativeFile:
        return self.open_input_file(path)

    def open_input_file(self, path: str) -> pa.NativeFile:
        return pa.PythonFile(_asked(self._client.read, path), mode="r")

    def open_output_stream(self, path: str, metadata: Any) -> pa.NativeFile:
        return pa.PythonFile(_NewFile(self._client, path), mode="w")

    def open_append_stream(self, path: str, metadata: Any) -> pa.NativeFile:
        raise NotImplementedError("files are written whole")


class _NewFile:
    """A file that appears under its name when it is closed, unless a write failed before."""

    def __init__(self, client: Client, path: str) -> None:
        folder, _, name = path.rpartition("/")
        self._client = client
        self._path = path
        self._partial = f"{folder}/.{name}.{uuid.uuid4().hex[:8]}.partial"
        self._file: FileWriter = _asked(client.create, self._partial)
        self._failed = False
        self.closed = False

    def write(self, data: bytes) -> int:
        try:
            return _asked(self._file.write, data)
        except BaseException:
            self._failed = True
            raise

    def flush(self) -> None:
        """What was written counts when the file is closed."""

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        try:
            _asked(self._file.close)
            if not self._failed:
                _asked(self._client.rename, self._partial, self._path, True)
        except BaseException:
            self._failed = True
            raise
        finally:
            if self._failed:
                with suppress(OSError):
                    _asked(self._client.delete, self._partial)


def _asked(call: Callable[..., _T], *arguments: Any) -> _T:
    """What the client answers; its errors as OSError with one line, without the name node's stack."""
    try:
        return call(*arguments)
    except (RuntimeError, ValueError, OSError) as error:
        kind = type(error) if isinstance(error, OSError) else OSError
        raise kind((str(error).replace("\\n", "\n").splitlines() or [kind.__name__])[0]) from error


def _told(status: Any, path: str) -> fs.FileInfo:
    if status.isdir:
        return fs.FileInfo(path, fs.FileType.Directory)
    return fs.FileInfo(
        path, fs.FileType.File, size=status.length, mtime_ns=status.modification_time * 1_000_000
    )
