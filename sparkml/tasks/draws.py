"""Random numbers of samples: what is drawn for one follows from seed, step and the sample alone.

So a sample is masked or turned alike on any number of ranks, whatever else is in its batch.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

# One generator a row of a batch. What is drawn for rows together (mixup), the first row's draws.
Draws = Sequence[np.random.Generator]
_TRAINING, _MEASURED = 11, 13


def draws_of(seed: int, step: int, sample_ids: Iterable[int]) -> Draws:
    """For the samples of a training step."""
    (key,) = np.random.SeedSequence([_TRAINING, seed, step]).generate_state(1, np.uint64)
    return [_generator(int(key), int(number)) for number in sample_ids]


def draws_by_content(ids: npt.NDArray[np.int64]) -> Draws:
    """For rows of token ids that are measured: every validation hides the same."""
    return [_generator(_MEASURED, zlib.crc32(row.tobytes())) for row in ids]


def _generator(key: int, number: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=np.array([key, number], np.uint64)))
