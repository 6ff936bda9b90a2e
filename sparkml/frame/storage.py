"""One resolver of folders and URIs, for sources, the feed, tables and artifacts.

    place                       Python reads it by                 Spark calls it
    folder of this machine      pyarrow's local file system        file:///a/b
    s3:// s3a:// s3n://         pyarrow's S3                       s3a://
    gs:// gcs://                pyarrow's Google Cloud Storage     gs://
    abfs:// abfss:// wasbs://   pyarrow's Azure                    abfss://
    hdfs://                     hdfs-native (see frame.hdfs)       hdfs://
    /Volumes/..., dbfs:/...     the mounted folder                 dbfs:/...
    any other scheme            the fsspec package that serves it  as it is

A place without a scheme is a folder of this machine, for Spark too: Spark alone would ask the cluster's default file
system. Credentials are never part of a place: they come from the environment of each process (`AWS_ACCESS_KEY_ID`,
profiles, instance roles), an S3 server other than Amazon's from `AWS_ENDPOINT_URL`.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from pyarrow import fs

from sparkml.errors import ConfigError, InputError, StorageError

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):")  # two letters at least: `C:` is a drive
_CATALOG = re.compile(r"^\w[\w-]*\.\w[\w-]*$")
_SAME = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "abfs": "abfss", "wasb": "abfss", "wasbs": "abfss"}
_KNOWN = ("file", "s3", "gs", "abfss", "hdfs", "dbfs")


def scheme_of(location: str) -> str:
    """The scheme, one name for each kind of storage; `file` for a folder of this machine."""
    match = _SCHEME.match(location)
    if match is None:
        return "dbfs" if location.startswith(("/Volumes/", "/dbfs/")) else "file"
    scheme = match[1].lower()
    return _SAME.get(scheme, scheme)


def is_catalog(location: str) -> bool:
    """True for `catalog.schema`: tables that a metastore places."""
    return _CATALOG.match(location) is not None


def quoted(name: str) -> str:
    """A dotted catalog name as SQL takes it: a hyphen is allowed in a part."""
    return ".".join(f"`{part}`" for part in name.split("."))


def is_remote(location: str) -> bool:
    """False for a folder that this machine's file system shows; True for object stores and catalogs."""
    return is_catalog(location) or scheme_of(location) not in ("file", "dbfs")


def normalise(location: str) -> str:
    """The one spelling of a place: an absolute path, or a URI of a known scheme without a slash at its end.

    ConfigError for a URI that carries a password, and for a scheme that nothing here serves.
    """
    scheme = scheme_of(location)
    if scheme in ("file", "dbfs"):
        return local_path(location)
    refuse_credentials(location)
    parts = urlsplit(location)
    if scheme in _KNOWN:
        return f"{scheme}://{parts.netloc}{parts.path}".rstrip("/")
    _by_fsspec(location)
    return location.rstrip("/")


def refuse_credentials(location: str) -> None:
    """ConfigError for a URI with a user or password: it would appear in tables, logs and reports."""
    parts = urlsplit(location)
    if parts.password or (parts.username and scheme_of(location) != "abfss"):
        raise ConfigError(
            "a location must not carry credentials",
            where=redacted(location),
            next_action="take them from the environment, a profile or an instance role",
        )


def redacted(text: str) -> str:
    """A text in which no URI carries a user, a password or a query."""
    return re.sub(
        r"\b(\w+://)[^/@\s]*:[^/@\s]*@", r"\1***@", re.sub(r"\b(\w+://[^?\s]*)\?\S+", r"\1?***", text)
    )


def redacted_tree(value: Any) -> Any:
    """The same of every text in a JSON value."""
    if isinstance(value, dict):
        return {key: redacted_tree(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [redacted_tree(inner) for inner in value]
    return redacted(value) if isinstance(value, str) else value


def local_path(location: str) -> str:
    """The folder by which this machine sees a local or mounted place, absolute."""
    scheme, rest = scheme_of(location), _SCHEME.sub("", location)
    if scheme == "dbfs":
        below = "/" + (unquote(rest) if rest != location else rest).lstrip("/")
        return below if below.startswith(("/Volumes/", "/dbfs/")) else f"/dbfs{below}"
    if _SCHEME.match(location):
        return "/" + unquote(urlsplit(location).path).lstrip("/")
    return str(Path(location).expanduser().absolute())


def spark_uri(location: str) -> str:
    """The place in Spark's spelling: with a scheme, so that the cluster's default file system does not matter."""
    scheme = scheme_of(location)
    if scheme == "file":
        return f"file://{local_path(location)}"  # Hadoop takes it as it is: an escaped blank would be another name
    if scheme == "dbfs":
        path = local_path(location)
        return f"dbfs:{path.removeprefix('/dbfs')}"
    place = normalise(location)
    return f"s3a{place[2:]}" if scheme == "s3" else place


def join(location: str, *names: str) -> str:
    """A place below another one."""
    return "/".join([location.rstrip("/"), *names])


def filesystem_of(location: str) -> tuple[fs.FileSystem, str]:
    """The file system of a place and the path in it; InputError where nothing serves the scheme."""
    scheme = scheme_of(location)
    if scheme in ("file", "dbfs"):
        return fs.LocalFileSystem(), local_path(location)
    refuse_credentials(location)
    if scheme == "s3":
        parts = urlsplit(location)
        return _s3(*_s3_settings()), f"{parts.netloc}{unquote(parts.path)}".rstrip("/")
    if scheme not in _KNOWN:
        return _by_fsspec(location)
    place = urlsplit(scheme + location[location.index(":") :])
    try:
        filesystem, root = _opened(f"{place.scheme}://{place.netloc}/")
    except (ValueError, OSError, pa.ArrowException) as error:
        raise InputError(
            "this storage cannot be opened",
            where=redacted(location),
            got=str(error).splitlines()[0],
        ) from error
    return filesystem, f"{root.rstrip('/')}/{unquote(place.path).strip('/')}"


@lru_cache(maxsize=16)
def _opened(root: str) -> tuple[fs.FileSystem, str]:
    if root.startswith("hdfs:"):
        from sparkml.frame.hdfs import open_hdfs

        return open_hdfs(root), "/"
    found: tuple[fs.FileSystem, str] = fs.FileSystem.from_uri(root)
    return found


def _by_fsspec(location: str) -> tuple[fs.FileSystem, str]:
    try:
        import fsspec

        filesystem, path = fsspec.core.url_to_fs(location)
    except (ImportError, ValueError, OSError) as error:
        raise InputError(
            "no file system serves this location",
            where=redacted(location),
            got=str(error),
            expected=f"a local path, or a URI of {', '.join(_KNOWN)} or a scheme that an fsspec package serves",
            next_action="install the fsspec package of that scheme, or copy the files",
        ) from error
    return fs.PyFileSystem(fs.FSSpecHandler(filesystem)), path


def _s3_settings() -> tuple[str, str]:
    """Endpoint and region as the environment names them; both empty: Amazon's own, found by bucket."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""
    return endpoint, region or ("us-east-1" if endpoint else "")


@lru_cache(maxsize=4)
def _s3(endpoint: str, region: str) -> fs.FileSystem:
    options: dict[str, str] = {"region": region} if region else {}
    if endpoint:
        options |= {"endpoint_override": urlsplit(endpoint).netloc, "scheme": urlsplit(endpoint).scheme}
    return fs.S3FileSystem(**options)


def delta_options(location: str) -> dict[str, str]:
    """The options of a place for delta-rs, which finds credentials by itself."""
    if scheme_of(location) == "hdfs":
        from sparkml.frame.hdfs import OPTIONS

        return dict(OPTIONS)
    if scheme_of(location) != "s3":
        return {}
    endpoint, region = _s3_settings()
    options = {"AWS_REGION": region} if region else {}
    if endpoint:
        options |= {"AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": str(endpoint.startswith("http:")).lower()}
    # Two writers of one version: the store refuses the second.
    return {**options, "aws_conditional_put": "etag"}


def spark_properties() -> dict[str, str]:
    """The environment's settings of S3 under Hadoop's names; empty where there are none. No credentials."""
    endpoint, region = _s3_settings()
    found = {"spark.hadoop.fs.s3a.endpoint.region": region} if region else {}
    if endpoint:
        found |= {
            "spark.hadoop.fs.s3a.endpoint": endpoint,
            "spark.hadoop.fs.s3a.path.style.access": "true",
            "spark.hadoop.fs.s3a.connection.ssl.enabled": str(endpoint.startswith("https:")).lower(),
            "spark.executorEnv.AWS_ENDPOINT_URL": endpoint,
            "spark.executorEnv.AWS_REGION": region,
        }
    return found


def exists(location: str) -> bool:
    """True where there is a file or a folder."""
    filesystem, path = filesystem_of(location)
    return bool(filesystem.get_file_info(path).type != fs.FileType.NotFound)


def is_file(location: str) -> bool:
    """True where there is a file."""
    filesystem, path = filesystem_of(location)
    return bool(filesystem.get_file_info(path).type == fs.FileType.File)


def names(location: str) -> list[str]:
    """What lies directly in a folder, by name; empty where there is no folder."""
    filesystem, path = filesystem_of(location)
    found = filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True))
    return sorted(info.base_name for info in found)


def files_below(location: str) -> dict[str, int]:
    """Every file below a folder: its path relative to the folder, and its bytes."""
    return {name: size for name, (size, _) in stamps_below(location).items()}


def stamps_below(location: str) -> dict[str, tuple[int, int]]:
    """As `files_below`, with the time of the last change in nanoseconds (0 where the storage keeps none)."""
    filesystem, path = filesystem_of(location)
    found = filesystem.get_file_info(fs.FileSelector(path, recursive=True, allow_not_found=True))
    prefix = path.rstrip("/") + "/"
    files = (info for info in found if info.type == fs.FileType.File)
    return {info.path.removeprefix(prefix): (info.size, info.mtime_ns or 0) for info in files}


def read_bytes(location: str, limit: int | None = None) -> bytes:
    """A file's content, at most `limit` bytes of it; InputError where it cannot be read."""
    filesystem, path = filesystem_of(location)
    try:
        with filesystem.open_input_file(path) as file:
            data: bytes = file.read() if limit is None else file.read(limit)
            return data
    except OSError as error:
        raise InputError("a file cannot be read", where=redacted(location), got=str(error)) from error


def write_bytes(location: str, data: bytes) -> None:
    """Write a file: whole under its name, or not at all. StorageError where the place refuses it."""
    filesystem, path = filesystem_of(location)
    try:
        if isinstance(filesystem, fs.LocalFileSystem):
            _write_local(Path(path), data)
        else:
            # An object appears when its stream is closed.
            with filesystem.open_output_stream(path, compression=None) as stream:
                stream.write(data)
    except OSError as error:
        raise StorageError(
            "a file cannot be written",
            where=redacted(location),
            got=str(error),
            next_action="check the place, its rights and the credentials",
        ) from error


def _write_local(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def remove(location: str) -> None:
    """Remove a file or a folder with all below it; nothing where there is none."""
    filesystem, path = filesystem_of(location)
    kind = filesystem.get_file_info(path).type
    if kind == fs.FileType.Directory:
        filesystem.delete_dir(path)
    elif kind == fs.FileType.File:
        filesystem.delete_file(path)


def describe(mapping: Mapping[str, str]) -> dict[str, str]:
    """Settings as they may be shown and kept: secrets hidden, URIs without credentials."""
    secret = re.compile(
        r"secret|password|passphrase|token|credential|access[._-]?key|sas|private", re.IGNORECASE
    )
    return {key: "***" if secret.search(key) else redacted(value) for key, value in mapping.items()}
