"""Which of the wrong answers are the worst: those in which the model was most confident; ties by id."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np

from sparkml.measures.arrays import Flags, Numbers


def worst_rows(wrong: Flags, confidences: Numbers, ids: Sequence[str], k: int) -> list[int]:
    """Row indices of the k wrong answers with the highest confidences, highest first; ties by id.

    wrong: bool[n_rows]; confidences: [n_rows].
    """
    among = np.flatnonzero(wrong)
    if k <= 0 or not len(among):
        return []
    if len(among) > k:
        least = np.partition(confidences[among], len(among) - k)[len(among) - k]
        among = among[confidences[among] >= least]
    return heapq.nsmallest(k, among.tolist(), key=lambda row: (-float(confidences[row]), ids[row]))
