"""What answers must hold of a compressed model, beside those of the model that it was made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from sparkml.measures.intervals import Difference, Interval, wilson_interval
from sparkml.measures.judged import Judged

_ROUNDING = 1e-9  # a loss of exactly the limit passes


class GateSettings(BaseModel):
    """`gate:` of a compression."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_loss: float = Field(
        0.005,
        ge=0,
        le=1,
        description="Of the task's main figure (accuracy, F1, R2, chrF): .005 is half a point",
    )
    max_flips: float = Field(0.01, ge=0, le=1, description="Share of the answers that may be others")
    judged_by: Literal["value", "bound"] = Field(
        "value",
        description="The two as measured, or the far ends of their intervals: for few examples stricter",
    )
    level: float = Field(0.95, gt=0, lt=1, description="Of the intervals")
    max_floats: float = Field(
        0.5, ge=0, le=1, description="Share of the groups of layers that may go back to float"
    )


@dataclass(frozen=True)
class Verdict:
    """How a form did: loss of the main figure, share of flipped answers, both with intervals; why it fails, or ''."""

    metric: str
    value: float
    loss: Difference
    flips: float
    flips_interval: Interval
    reason: str

    @property
    def holds(self) -> bool:
        """Whether the form may be used."""
        return not self.reason


def judge(before: Judged, after: Judged, gate: GateSettings, seed: int = 0) -> Verdict:
    """Compare the answers of a model and of what was made of it."""
    loss = before.lead(after, level=gate.level, seed=seed)
    flipped = int(np.count_nonzero(before.flips(after)))
    interval = wilson_interval(flipped, len(before.said), gate.level)
    share = flipped / max(len(before.said), 1)
    by_bound = gate.judged_by == "bound"
    lost, moved = (loss.interval.high, interval.high) if by_bound else (loss.value, share)
    within = " at the far end of its interval" if by_bound else ""
    reasons = []
    # Not a number: there was nothing to compare, and nothing holds.
    if not lost <= gate.max_loss + _ROUNDING:
        reasons.append(f"loses {100 * lost:.2f} points of {after.metric}{within}")
    if not moved <= gate.max_flips + _ROUNDING:
        reasons.append(f"answers {100 * moved:.2f} % of the examples otherwise{within}")
    return Verdict(after.metric, after.value, loss, share, interval, " and ".join(reasons))
