"""Some held-out examples that a model keeps, so that all that is made of it is measured on the same ones."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sparkml.errors import InputError

HELD_OUT_FILE = "held_out.parquet"
# So many examples are kept at most: the interval of an accuracy is then two points wide at worst.
MOST_KEPT = 2_000


def write_held_out(folder: Path, examples: pa.Table) -> None:
    """Keep the first examples in the order given."""
    pq.write_table(examples.slice(0, MOST_KEPT), folder / HELD_OUT_FILE, compression="zstd")


def read_held_out(folder: Path) -> pa.Table:
    """What `write_held_out` wrote; InputError where the model has none."""
    if not (folder / HELD_OUT_FILE).is_file():
        raise InputError(
            "the model keeps no held-out examples to be measured on",
            where=str(folder),
            expected=f"a file {HELD_OUT_FILE} with the columns that its task reads",
            next_action="take a model that the stage finetune has made",
        )
    return pq.read_table(folder / HELD_OUT_FILE)
