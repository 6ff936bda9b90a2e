"""Learning rate over the steps: linear warm-up, then a decay to zero, or none."""

from __future__ import annotations

import math
from typing import Literal

Decay = Literal["linear", "cosine", "none"]


def learning_rate(step: int, *, peak: float, warmup_steps: int, max_steps: int, decay: Decay) -> float:
    """The rate of step `step` (from 0): up to `peak` in `warmup_steps`, then as `decay` says."""
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    if decay == "none":
        return peak
    done = (step - warmup_steps) / max(1, max_steps - warmup_steps)
    return peak * (1 - done) if decay == "linear" else peak * 0.5 * (1 + math.cos(math.pi * done))
