"""A rule drops a document whose measured value lies beyond a limit; the first rule that does so gives the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Signals = Mapping[str, NDArray[np.float64]]  # name -> measured value of each document


@dataclass(frozen=True)
class Rule:
    """Drops documents whose `signal` is above `most`, or below `least`; `reason` is the name of the rule."""

    reason: str
    signal: str
    least: float | None = None
    most: float | None = None


class Failures(NamedTuple):
    """For each document the first rule that it fails (its index, -1 if none), the value and the limit."""

    rule: NDArray[np.int64]
    value: NDArray[np.float64]
    threshold: NDArray[np.float64]


def first_failures(signals: Signals, rules: Sequence[Rule], documents: int) -> Failures:
    """Apply rules in order to the measured signals of a batch."""
    failed = Failures(np.full(documents, -1), np.full(documents, np.nan), np.full(documents, np.nan))
    for index, rule in enumerate(rules):
        value = signals[rule.signal]
        for limit, beyond in ((rule.least, np.less), (rule.most, np.greater)):
            if limit is None:
                continue
            rows = (failed.rule < 0) & beyond(value, limit)
            failed.rule[rows], failed.value[rows], failed.threshold[rows] = index, value[rows], limit
    return failed
