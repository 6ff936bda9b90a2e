"""Rows by the values of a column: a model that is good on the whole may be bad in one language or on long documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sparkml.measures.arrays import I64, Numbers, check_lengths, mass_edges

Columns: TypeAlias = Mapping[str, "Sequence[str | None] | NDArray[Any]"]

MAX_VALUES = 20
SMALL_ROWS = 30


@dataclass(frozen=True)
class SliceFigures:
    """What was measured on the n rows of a slice; `small` where n is too small to conclude anything."""

    slice: str
    metrics: dict[str, float]
    n: int
    small: bool


def slices_of(columns: Columns, n_rows: int, max_values: int = MAX_VALUES) -> Iterator[tuple[str, I64]]:
    """Slices and the indices of their rows, in order: `column=value` for the most frequent values, most rows first.

    columns: a value a row, None where there is none. Values beyond the `max_values` most frequent ones are together
    `column (rest)`, rows without a value `column (none)`.
    """
    for column, values in columns.items():
        check_lengths(**{"rows": n_rows, f"column {column}": len(values)})
        as_listed = values.tolist() if isinstance(values, np.ndarray) else values
        yield from _slices_of_one(column, as_listed, max_values)


def measure_slices(
    columns: Columns,
    n_rows: int,
    measure: Callable[[I64], dict[str, float]],
    *,
    max_values: int = MAX_VALUES,
    small_rows: int = SMALL_ROWS,
) -> tuple[SliceFigures, ...]:
    """The metrics of every slice of `slices_of`; `measure` gets the indices of the slice's rows, int64[n]."""
    return tuple(
        SliceFigures(name, measure(rows), len(rows), len(rows) < small_rows)
        for name, rows in slices_of(columns, n_rows, max_values)
    )


def length_buckets(lengths: Numbers, n_buckets: int = 4) -> NDArray[Any]:
    """A column for `slices_of` from lengths [n_rows]: about equally many rows a bucket, named `shortest-longest`.

    Rows of the same length share a bucket, so that there may be fewer buckets than asked for.
    """
    if not len(lengths):
        return np.empty(0, dtype=object)
    edges = np.unique(mass_edges(lengths, n_buckets))
    which = np.searchsorted(edges, lengths, side="left")
    names = np.empty(len(edges) + 1, dtype=object)
    for bucket in np.unique(which):
        among = lengths[which == bucket]
        names[bucket] = f"{among.min()}-{among.max()}"
    return np.asarray(names[which])


def _slices_of_one(column: str, values: Iterable[str | None], max_values: int) -> Iterator[tuple[str, I64]]:
    listed = list(values)
    counts = Counter(value for value in listed if value is not None)
    frequent = sorted(counts, key=lambda value: (-counts[value], str(value)))[:max_values]
    rest, none = len(frequent), len(frequent) + 1
    number: dict[str | None, int] = {value: index for index, value in enumerate(frequent)}
    number[None] = none
    of_row = np.fromiter((number.get(value, rest) for value in listed), np.int64, len(listed))
    names = [*(f"{column}={value}" for value in frequent), f"{column} (rest)", f"{column} (none)"]
    order = np.argsort(of_row, kind="stable")
    bounds = np.searchsorted(of_row[order], np.arange(len(names) + 1))
    for name, start, stop in zip(names, bounds[:-1], bounds[1:], strict=True):
        if stop > start:
            yield name, order[start:stop]
