"""Artifacts: folders of files (models, checkpoints, curves) on any storage, each with its checksums.

An artifact is there when its `checksums.json` is: the file is written last and names every other file with its bytes
and SHA-256. A folder of this machine is renamed into its place as a whole; on an object store the files go first.

    with new_artifact("s3://bucket/models/a/v1") as staging:  # a local folder to write into
        (staging / "config.json").write_text("{}")
    folder = localise("s3://bucket/models/a/v1")               # a local folder to read from, verified
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from sparkml.errors import InputError, StorageError
from sparkml.frame import storage
from sparkml.frame.effects import effect

CHECKSUMS_FILE = "checksums.json"
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class FileSum:
    """Bytes and SHA-256 of a file."""

    bytes: int
    sha256: str


def evaluation_location(artifacts: str, step: str, fingerprint: str) -> str:
    """Where a step that measures a model leaves all that it found, as JSON."""
    return storage.join(artifacts, "evaluations", f"{step}-{fingerprint}.json")


@contextmanager
def new_artifact(location: str) -> Iterator[Path]:
    """An empty local folder that becomes the artifact `location` when the block ends well.

    Whatever lies under the name is replaced; on an error nothing is left behind.
    """
    local = not storage.is_remote(location)
    target = Path(storage.local_path(location)) if local else None
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        for leftover in target.parent.glob(f".{target.name}.*.partial"):  # of a process that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        staging = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.partial"
        staging.mkdir()
    else:
        staging = Path(tempfile.mkdtemp(prefix="sparkml-artifact-"))
    try:
        yield staging
        sums = _write_sums(staging)
        effect(f"artifact written: {location}")
        if target is not None:
            _sync(*(file for file in staging.rglob("*") if file.is_file()), staging)
            _replace_folder(staging, target)
        else:
            _upload(staging, location, sums)
        effect(f"artifact published: {location}")
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def checksums(location: str) -> dict[str, FileSum] | None:
    """The files that an artifact consists of; None where it was never finished (or is not one of ours)."""
    place = storage.join(location, CHECKSUMS_FILE)
    if not storage.exists(place):
        return None
    try:
        named = json.loads(storage.read_bytes(place))
        return {name: FileSum(int(entry["bytes"]), str(entry["sha256"])) for name, entry in named.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError("an artifact's checksums cannot be read", where=place, got=str(error)) from error


def identity(location: str) -> str:
    """A hash that changes with the content of an artifact; `missing` where files are gone or cut off.

    Reads the list of checksums and the sizes of the files, not their content. A folder of the user's own has no such
    list: its files are read where they are local (once for each size and time), else their sizes and times count.
    """
    found = storage.files_below(location)
    sums = checksums(location)
    if not found:
        return "missing"
    if sums is None:
        return _hash_of(_own_content(location))
    if any(found.get(name) != entry.bytes for name, entry in sums.items()):
        return "missing"
    return _hash_of({name: entry.sha256 for name, entry in sums.items()})


def _hash_of(files: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(sorted(files.items())).encode()).hexdigest()[:16]


def _own_content(location: str) -> Mapping[str, object]:
    stamps = storage.stamps_below(location)
    if storage.is_remote(location):
        return stamps
    folder = Path(storage.local_path(location))
    return {name: _sum_at(folder / name, *stamp).sha256 for name, stamp in stamps.items()}


@lru_cache(maxsize=1024)
def _sum_at(file: Path, size: int, changed_ns: int) -> FileSum:
    """The checksum of a file of this size and time: a run asks for it several times and reads the file once."""
    return _sum_of(file)


def localise(location: str, *, verify: bool = True) -> Path:
    """The artifact as a folder of this machine: itself, or a copy that is kept by its checksums.

    InputError where it is missing, incomplete or altered. A folder without checksums (a user's own) is taken as it
    is. `verify=False` trusts the content of a local folder that this run has verified before.
    """
    if not storage.is_remote(location):
        folder = Path(storage.local_path(location))
        if not folder.is_dir():
            raise InputError("there is no such folder", where=str(folder), next_action="run what writes it")
        sums = checksums(location)
        if verify and sums is not None:
            check(folder, sums)
        return folder
    sums = checksums(location)
    kept = Path(os.environ.get("SPARKML_CACHE") or Path.home() / ".cache" / "sparkml") / "artifacts"
    folder = kept / f"{hashlib.sha256(location.encode()).hexdigest()[:16]}-{identity(location)}"
    if not folder.is_dir():
        _download(location, folder, sums)
    return folder


def check(folder: Path, sums: dict[str, FileSum]) -> None:
    """InputError that names the first file that is missing, cut off or altered."""
    for name, entry in sorted(sums.items()):
        file = folder / name
        found = file.stat().st_size if file.is_file() else None
        if found != entry.bytes or _sum_of(file).sha256 != entry.sha256:
            raise InputError(
                "a file of an artifact is not as it was written",
                where=str(file),
                got="missing"
                if found is None
                else f"{found} bytes" + (", altered" if found == entry.bytes else ""),
                expected=f"{entry.bytes} bytes with sha256 {entry.sha256}",
                next_action="restore the file, or run the step that made it again with --force",
            )


def _write_sums(folder: Path) -> dict[str, FileSum]:
    (folder / CHECKSUMS_FILE).unlink(missing_ok=True)
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    sums = {file.relative_to(folder).as_posix(): _sum_of(file) for file in files}
    text = json.dumps({name: vars(entry) for name, entry in sums.items()}, indent=2, sort_keys=True)
    (folder / CHECKSUMS_FILE).write_text(text + "\n", encoding="utf-8")
    return sums


def _sum_of(file: Path) -> FileSum:
    digest, size = hashlib.sha256(), 0
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
            size += len(block)
    return FileSum(size, digest.hexdigest())


def _sync(*paths: Path) -> None:
    """Wait until these files and folders are on the disk: the content before it gets its name, then the name."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # mounts that cannot sync a folder
                raise
        finally:
            os.close(descriptor)


def _replace_folder(staging: Path, target: Path) -> None:
    # rename() cannot replace a folder that has files: the old one steps aside first.
    aside = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.old"
    if target.exists():
        os.rename(target, aside)
        effect(f"artifact set aside: {target}")
    os.rename(staging, target)
    _sync(target.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _upload(staging: Path, location: str, sums: dict[str, FileSum]) -> None:
    storage.remove(storage.join(location, CHECKSUMS_FILE))
    for stale in set(storage.files_below(location)) - set(sums):
        storage.remove(storage.join(location, stale))
    for name in [*sums, CHECKSUMS_FILE]:  # the list of checksums comes last: it completes the artifact
        upload_file(staging / name, storage.join(location, name))
        effect(f"artifact file uploaded: {location}/{name}")


def upload_file(file: Path, location: str) -> None:
    """Copy a local file to a place, in blocks."""
    filesystem, path = storage.filesystem_of(location)
    try:
        with file.open("rb") as stream, filesystem.open_output_stream(path, compression=None) as out:
            shutil.copyfileobj(stream, out, _BLOCK_BYTES)
    except OSError as error:
        raise StorageError("a file cannot be written", where=location, got=str(error)) from error


def _download(location: str, folder: Path, sums: dict[str, FileSum] | None) -> None:
    wanted = list(sums) if sums is not None else list(storage.files_below(location))
    if not wanted:
        raise InputError("there is no such artifact", where=location, next_action="run what writes it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder.parent))
    try:
        filesystem, path = storage.filesystem_of(location)
        for name in wanted:
            file = staging / name
            if not file.resolve().is_relative_to(staging.resolve()):
                raise InputError("an artifact names a file outside itself", where=location, got=name)
            file.parent.mkdir(parents=True, exist_ok=True)
            with (
                filesystem.open_input_stream(storage.join(path, name), compression=None) as stream,
                file.open("wb") as out,
            ):
                shutil.copyfileobj(stream, out, _BLOCK_BYTES)
        if sums is not None:
            check(staging, sums)
        try:
            os.rename(staging, folder)
        except OSError:
            if not folder.is_dir():  # else another process was first with the same content
                raise
    except FileNotFoundError as error:
        raise InputError("a file of an artifact is missing", where=location, got=str(error)) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


class Mirror:
    """A folder that grows while work goes on (curves, events): at its place where that is local, else copied there.

    What is already at the place is fetched first, so that a repeated run appends to it.
    """

    def __init__(self, location: str) -> None:
        self._location = location
        self._pushed: dict[str, tuple[int, int]] = {}
        if not storage.is_remote(location):
            self.folder = Path(storage.local_path(location))
            self.folder.mkdir(parents=True, exist_ok=True)
            return
        self.folder = Path(tempfile.mkdtemp(prefix="sparkml-mirror-"))
        for name in storage.files_below(location):
            file = self.folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(storage.read_bytes(storage.join(location, name)))

    def push(self) -> None:
        """Copy what has changed since the last time."""
        if not storage.is_remote(self._location):
            return
        for file in sorted(file for file in self.folder.rglob("*") if file.is_file()):
            name, status = file.relative_to(self.folder).as_posix(), file.stat()
            if self._pushed.get(name) != (status.st_size, status.st_mtime_ns):
                upload_file(file, storage.join(self._location, name))
                self._pushed[name] = (status.st_size, status.st_mtime_ns)
