"""From a task's outputs to figures: which columns of the examples are slices, and how an evaluation is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sparkml.measures.evaluation import Settings
from sparkml.measures.slices import Columns, length_buckets

# Columns that an examples table may have for this alone.
SLICE_COLUMNS = ("lang", "source", "dataset")
LENGTH = "n_characters"
_RESAMPLES = 1000


def settings_of(seed: int) -> Settings:
    """Intervals from 1,000 resamples, drawn from the seed."""
    return Settings(resamples=_RESAMPLES, seed=seed)


def slices_of(examples: pa.Table) -> Columns:
    """Slices by length of the text, and by the language and source where the table has them."""
    found: dict[str, Any] = {}
    lengths = None
    if LENGTH in examples.column_names:
        lengths = examples.column(LENGTH)
    elif "text" in examples.column_names:
        lengths = pc.utf8_length(examples.column("text"))
    if lengths is not None:
        found["length"] = length_buckets(pc.fill_null(lengths, 0).to_numpy().astype(np.int64))
    for name in SLICE_COLUMNS:
        if name in examples.column_names and examples.column(name).null_count < examples.num_rows:
            found[name] = examples.column(name).to_pylist()
    return found
