"""Reads a source as the stage does, without Spark."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from sparkml.sources.documents import ROW_SCHEMA
from sparkml.sources.reader import read_splits
from sparkml.stages.ingest.config import IngestConfig
from sparkml.stages.ingest.origins.files import Environment, Files

Read = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def read() -> Read:
    """`read(path, text_field="body")`: the rows of a source in their order, `meta` as a dict."""

    def rows(
        path: object,
        *,
        split_bytes: int = 1 << 20,
        batch_bytes: int = 1 << 20,
        max_record_bytes: int = 1 << 20,
        max_inflation: int = 1_000,
        **source: Any,
    ) -> list[dict[str, Any]]:
        config = IngestConfig(
            source={"path": str(path), "dataset": "d", **source},
            split_bytes=split_bytes,
            batch_bytes=batch_bytes,
            max_record_bytes=max_record_bytes,
        )
        files = (Environment if config.source.kind == "python_env" else Files)(config)
        options = replace(files.options, max_inflation=max_inflation)
        batches = list(read_splits(files.splits(), options))
        found = pa.Table.from_batches(batches, ROW_SCHEMA).to_pylist()
        return [{**row, "meta": dict(row["meta"] or ())} for row in found]

    return rows
