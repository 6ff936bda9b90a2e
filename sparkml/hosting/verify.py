"""Reads the files that a step has pinned again, and compares them with its manifests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sparkml.errors import InputError
from sparkml.feed.manifest import Manifest
from sparkml.frame.ledger import Run
from sparkml.frame.run import StageRun
from sparkml.frame.spark_schemas import spark_schema
from sparkml.frame.storage import filesystem_of
from sparkml.hosting.manifests import in_tasks, sum_of

_SHOWN = 10
_CHECKED = pa.schema([("path", pa.string()), ("bytes", pa.int64()), ("damage", pa.string())])


def verify_manifests(job: StageRun, config: Any, run: Run) -> dict[str, float]:
    """Every file of the manifests that a run has written, in Spark tasks; how many files and bytes are sound.

    InputError names those that are missing, cut off or altered.
    """
    table = job.rows(config.manifests)
    pinned = Manifest.from_table(table.filter(pc.field("run_id") == run.run_id))
    files = [(file.path, file.bytes, file.checksum) for manifest in pinned for file in manifest.files]
    if not files:
        return {"files": 0.0, "bytes": 0.0}
    tasks = in_tasks(job.spark, files, "path string, bytes long, checksum string")
    checked = tasks.mapInArrow(_checking, spark_schema(_CHECKED))
    damaged = checked.where("damage is not null").sort("path").collect()  # a row a damaged file
    if damaged:
        named = "".join(f"\n    {row['path']}: {row['damage']}" for row in damaged[:_SHOWN])
        more = f"\n    and {len(damaged) - _SHOWN} more" if len(damaged) > _SHOWN else ""
        raise InputError(
            f"{len(damaged)} of {len(files)} files that `{job.step}` has pinned are damaged",
            where=f"run {run.run_id}",
            got=named + more,
            expected="what their manifest says",
            next_action=f"write them again: sparkml run {job.step} --force",
        )
    return {"files": float(len(files)), "bytes": float(sum(size for _, size, _ in files))}


def _checking(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        paths, sizes, checksums = (batch.column(name).to_pylist() for name in ("path", "bytes", "checksum"))
        damages = [damage_of(*pinned) for pinned in zip(paths, sizes, checksums, strict=True)]
        yield pa.RecordBatch.from_pydict({"path": paths, "bytes": sizes, "damage": damages}, schema=_CHECKED)


def damage_of(path: str, size: int, checksum: str) -> str | None:
    """What is wrong with a file; None where its bytes are those that were pinned."""
    filesystem, inner = filesystem_of(path)
    try:
        with filesystem.open_input_stream(inner) as stream:
            found, n_bytes = sum_of(stream)
    except FileNotFoundError:
        return "it is missing"
    except OSError as error:
        return f"it cannot be read: {error}"
    if n_bytes != size:
        return f"it has {n_bytes} bytes, not {size}"
    return None if found == checksum else "its bytes have changed"
