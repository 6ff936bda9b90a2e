"""Which files a source holds: a file, a folder (with all below it) or a glob; on this machine or at a URI."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timezone
from pathlib import Path
from urllib.parse import quote

from pyarrow import fs

from sparkml.errors import InputError
from sparkml.frame import storage
from sparkml.sources.compression import SUFFIXES, compression_suffix
from sparkml.sources.formats.table import AUTO, BY_EXTENSION, FILE_FORMATS, UNKNOWN

_GLOB = re.compile(r"[*?\[]")
_GLOB_TOKEN = re.compile(r"\*\*/|\*\*|\*|\?|\[[^\]/]+\]|.", re.DOTALL)


@dataclass(frozen=True)
class SourceFile:
    """A file of the source: `path` as its file system names it, `relative` to the root of the source."""

    path: str
    uri: str
    relative: str
    size: int
    modified: float
    format: str


@dataclass(frozen=True)
class Listing:
    """The files of a source in the order of their relative paths."""

    root: str
    files: tuple[SourceFile, ...]
    ignored: int  # names that begin with `.` or `_`, as Hadoop does


def list_source(location: str, format_name: str) -> Listing:
    """Every file at `location`, of format `format_name` (`auto`: by extension); InputError where there is none."""
    folder, pattern = _split_glob(location)
    filesystem, root = storage.filesystem_of(folder)
    root = root.rstrip("/") or "/"
    info = filesystem.get_file_info(root)
    if info.type == fs.FileType.File:
        base, found, ignored = root.rpartition("/")[0], [info], 0
    else:
        base = root
        below = [info for info in _below(filesystem, root, location) if _matches(pattern, info.path, root)]
        found = [info for info in below if not _is_hidden(_relative(info.path, root))]
        ignored = len(below) - len(found)
    described = (_source_file(info, base, location, format_name) for info in found)
    files = sorted(described, key=lambda file: file.relative)
    _check(files, location, ignored, pattern is not None)
    return Listing(_uri(base, location), tuple(files), ignored)


def followed_file(spark_path: str, size: int, modified: float, location: str, format_name: str) -> SourceFile:
    """A file of `location` by the name that Spark gives it, described as `list_source` does."""
    folder, _ = _split_glob(location)
    filesystem, root = storage.filesystem_of(folder)
    root = root.rstrip("/")
    if filesystem.get_file_info(root or "/").type == fs.FileType.File:
        root = root.rpartition("/")[0]
    # Spark names hosts and accounts that a file system of Arrow leaves out.
    places = (root.lstrip("/") + "/", root.lstrip("/").partition("/")[2] + "/")
    relative = (
        next((spark_path.partition(place)[2] for place in places if place in spark_path), "") or spark_path
    )
    path = f"{root}/{relative}"
    chosen = format_of(path) if format_name == AUTO else format_name
    return SourceFile(path, _uri(path, location), relative, size, modified, chosen)


def followed_folder(location: str) -> str:
    """The folder below which the files of a source lie: what is before the first glob character."""
    return _split_glob(location)[0]


def format_of(path: str) -> str:
    """The format that a file's extension says, under its compression's; `unknown` for any other extension."""
    suffix = compression_suffix(path)
    name = path.lower()[: -len(suffix)] if suffix else path.lower()
    stem, dot, extension = name.rpartition("/")[2].rpartition(".")
    return BY_EXTENSION.get(dot + extension, UNKNOWN) if stem else UNKNOWN


def _split_glob(location: str) -> tuple[str, re.Pattern[str] | None]:
    """The folder before the first glob character, and the pattern of the paths below it."""
    if not _GLOB.search(location) or ("://" not in location and Path(location).expanduser().exists()):
        return location, None
    parts = location.split("/")
    first = next(index for index, part in enumerate(parts) if _GLOB.search(part))
    pattern = _GLOB_TOKEN.sub(_as_regex, "/".join(parts[first:]).rstrip("/"))
    # A folder that matches stands for all below it.
    folder = "/".join(parts[:first]) or ("/" if location.startswith("/") else ".")
    return folder, re.compile(pattern + "(?:/.*)?")


def _as_regex(token: re.Match[str]) -> str:
    """`**` stands for any number of folders; `*`, `?` and `[...]` stay within a name."""
    text = token[0]
    if text.startswith("["):
        return "[^" + text[2:] if text.startswith("[!") else text
    return {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(text) or re.escape(text)


def _matches(pattern: re.Pattern[str] | None, path: str, root: str) -> bool:
    return pattern is None or pattern.fullmatch(_relative(path, root)) is not None


def _below(filesystem: fs.FileSystem, root: str, location: str) -> Sequence[fs.FileInfo]:
    try:
        infos = filesystem.get_file_info(fs.FileSelector(root, recursive=True))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(
            "there is nothing at the source path",
            where=location,
            got="no such file or folder",
            expected="a file, a folder or a glob",
            next_action="check ingest.source.path",
        ) from error
    except PermissionError as error:
        raise InputError(
            "the source folder cannot be read",
            where=location,
            got=str(error),
            next_action="check the owner and the rights of the folder",
        ) from error
    return [info for info in infos if info.type == fs.FileType.File]


def _relative(path: str, root: str) -> str:
    return path.removeprefix(root.rstrip("/")).lstrip("/")


def _is_hidden(relative: str) -> bool:
    return any(part.startswith((".", "_")) for part in relative.split("/"))


def _source_file(info: fs.FileInfo, base: str, location: str, format_name: str) -> SourceFile:
    modified = info.mtime.replace(tzinfo=timezone.utc).timestamp() if info.mtime is not None else 0.0
    chosen = format_of(info.path) if format_name == AUTO else format_name
    return SourceFile(
        info.path, _uri(info.path, location), _relative(info.path, base), info.size or 0, modified, chosen
    )


def _uri(path: str, location: str) -> str:
    """A path of a file system as a URI of the same scheme (and host) as the source's own."""
    scheme, separator, rest = location.partition("://")
    if not separator or scheme == "file":
        return "file://" + quote(path)
    host = rest.partition("/")[0]
    if path.startswith("/"):  # hdfs: the host is not part of the path
        return f"{scheme}://{host}{quote(path)}"
    if "@" in host:  # Azure: the path holds only the container, not the account
        return f"{scheme}://{host}{quote(path.removeprefix(host.partition('@')[0]))}"
    return f"{scheme}://{quote(path)}"


def _check(files: Sequence[SourceFile], location: str, ignored: int, is_glob: bool) -> None:
    if not files:
        hidden = f"; {ignored} files whose names begin with `.` or `_` are ignored" if ignored else ""
        raise InputError(
            "there is nothing to read",
            where=location,
            got=("no file matches" if is_glob else "an empty folder") + hidden,
            expected=f"files of {', '.join(FILE_FORMATS)}, plain or compressed ({', '.join(SUFFIXES)})",
            next_action="check ingest.source.path",
        )
    if all(file.format == UNKNOWN for file in files):
        raise InputError(
            "no file has an extension that says its format",
            where=location,
            got=", ".join(file.relative for file in files[:5]),
            expected=", ".join(sorted(BY_EXTENSION)),
            next_action=f"name it: ingest.source.format=FORMAT, one of {', '.join(FILE_FORMATS)}",
        )
