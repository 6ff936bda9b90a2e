"""Files -> splits of about equal bytes, and splits -> groups: one group is one task."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeVar
from urllib.parse import quote

import pyarrow as pa
from pyarrow import fs

from sparkml.kernels.hashing import hash_fraction
from sparkml.sources.compression import compression_suffix
from sparkml.sources.environment import EnvironmentFile
from sparkml.sources.formats.parquet import row_groups
from sparkml.sources.formats.table import FORMATS
from sparkml.sources.listing import SourceFile
from sparkml.sources.member_lines import has_members
from sparkml.sources.records import Split

_SPLIT_SCHEMA = pa.schema(
    [
        ("ordinal", pa.int64()),
        ("group", pa.int32()),
        ("format", pa.string()),
        ("path", pa.string()),
        ("uri", pa.string()),
        ("relative", pa.string()),
        ("start", pa.int64()),
        ("stop", pa.int64()),
        ("label", pa.string()),
        ("version", pa.string()),
    ]
)
_FileT = TypeVar("_FileT", EnvironmentFile, SourceFile)
_FOOTER_THREADS = 16
_PROBED_BYTES = 1024**2  # in which a second member begins, where a file is to be read in parts
_COMPRESSED_COST = 4  # compared with a byte of a plain file


@dataclass(frozen=True)
class _Part:
    """A file's part and the bytes that reading it costs."""

    split: Split
    cost: int


def plan_files(filesystem: fs.FileSystem, files: Sequence[SourceFile], split_bytes: int) -> list[Split]:
    """Splits of about `split_bytes`, in groups that cost about as much; the same for the same files."""
    large = [file.path for file in files if _cut(file) == "row_groups" and file.size > split_bytes]
    with ThreadPoolExecutor(_FOOTER_THREADS) as pool:
        footers = dict(zip(large, pool.map(lambda path: _footer(filesystem, path), large), strict=True))
    packed = [
        file
        for file in files
        if _cut(file) in ("lines", "members") and compression_suffix(file.path) is not None
    ]
    wanted = [file for file in packed if file.size > split_bytes // _COMPRESSED_COST]
    with ThreadPoolExecutor(_FOOTER_THREADS) as pool:
        looked = zip(wanted, pool.map(lambda file: _has_members(filesystem, file), wanted), strict=True)
    several = {file.path for file, has in looked if has}
    parts = [
        part
        for file in files
        for part in _parts(file, footers.get(file.path, []), file.path in several, split_bytes)
    ]
    return _grouped(parts, split_bytes)


def plan_environment(files: Iterable[EnvironmentFile], split_bytes: int) -> list[Split]:
    """Every file of the embedded corpus as one split."""
    parts = []
    for file in sorted(files, key=lambda file: file.relative):
        uri = f"file://{quote(file.path)}"
        split = Split(0, 0, file.format, file.path, uri, file.relative, 0, -1, file.label, file.version)
        parts.append(_Part(split, _cost(file.format, file.relative, file.size)))
    return _grouped(parts, split_bytes)


def sample_files(files: Iterable[_FileT], fraction: float, most: int | None) -> list[_FileT]:
    """The files whose hash lies below `fraction`, at most `most` of them: a path below the root decides."""
    ranked = [(hash_fraction(file.relative), file) for file in files]
    chosen = [(rank, file) for rank, file in ranked if fraction >= 1.0 or rank < fraction]
    if most is not None:
        chosen = heapq.nsmallest(most, chosen, key=lambda item: item[0])
    return sorted((file for _, file in chosen), key=lambda file: file.relative)


def splits_table(splits: Sequence[Split]) -> pa.Table:
    """Splits as an Arrow table, the form in which they travel to the tasks."""
    columns = {field.name: [getattr(split, field.name) for split in splits] for field in _SPLIT_SCHEMA}
    return pa.table(columns, _SPLIT_SCHEMA)


def _parts(file: SourceFile, groups: Sequence[int], has_members: bool, split_bytes: int) -> Iterator[_Part]:
    is_plain = compression_suffix(file.path) is None
    if not is_plain:
        split_bytes = max(split_bytes // _COMPRESSED_COST, 1)
    if file.size > split_bytes and (has_members or (is_plain and _cut(file) == "lines")):
        count = -(-file.size // split_bytes)
        edges = [file.size * index // count for index in range(count + 1)]
        for start, stop in pairwise(edges):
            yield _part(file, start, stop, stop - start)
    elif groups:
        start, size = 0, 0
        for index, group in enumerate(groups):
            size += group
            if size >= split_bytes or index == len(groups) - 1:
                yield _part(file, start, index + 1, size)
                start, size = index + 1, 0
    else:
        yield _part(file, 0, -1, file.size)


def _cut(file: SourceFile) -> str:
    return FORMATS[file.format].cut if file.format in FORMATS else "never"


def _part(file: SourceFile, start: int, stop: int, size: int) -> _Part:
    split = Split(0, 0, file.format, file.path, file.uri, file.relative, start, stop, None, None)
    return _Part(split, _cost(file.format, file.path, size))


def _cost(format_name: str, path: str, size: int) -> int:
    compressed = _COMPRESSED_COST if compression_suffix(path) is not None else 1
    cost = FORMATS[format_name].cost if format_name in FORMATS else 1
    return max(size, 1) * cost * compressed


def _grouped(parts: Sequence[_Part], group_cost: int) -> list[Split]:
    """Neighbours share a group: rows keep the order of the files; no group exceeds the mean by a split."""
    total = sum(part.cost for part in parts)
    count = max(-(-total // group_cost), 1)
    groups: dict[int, int] = {}
    splits = []
    before = 0
    for ordinal, part in enumerate(parts):
        target = (before + part.cost // 2) * count // max(total, 1)
        before += part.cost
        group = groups.setdefault(target, len(groups))
        splits.append(replace(part.split, ordinal=ordinal, group=group))
    return splits


def _has_members(filesystem: fs.FileSystem, file: SourceFile) -> bool:
    """Whether a compressed file is one of several members, as far as its beginning tells."""
    try:
        with filesystem.open_input_file(file.path) as opened:
            return has_members(opened, file.path, _PROBED_BYTES)
    except OSError:
        return False  # the task that reads it will reject it, with its reason


def _footer(filesystem: fs.FileSystem, path: str) -> list[int]:
    try:
        with filesystem.open_input_file(path) as file:
            return row_groups(file)
    except OSError:
        return []  # the task that reads it will reject it, with its reason
