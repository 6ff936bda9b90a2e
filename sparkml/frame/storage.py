"""Opens data files by path or URI with pyarrow's filesystems."""

from __future__ import annotations

import pyarrow.fs

from sparkml.errors import InputError

# Hadoop's names of schemes that pyarrow knows under another one.
_SCHEMES = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "wasbs": "abfss"}


def filesystem_of(location: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """The filesystem of a path or URI, and the path inside it; InputError where pyarrow knows it not."""
    scheme, colon, rest = location.partition(":")
    if not colon or not scheme.isalnum() or len(scheme) == 1:
        return pyarrow.fs.LocalFileSystem(), location
    if scheme == "dbfs":
        return pyarrow.fs.LocalFileSystem(), f"/dbfs/{rest.lstrip('/')}"
    # Hadoop writes file:/a where the standard wants file:///a.
    uri = f"file:///{rest.lstrip('/')}" if scheme == "file" else f"{_SCHEMES.get(scheme, scheme)}:{rest}"
    try:
        filesystem, path = pyarrow.fs.FileSystem.from_uri(uri)
    except (ValueError, OSError) as error:
        raise InputError("cannot open this storage", where=location, got=str(error)) from error
    return filesystem, path
