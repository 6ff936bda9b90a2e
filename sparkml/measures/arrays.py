"""Array types, ratios whose denominator may be 0, blocks of rows, and checks of lengths."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparkml.errors import InputError

F64: TypeAlias = NDArray[np.float64]
I64: TypeAlias = NDArray[np.int64]
Flags: TypeAlias = NDArray[np.bool_]
Numbers: TypeAlias = NDArray[Any]  # integers or floats of any width

BLOCK_CELLS = 1 << 20  # cells of a temporary array: 8 MiB of float64


def ratio(above: ArrayLike, below: ArrayLike) -> F64:
    """above / below, element by element; 0 where below is 0."""
    top, bottom = np.broadcast_arrays(np.asarray(above, np.float64), np.asarray(below, np.float64))
    quotient = np.zeros(bottom.shape)
    np.divide(top, bottom, out=quotient, where=bottom != 0)
    return quotient


def as_floats(values: ArrayLike) -> Numbers:
    """An array of floats: as it is where it is one already, else as float64."""
    array = np.asarray(values)
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def row_blocks(n_rows: int, width: int, cells: int = BLOCK_CELLS) -> Iterator[slice]:
    """Slices that cover the rows in order, each of `cells` cells at most (one row at least)."""
    size = max(1, cells // max(width, 1))
    for start in range(0, n_rows, size):
        yield slice(start, min(start + size, n_rows))


def mass_edges(values: Numbers, n_parts: int) -> Numbers:
    """The largest values of all but the last of `n_parts` parts of about equally many values, [n_parts - 1], rising."""
    last = -(-np.arange(1, n_parts) * len(values) // n_parts) - 1
    return np.asarray(np.sort(values)[np.maximum(last, 0)])


def check_lengths(**lengths: int) -> None:
    """InputError unless all the named columns are equally long."""
    if len(set(lengths.values())) > 1:
        raise InputError(
            "the columns to be measured are not equally long",
            got=", ".join(f"{name} {length}" for name, length in lengths.items()),
            expected="one value a row in each of them",
            next_action="pass gold values and answers of the same rows, in the same order",
        )


def check_labels(name: str, indices: I64, n_labels: int) -> None:
    """InputError unless every index is one of n_labels labels."""
    if len(indices) and (indices.min() < 0 or indices.max() >= n_labels):
        row = int(np.flatnonzero((indices < 0) | (indices >= n_labels))[0])
        raise InputError(
            "a label's index is outside the list of labels",
            where=f"{name}, row {row}",
            got=str(indices[row]),
            expected=f"0 to {n_labels - 1}",
            next_action="leave out rows whose label the model does not know, or add the label",
        )


def check_finite(name: str, values: Numbers) -> None:
    """InputError where a value is NaN or infinite."""
    for block in row_blocks(len(values), values[:1].size):
        fine = np.isfinite(values[block])
        if not fine.all():
            row = block.start + int(np.argwhere(~fine)[0][0])
            raise InputError(
                "a value to be measured is not a finite number",
                where=f"{name}, row {row}",
                got=str(values[row]),
                expected="finite numbers",
                next_action="look at that row's answer: a model that diverged, or a row that failed",
            )
