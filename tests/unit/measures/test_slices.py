"""Rows grouped by the values of columns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkml.errors import InputError
from sparkml.measures.slices import SliceFigures, length_buckets, measure_slices, slices_of


def test_the_most_frequent_values_come_first_and_the_rest_together() -> None:
    languages = ["de", "en", "en", "fr", None, "es", "de", "en", "it"]
    found = [(name, rows.tolist()) for name, rows in slices_of({"lang": languages}, 9, max_values=3)]
    assert found == [
        ("lang=en", [1, 2, 7]),
        ("lang=de", [0, 6]),
        ("lang=es", [5]),  # of equally frequent ones the first by name
        ("lang (rest)", [3, 8]),
        ("lang (none)", [4]),
    ]


def test_every_column_has_its_slices_with_figures_and_small_ones_are_marked() -> None:
    right = np.array([1.0, 0.0, 1.0, 1.0])
    columns = {"lang": np.array(["de", "de", "en", "de"]), "label": ["a", "b", "a", "b"]}
    found = measure_slices(columns, 4, lambda rows: {"accuracy": float(right[rows].mean())}, small_rows=2)
    assert found == (
        SliceFigures("lang=de", {"accuracy": pytest.approx(2 / 3)}, 3, False),
        SliceFigures("lang=en", {"accuracy": 1.0}, 1, True),
        SliceFigures("label=a", {"accuracy": 1.0}, 2, False),
        SliceFigures("label=b", {"accuracy": 0.5}, 2, False),
    )


@given(st.lists(st.sampled_from(["a", "b", "c", "d", None])), st.integers(0, 6))
@settings(deadline=None)
def test_every_row_is_in_one_slice_of_a_column(values: list[str | None], max_values: int) -> None:
    found = list(slices_of({"x": values}, len(values), max_values))
    assert sorted(np.concatenate([np.empty(0, int), *(rows for _, rows in found)])) == list(
        range(len(values))
    )
    assert len({name for name, _ in found}) == len(found) <= max_values + 2
    for name, rows in found:
        if "=" in name:
            assert {f"x={values[row]}" for row in rows} == {name}


def test_lengths_make_buckets_of_about_equally_many_rows() -> None:
    lengths = np.array([1, 2, 3, 4, 5, 6, 7, 80])
    assert length_buckets(lengths, 4).tolist() == ["1-2", "1-2", "3-4", "3-4", "5-6", "5-6", "7-80", "7-80"]
    assert length_buckets(np.array([5, 5, 5, 9]), 4).tolist() == ["5-5", "5-5", "5-5", "9-9"]
    assert length_buckets(np.array([5, 9, 5, 5]), 1).tolist() == ["5-9"] * 4
    assert length_buckets(np.empty(0, int)).tolist() == []


def test_a_column_of_other_rows_is_told() -> None:
    with pytest.raises(InputError, match="rows 3, column lang 2"):
        list(slices_of({"lang": ["de", "en"]}, 3))
