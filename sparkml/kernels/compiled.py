"""Compile kernels with numba on their first call, and keep the machine code between processes.

numba notices a change in the file of the function that it caches, but not in the other files that this function calls
into. So the cache folder is named after the source of all kernels. Code that runs from a `.zip` (as `--py-files` ships
it) is cached where numba can do so; where no folder can be written, a kernel is compiled once in every process.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import os
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba.core import config as numba_config

Function = TypeVar("Function", bound=Callable[..., Any])


# `np.int64` as the type checker should see it: `int` of an unsigned number stays unsigned in compiled code, and
# unsigned with signed numbers give floats there.
as_int = cast("Callable[[Any], int]", np.int64)

# Kernels only read and write arrays that they are given, and never allocate: without reference counts, which numba
# cannot remove across calls, the word scan runs four times as fast.
_OPTIONS: dict[str, Any] = {"nogil": True, "_nrt": False}


def kernel(function: Function, *, reorders_sums: bool = False) -> Function:
    """Compile on the first call, without the interpreter's lock; cached on disk where a folder can be written.

    The function must not create arrays. `reorders_sums`: floats may be summed in any order and are never NaN, so that
    loops over them become vector instructions.
    """
    options = {**_OPTIONS, "fastmath": True, "error_model": "numpy"} if reorders_sums else _OPTIONS
    settings = vars(numba_config)
    outside = settings["CACHE_DIR"]
    settings["CACHE_DIR"] = str(cache_folder())
    try:
        cached = numba.njit(cache=True, **options)(function)
    except (RuntimeError, OSError):
        cached = None  # no place for a cache
    finally:
        settings["CACHE_DIR"] = outside
    if cached is None or not _can_write(cached.stats.cache_path):
        return cast(Function, numba.njit(**options)(function))
    return cast(Function, cached)


def part(function: Function) -> Function:
    """Compile as a part of the kernels that call it, inlined there.

    Not cached: numba links cached code as a finished object, and calls into that are never inlined.
    """
    return cast(Function, numba.njit(forceinline=True, **_OPTIONS)(function))


def _can_write(folder: str) -> bool:
    # numba checks this itself for files, but not for code in a `.zip`.
    try:
        os.makedirs(folder, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


@lru_cache(maxsize=1)
def cache_folder() -> Path:
    """Below `NUMBA_CACHE_DIR`, else the user's cache: one folder for each state of the kernels' source."""
    source = hashlib.sha256()
    for entry in sorted(importlib.resources.files(__package__).iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".py"):
            source.update(entry.read_bytes())
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    base = vars(numba_config)["CACHE_DIR"] or os.path.join(home, "sparkml", "kernels")
    return Path(base) / source.hexdigest()[:16]
