"""What a step that trains would take with more rows, other settings, and other ranks than the run that was measured."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from sparkml.errors import UsageError
from sparkml.frame.estimate import line_through
from sparkml.frame.ledger import Run
from sparkml.frame.stage import Cluster, Estimate
from sparkml.hosting.training import TrainingConfig


def training_estimate(
    runs: Sequence[Run], sizes: Sequence[float], config: TrainingConfig, cluster: Cluster
) -> Estimate:
    """From the last run that trained: its time outside the steps as a line over the rows, and its steps.

    A rank's work in a step follows the samples that it is given. Gradients travel in a ring, 8 (r - 1) / r bytes for
    each number and rank (Patarasuk and Yuan 2009), while the backward pass runs; what takes longer is waited for.
    """
    pairs = [(run, size) for run, size in zip(runs, sizes, strict=True) if run.metrics.get("step_ms")]
    if not pairs:
        raise UsageError(
            "no run of the step has measured its steps",
            next_action="run it with more than five steps",
        )
    last, size = pairs[-1]
    found, was = last.metrics, json.loads(last.config)
    rows = size * cluster.times
    epoch_steps = max(1, math.ceil(rows / config.batch_size))
    steps = config.steps(epoch_steps)
    ranks = max(config.ranks, 1)
    rest = [(run.seconds or 0.0) - run.metrics["steps"] * run.metrics["step_ms"] / 1000 for run, _ in pairs]
    outside = line_through([one for _, one in pairs], [max(value, 0.0) for value in rest], grows=False)
    # Samples that one rank is given, now and then.
    share = (config.batch_size / ranks) / (was["batch_size"] / found["ranks"])
    work = share * (found["feed_ms"] + found["forward_ms"] + found["backward_ms"])
    bytes_sent = 8 * found["trainable_parameters"] * (ranks - 1) / ranks
    sent = 1000 * 8 * bytes_sent / (cluster.gigabits * 1e9)
    waited = found["allreduce_ms"] if ranks > 1 and found["ranks"] > 1 else 0.0
    waited = max(waited, sent - share * found["backward_ms"])
    step_ms = work + waited + found["optimizer_ms"]
    return Estimate(
        step=last.step,
        runs=len({one for _, one in pairs}),
        rows=rows,
        slots=ranks,
        seconds=outside.at(rows) + steps * step_ms / 1000,
        memory_mb=found["peak_memory_mb"],
        note=f"{steps:,} steps of {step_ms:,.0f} ms, {steps * config.batch_size * _tokens(found, was):,.0f} tokens",
    )


def _tokens(found: Any, was: Any) -> float:
    """Tokens of a sample, as they were measured."""
    return float(found["tokens_per_second"] * found["step_ms"] / 1000 / was["batch_size"])
