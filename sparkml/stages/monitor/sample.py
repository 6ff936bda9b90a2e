"""A few rows of every window as vectors, for the classifier that tells windows from the reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkml.monitoring.content import unit, word_vectors
from sparkml.stages.monitor.measures import NO_TIME, in_utc

_PARTS = 1_000_000
_CHARACTERS = 1_000


@dataclass(frozen=True)
class Sample:
    """Vectors float32[n, d] of rows, the number of the window of each, and their keys where somebody needs them."""

    vectors: NDArray[np.float32]
    windows: NDArray[np.int64]
    doc_ids: tuple[str, ...] = ()

    def of_window(self, number: int) -> NDArray[np.float32]:
        """The vectors of a window."""
        found: NDArray[np.float32] = self.vectors[self.windows == number]
        return found

    def beside(self, number: int) -> NDArray[np.float32]:
        """Those of all others."""
        found: NDArray[np.float32] = self.vectors[self.windows != number]
        return found


def sample_of(rows: DataFrame, sizes: Mapping[datetime, int], most: int) -> Sample | None:
    """Up to `most` rows of each window, those of the lowest hashes; `sizes`: rows by window, in order.

    None where there is nothing to see of rows, or nothing is asked for.
    """
    column = next((name for name in ("embedding", "text") if name in rows.columns), None)
    if column is None or not most or not sizes:
        return None
    places = {start: at for at, start in enumerate(sizes)}
    # One half more than wanted on average: then too many are left out, the highest hashes first.
    limits = [(start, 1.5 * most / max(n, 1) * _PARTS) for start, n in sizes.items()]
    session = rows.sparkSession
    allowed = session.createDataFrame(limits, "_start timestamp, _limit double")
    place = F.pmod(F.xxhash64("doc_id", F.lit("sample")), F.lit(_PARTS))
    value = F.substring("text", 1, _CHARACTERS) if column == "text" else F.col("embedding")
    start = F.coalesce("start", F.lit(NO_TIME))
    chosen = (
        rows.where(F.col(column).isNotNull())
        .select(start.alias("start"), "doc_id", value.alias("value"), place.alias("place"))
        .join(F.broadcast(allowed), F.col("start") == F.col("_start"))
        .where(F.col("place") < F.col("_limit"))
        .drop("_start", "_limit")
    )
    table = chosen.toArrow().sort_by(
        [("start", "ascending"), ("place", "ascending"), ("doc_id", "ascending")]
    )
    starts = [in_utc(moment) for moment in table.column("start").to_pylist()]
    windows = np.array([places[start] for start in starts], np.int64)
    firsts = np.searchsorted(windows, windows)
    kept = np.flatnonzero(np.arange(len(windows)) - firsts < most)
    table, windows = table.take(pa.array(kept)), windows[kept]
    return Sample(_vectors(table.column("value"), column), windows, tuple(table.column("doc_id").to_pylist()))


def _vectors(values: pa.ChunkedArray, column: str) -> NDArray[np.float32]:
    whole = values.combine_chunks()
    if column == "text":
        return word_vectors(whole)
    rows = [np.asarray(row, np.float32) for row in whole.to_pylist()]
    width = max((len(row) for row in rows), default=1)
    nothing = np.zeros(width, np.float32)
    # Of another model's width: told from nothing.
    return unit(np.stack([row if len(row) == width else nothing for row in rows] or [nothing]))
