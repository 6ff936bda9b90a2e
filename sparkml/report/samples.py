"""Packed samples: how many tokens there are to train on, from what the run measured."""

from __future__ import annotations

from sparkml.report import formats
from sparkml.report.section import Facts, KeyFigure, Section
from sparkml.report.view import StepView


def gather(view: StepView) -> Facts | None:
    """The figures of one packing; None where it measured nothing."""
    run = view.run
    if not run.report.metrics:
        return None
    lead = f"{formats.count(run.rows_kept)} documents in {formats.count(run.metrics.get('samples'))} samples"
    length = view.config.get("sequence_length")
    return Facts(f"{lead} of {length} tokens." if length else f"{lead}.", dict(run.report.metrics))


def figures(found: Facts) -> list[KeyFigure]:
    """How many tokens the text has."""
    tokens, samples = found.values.get("tokens"), found.values.get("samples")
    if not isinstance(tokens, float) or not isinstance(samples, float):
        return []
    return [KeyFigure("Tokens", formats.compact(tokens), f"in {formats.count(samples)} samples")]


SAMPLES = Section("Samples", gather, figures=figures)
