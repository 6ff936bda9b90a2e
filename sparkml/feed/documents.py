"""Which documents samples are of: looked up in the files of a manifest, without Spark."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow.dataset as ds

from sparkml.feed.manifest import Manifest
from sparkml.frame.storage import filesystem_of


def documents_of(manifest: Manifest, sample_ids: Sequence[int]) -> dict[int, list[str]]:
    """The ids of the documents of each sample; a packed sample is of several. Files are read until all are found."""
    wanted = set(sample_ids)
    found: dict[int, list[str]] = {}
    for file in manifest.files:
        if len(found) == len(wanted):
            break
        filesystem, path = filesystem_of(file.path)
        table = ds.dataset(path, filesystem=filesystem, format="parquet")
        name = "doc_ids" if "doc_ids" in table.schema.names else "doc_id"
        rows = table.to_table(columns=["sample_id", name], filter=ds.field("sample_id").isin(list(wanted)))
        for row in rows.to_pylist():
            found[row["sample_id"]] = row[name] if isinstance(row[name], list) else [row[name]]
    return found
