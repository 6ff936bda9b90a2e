"""Variables of a file that CTranslate2 has written, without CTranslate2.

    read_variables(Path("model.bin"), "WhisperSpec", 3, "encoder/")["conv1/weight"]

Layout of binary version 6 (CTranslate2's python/ctranslate2/specs/model_spec.py), little-endian:

    uint32 version, string specification, uint32 revision
    uint32 n, then n times: string name, uint8 dimensions, uint32 for each, uint8 type, uint32 bytes, values
    uint32 n, then n times: string alias, string name

A string is a uint16 length, so many bytes, the last of them zero. None of these numbers is believed: the file is
mapped, not read, and what would go beyond its end or contradicts itself is an error.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sparkml.errors import InputError

Float32 = npt.NDArray[np.float32]
_VERSION = 6
_SCALED, _BFLOAT16 = (1, 2), 5  # of int8 every row has its scale, of int16 all have one
_TYPES = ("<f4", "<i1", "<i2", "<i4", "<f2", "<u2")  # by CTranslate2's number; numpy has no bfloat16
_SCALE = "_scale"
_MOST_DIMENSIONS = 8


class _Stored(NamedTuple):
    """A variable as it lies in the file: CTranslate2's number of its type, and a view."""

    kind: int
    values: npt.NDArray[Any]


class _Cursor:
    """Reads on in a file that is mapped into memory; `InputError` where it ends too early."""

    def __init__(self, data: mmap.mmap, where: str) -> None:
        self.data, self.where, self.place = data, where, 0

    def error(self, got: str, expected: str) -> InputError:
        return InputError(
            "not a file of CTranslate2 that can be read",
            where=f"{self.where}, byte {self.place}",
            got=got,
            expected=expected,
            next_action="fetch the file again",
        )

    def skip(self, n_bytes: int, what: str) -> int:
        """The place of the next `n_bytes`, which the file has."""
        left = len(self.data) - self.place
        if n_bytes > left:
            raise self.error(f"the file ends: {left} bytes are left", f"{what}, {n_bytes} bytes")
        self.place += n_bytes
        return self.place - n_bytes

    def number(self, kind: str, what: str) -> int:
        return int(struct.unpack_from(kind, self.data, self.skip(struct.calcsize(kind), what))[0])

    def name(self, what: str) -> str:
        length = self.number("<H", f"length of {what}")
        start = self.skip(length, what)
        raw = self.data[start : start + length]
        if not raw.endswith(b"\0") or not raw[:-1].isascii():
            raise self.error(repr(raw[:40]), f"{what}: ASCII letters and a zero byte")
        return raw[:-1].decode()


def read_variables(path: Path, specification: str, revision: int, below: str) -> dict[str, Float32]:
    """Variables whose names begin with `below`, without it, as float32; those of 8 and 16 bits divided by their scale.

    InputError for a file of another specification, and for one that is cut off or contradicts itself.
    """
    cursor = _opened(path)
    header = (cursor.number("<I", "version"), cursor.name("specification"), cursor.number("<I", "revision"))
    if header != (_VERSION, specification, revision):
        wanted = (_VERSION, specification, revision)
        raise cursor.error(str(header), f"binary version, specification and revision {wanted}")
    raw: dict[str, _Stored] = {}
    for _ in range(cursor.number("<I", "number of variables")):
        name = cursor.name("name of a variable")
        if name in raw:
            raise cursor.error(f"{name} twice", "every variable once")
        raw[name] = _stored(cursor, name)
    for _ in range(cursor.number("<I", "number of aliases")):
        alias, name = cursor.name("alias"), cursor.name("name of a variable")
        if alias in raw or name not in raw:
            raise cursor.error(f"{alias} for {name}", "another name for a variable of the file")
        for end in ("", _SCALE):
            if name + end in raw:
                raw[alias + end] = raw[name + end]
    if cursor.place != len(cursor.data):
        raise cursor.error(f"{len(cursor.data) - cursor.place} bytes more", "the end of the file")
    wanted_names = [name for name in raw if name.startswith(below) and not name.endswith(_SCALE)]
    return {name.removeprefix(below): _as_float(name, raw) for name in wanted_names}


def _opened(path: Path) -> _Cursor:
    try:
        with path.open("rb") as file:
            return _Cursor(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), str(path))
    except (OSError, ValueError) as error:  # an empty file cannot be mapped
        raise InputError(
            "cannot read a file of CTranslate2", where=str(path), got=str(error), expected="model.bin"
        ) from error


def _stored(cursor: _Cursor, name: str) -> _Stored:
    n_dims = cursor.number("<B", f"number of dimensions of {name}")
    if n_dims > _MOST_DIMENSIONS:
        raise cursor.error(f"{name} of {n_dims} dimensions", f"{_MOST_DIMENSIONS} at most")
    shape = [cursor.number("<I", f"shape of {name}") for _ in range(n_dims)]
    kind = cursor.number("<B", f"type of {name}")
    if kind >= len(_TYPES):
        raise cursor.error(f"type {kind} of {name}", f"0 to {len(_TYPES) - 1}")
    dtype, n_values = np.dtype(_TYPES[kind]), math.prod(shape)
    n_bytes = cursor.number("<I", f"size of {name}")
    if not n_values or n_values * dtype.itemsize != n_bytes:
        raise cursor.error(f"{n_bytes} bytes of {name}", f"those of {shape}, {dtype.itemsize} bytes each")
    place = cursor.skip(n_bytes, f"values of {name}")
    return _Stored(kind, np.frombuffer(cursor.data, dtype, n_values, place).reshape(shape))


def _as_float(name: str, raw: Mapping[str, _Stored]) -> Float32:
    kind, values = raw[name]
    if kind == _BFLOAT16:  # the upper half of a float32
        found = (values.astype("<u4") << 16).view("<f4")
    elif kind in _SCALED and values.ndim:
        scale = raw[name + _SCALE].values.astype("<f4") if name + _SCALE in raw else np.zeros(0, "<f4")
        if scale.shape not in ((), values.shape[:1]) or not scale.all():
            raise InputError("whole numbers without a scale that fits them", got=name)
        found = values / scale.reshape(scale.shape + (1,) * (values.ndim - scale.ndim))
    else:
        found = values
    if not np.isfinite(found).all():
        raise InputError("values that are no numbers", got=name)
    return np.asarray(found, np.float32)
