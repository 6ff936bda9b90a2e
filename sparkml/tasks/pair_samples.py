"""Samples of two texts that are encoded apart: the windows of both, and which texts of a batch belong together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparkml.models.text_encoder import Window
from sparkml.tasks.task import Rows
from sparkml.tasks.texts import IDS, TYPES, as_bytes, sample_batch

SECOND = "passage_"  # begins the names of the second text's columns and tensors
PAIR_COLUMNS = (IDS, TYPES, (SECOND + IDS[0], IDS[1]), (SECOND + TYPES[0], TYPES[1]))
Places = npt.NDArray[np.int64]
Pair = tuple[Window | None, Window | None]


def pair_samples(
    places: Sequence[int], windows: Sequence[Sequence[Sequence[Window]]], first_only: Sequence[bool]
) -> pa.RecordBatch:
    """The samples of examples from the windows of their texts, one or both; `first_only`, by place: no later windows.

    The first sample holds the first windows of both, each further one a later window of one of them. A text that a
    sample lacks is empty; where no example has a second one it is null.
    """
    found: dict[str, list[Any]] = {
        name: [] for name in ("example", "window", "n_tokens", *dict(PAIR_COLUMNS))
    }
    for number, place in enumerate(places):
        pairs = _pairs([parts[number] for parts in windows])
        for window, pair in enumerate(pairs[:1] if first_only[place] else pairs):
            _append(found, place, window, pair, nothing=b"" if len(windows) == 2 else None)
    return sample_batch(found, PAIR_COLUMNS)


def _pairs(windows: Sequence[Sequence[Window]]) -> list[Pair]:
    if len(windows) == 1:
        return [(window, None) for window in windows[0]]
    first, second = windows
    later = [*((window, None) for window in first[1:]), *((None, window) for window in second[1:])]
    return [(first[0], second[0]), *later]


def _append(
    samples: dict[str, list[Any]], place: int, number: int, pair: Pair, nothing: bytes | None
) -> None:
    values: dict[str, Any] = {"example": place, "window": number}
    values["n_tokens"] = sum(len(window.ids) for window in pair if window is not None)
    for prefix, window in zip(("", SECOND), pair, strict=True):
        values[prefix + IDS[0]] = nothing if window is None else as_bytes(window.ids)
        values[prefix + TYPES[0]] = nothing if window is None else as_bytes(window.type_ids)
    for name, column in samples.items():
        column.append(values[name])


def pair_places(rows: Rows, of_first: Places, of_second: Places) -> dict[str, npt.NDArray[Any]]:
    """Which samples the texts of a batch are of, and which of them are pairs.

    of_first, of_second: int64, the sample of each text. pair_first, pair_second: int64 [pairs], the texts of each pair.
    apart: bool [pairs, pairs], whether two pairs differ in both texts: only then is the second text of one a wrong
    answer to the first one of the other.
    """
    samples = np.intersect1d(of_first, of_second)
    apart = np.ones((len(samples), len(samples)), np.bool_)
    for name in (IDS[0], SECOND + IDS[0]):
        texts = [bytes(rows[name][sample]) for sample in samples]
        number = {text: place for place, text in enumerate(texts)}
        code = np.array([number[text] for text in texts], np.int64)
        apart &= code[:, None] != code
    return {
        "of_first": of_first,
        "of_second": of_second,
        "pair_first": np.searchsorted(of_first, samples),
        "pair_second": np.searchsorted(of_second, samples),
        "apart": apart,
    }
