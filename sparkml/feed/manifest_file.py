"""A manifest as a file: the stage writes it once, every rank reads it, and its checksum travels instead of it.

    pinned = write_manifest(manifest, "s3://bucket/lake/_artifacts/manifests")
    pinned.read()                                      # on a rank: the same manifest, or an InputError

The file is an Arrow IPC stream, compressed: one row per Parquet file, everything else in the schema's metadata. A
million row groups in ten thousand files take half a megabyte and load in milliseconds.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import pyarrow as pa

from sparkml.errors import InputError
from sparkml.feed.manifest import Manifest
from sparkml.frame import storage

_FACTS_KEY = b"sparkml.manifest"


@dataclass(frozen=True)
class ManifestFile:
    """Where a manifest lies, and the SHA-256 of the file's bytes."""

    location: str
    sha256: str

    def read(self) -> Manifest:
        """The manifest; InputError where the file is missing or is not the one that was written."""
        content = storage.read_bytes(self.location)
        found = hashlib.sha256(content).hexdigest()
        if found != self.sha256:
            raise InputError(
                "the file of a manifest is not as it was written",
                where=self.location,
                got=f"{len(content)} bytes with sha256 {found}",
                expected=f"sha256 {self.sha256}",
                next_action="run the same command again: it writes the file again",
            )
        return decode(content, where=self.location)


def write_manifest(manifest: Manifest, folder: str) -> ManifestFile:
    """Write a manifest below a folder or URI that every rank can read; StorageError where that is refused.

    The file is named by manifest and content: the same samples in other files have the same manifest id.
    """
    content = encode(manifest)
    digest = hashlib.sha256(content).hexdigest()
    location = storage.join(folder, f"{manifest.manifest_id[:16]}-{digest[:16]}.arrow")
    storage.write_bytes(location, content)
    return ManifestFile(location, digest)


def encode(manifest: Manifest) -> bytes:
    """A manifest as an Arrow IPC stream; equal manifests give equal bytes."""
    batch = pa.RecordBatch.from_struct_array(manifest.files.to_arrow())
    facts = json.dumps(manifest.facts(), sort_keys=True)
    batch = batch.replace_schema_metadata({_FACTS_KEY: facts.encode()})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def decode(content: bytes, *, where: str) -> Manifest:
    """What `encode` gave; InputError, naming `where`, for anything else."""
    try:
        with pa.ipc.open_stream(content) as reader:
            batch = reader.read_next_batch()
            facts = json.loads(reader.schema.metadata[_FACTS_KEY])
        return Manifest.from_record({**facts, "files": batch.to_struct_array()})
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        raise InputError(
            "not the file of a manifest",
            where=where,
            got=f"{type(error).__name__}: {error}",
            expected="what the train stage writes below <artifacts>/manifests",
        ) from error
