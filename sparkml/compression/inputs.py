"""The examples that a method is given, as its network sees them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import Tensor

from sparkml.compression.methods import Given
from sparkml.errors import InputError
from sparkml.feed.batches import parts_of
from sparkml.inference.scorer import rows_of


def input_batches(given: Given, rows: int) -> Iterator[dict[str, Tensor]]:
    """Keyword arguments of the network, a batch at a time, of `rows` of the examples at most, chosen by the seed.

    InputError where none of them can be answered.
    """
    n_rows = given.examples.num_rows
    chosen = np.sort(np.random.default_rng(given.seed).permutation(n_rows)[:rows])
    encoded = given.task.encode(given.examples.take(chosen), purpose="answer")
    if not encoded.samples.num_rows:
        raise InputError(
            "no example can be answered: there is nothing to try the network on", got=f"{n_rows} rows"
        )
    for part in parts_of(dict(rows_of(encoded.samples)), given.task.token_budget):
        yield given.task.collate(part, None).inputs
