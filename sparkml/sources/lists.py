"""Lists that rules look things up in: files of lines, columns of JSON Lines, Parquet and Delta tables."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from typing import Any

import pyarrow.parquet as pq

from sparkml.errors import InputError
from sparkml.frame import storage
from sparkml.frame.delta import FolderTable
from sparkml.sources.compression import compression_suffix, decompressed

MOST_LIST_BYTES = 1 << 30


def entries(place: str) -> list[str]:
    """The lines of a file, plain or compressed, without blank ones and those that begin with `#`."""
    lines = (line.strip() for line in _text(place).splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def texts(place: str, column: str) -> list[str]:
    """A column of a Delta table, a Parquet or JSON Lines file, or of all such files below a folder.

    Of other files the lines. InputError where there is nothing, or no such column.
    """
    log = FolderTable(place, storage.normalise(place))
    if storage.exists(storage.join(place, "_delta_log")) and log.version() is not None:
        table = log.read()
        return _strings(
            table.column(column).to_pylist() if column in table.column_names else None, place, column
        )
    if storage.is_file(place):
        return list(_of_file(place, column))
    below = (storage.join(place, path) for path in sorted(storage.files_below(place)))
    found = [text for file in below for text in _of_file(file, column)]
    if not found:
        raise InputError(
            "there is no list", where=storage.redacted(place), expected="a file, a folder or a table"
        )
    return found


def state(place: str) -> str:
    """Text that changes when a list does."""
    if storage.is_file(place):
        return hashlib.sha256(storage.read_bytes(place, MOST_LIST_BYTES)).hexdigest()
    return json.dumps(sorted(storage.stamps_below(place).items()))


def _of_file(place: str, column: str) -> Iterator[str]:
    name = place[: -len(compression_suffix(place) or "") or None].lower()
    if name.endswith((".parquet", ".pq")):
        table = pq.read_table(io.BytesIO(storage.read_bytes(place, MOST_LIST_BYTES)))
        yield from _strings(
            table.column(column).to_pylist() if column in table.column_names else None, place, column
        )
    elif name.endswith((".jsonl", ".ndjson", ".json")):
        yield from _of_objects(place, column)
    elif not name.rpartition("/")[2].startswith((".", "_")):
        yield from entries(place)


def _of_objects(place: str, column: str) -> Iterator[str]:
    rows = []
    for number, line in enumerate(_text(place).splitlines(), 1):
        try:
            rows += [json.loads(line)] if line.strip() else []
        except ValueError as error:
            where = f"{storage.redacted(place)}:{number}"
            raise InputError("a line is no JSON", where=where, got=str(error)) from error
    objects = [row for row in rows if isinstance(row, dict)]
    is_there = not rows or any(column in row for row in objects)
    yield from _strings([row.get(column) for row in objects] if is_there else None, place, column)


def _strings(values: list[Any] | None, place: str, column: str) -> list[str]:
    if values is None:
        where = storage.redacted(place)
        raise InputError(f"there is no column `{column}`", where=where, next_action="name it: column=NAME")
    return [value for value in values if isinstance(value, str) and value]


def _text(place: str) -> str:
    if not storage.is_file(place):
        raise InputError("there is no list", where=storage.redacted(place), expected="a file")
    data = storage.read_bytes(place, MOST_LIST_BYTES)
    suffix = compression_suffix(place)
    if suffix is not None:
        data = b"".join(decompressed([data], suffix))
    return data.decode("utf-8-sig", "replace")
