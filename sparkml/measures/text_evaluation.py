"""The evaluation of a model that writes text: translations, summaries, replies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from sparkml.measures.arrays import F64, I64, check_lengths, ratio
from sparkml.measures.evaluation import Evaluation, Mistake, Settings, slice_figures
from sparkml.measures.generation import (
    ROUGE,
    References,
    bleu_of,
    bleu_sums,
    chrf_of,
    chrf_sums,
    exact_match,
    rouge_rows,
)
from sparkml.measures.intervals import Interval, percentile_interval
from sparkml.measures.judged import Judged
from sparkml.measures.mistakes import worst_rows
from sparkml.measures.resampling import resampled_sums
from sparkml.measures.slices import Columns

# Characters of a text that stand with a mistake.
_SHOWN = 300
_MEANS = (*ROUGE, "exact_match")


def evaluate_texts(
    outputs: Sequence[str],
    references: References,
    ids: Sequence[str],
    *,
    confidences: F64 | None = None,
    slices: Columns | None = None,
    settings: Settings | None = None,
) -> Evaluation:
    """Measure what was written beside what would have been right; every row has at least one reference.

    chrF and BLEU are of all rows together, ROUGE and exact matches means over rows, all parts of 1. `words_ratio`:
    words of the outputs to those of the references. The worst rows are those furthest from their reference by chrF,
    times `confidences` [rows] where there are some.
    """
    settings = settings or Settings()
    check_lengths(outputs=len(outputs), references=len(references), ids=len(ids))
    sums = _sums(outputs, references)

    def measure(rows: I64) -> dict[str, float]:
        return {name: float(figure(sums[rows].sum(axis=0))) for name, figure in _FIGURES.items()}

    return Evaluation(
        n=len(outputs),
        metrics=measure(np.arange(len(outputs))),
        intervals=_intervals(sums, settings),
        slices=slice_figures(slices, len(outputs), measure, settings),
        worst=_worst(outputs, references, ids, sums, confidences, settings.worst_rows),
    )


def judged_texts(outputs: Sequence[str], references: References) -> Judged:
    """chrF; an answer is another one where a character differs."""
    return Judged("chrf", chrf_sums(outputs, references), chrf_of, np.array(outputs, object))


_CHRF, _BLEU = slice(0, 18), slice(18, 28)


def _mean(place: int) -> Callable[[F64], F64]:
    return lambda sums: ratio(sums[..., place], sums[..., -1])


_FIGURES: Mapping[str, Callable[[F64], F64]] = {
    "chrf": lambda sums: chrf_of(sums[..., _CHRF]),
    "bleu": lambda sums: bleu_of(sums[..., _BLEU]),
    **{name: _mean(_BLEU.stop + place) for place, name in enumerate(_MEANS)},
    "words_ratio": lambda sums: ratio(sums[..., _BLEU.start], sums[..., _BLEU.start + 1]),
}


def _sums(outputs: Sequence[str], references: References) -> F64:
    """All that figures need of each row: counts of chrF and BLEU, what means are of, and 1."""
    return np.column_stack(
        [
            chrf_sums(outputs, references),
            bleu_sums(outputs, references),
            rouge_rows(outputs, references),
            np.array(exact_match(outputs, references)),
            np.ones(len(outputs)),
        ]
    )


def _intervals(sums: F64, settings: Settings) -> dict[str, Interval]:
    if not settings.resamples or not len(sums):
        return {}
    drawn = resampled_sums(sums, settings.resamples, settings.seed)
    return {name: percentile_interval(figure(drawn), settings.level) for name, figure in _FIGURES.items()}


def _worst(
    outputs: Sequence[str],
    references: References,
    ids: Sequence[str],
    sums: F64,
    confidences: F64 | None,
    most: int,
) -> tuple[Mistake, ...]:
    apart = 1.0 - chrf_of(sums[:, _CHRF])
    sure = np.full(len(outputs), np.nan) if confidences is None else np.asarray(confidences, np.float64)
    ranked = apart * np.where(np.isnan(sure), 1.0, sure)
    return tuple(
        Mistake(str(ids[row]), references[row][0][:_SHOWN], outputs[row][:_SHOWN], float(sure[row]))
        for row in worst_rows(apart > 0, ranked, ids, most)
    )
