"""The evaluation of a tagger: spans in rows of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from operator import eq

import numpy as np

from sparkml.measures.arrays import F64, I64, Flags, Numbers, check_finite, check_lengths, ratio
from sparkml.measures.confusion import confusion
from sparkml.measures.counts import LabelCounts
from sparkml.measures.evaluation import (
    ConfusionCell,
    Evaluation,
    Mistake,
    Settings,
    average_metrics,
    label_figures,
    micro_metrics,
    slice_figures,
)
from sparkml.measures.intervals import Interval, percentile_interval
from sparkml.measures.label_evaluation import confusion_cells
from sparkml.measures.mistakes import worst_rows
from sparkml.measures.resampling import Together, resampled_sums
from sparkml.measures.slices import Columns
from sparkml.measures.span_counts import SpanMatch, SpanRows, match_spans
from sparkml.measures.spans import Tags, spans_of

NO_SPAN = "O"


def evaluate_tags(
    gold_tags: Tags,
    predicted_tags: Tags,
    ids: Sequence[str],
    *,
    confidences: Numbers | None = None,
    slices: Columns | None = None,
    settings: Settings | None = None,
) -> Evaluation:
    """Measure a tagger by whole spans, as the CoNLL script does; every row's tags are one sequence.

    confidences: [n_rows], of the row's answer as a whole. The worst rows are the wrong ones with the highest; without
    confidences, those with the most missed and spurious spans.
    """
    settings = settings or Settings()
    check_lengths(gold_tags=len(gold_tags), predicted_tags=len(predicted_tags), ids=len(ids))
    match = match_spans(gold_tags, predicted_tags)
    counts = match.counts().counts
    errors = _errors_of_rows(match)
    token_sums = _token_sums(gold_tags, predicted_tags)

    def measure(rows: I64) -> dict[str, float]:
        return _metrics(match.counts(rows).counts, errors[rows] == 0, token_sums[rows])

    return Evaluation(
        n=len(gold_tags),
        metrics=_metrics(counts, errors == 0, token_sums),
        intervals=_intervals(SpanRows(match), errors == 0, settings),
        slices=slice_figures(slices, len(gold_tags), measure, settings),
        labels=label_figures(match.labels, counts),
        confusion=_span_confusion(match, settings.confusion_cells),
        worst=_worst(gold_tags, predicted_tags, ids, errors, confidences, settings),
    )


def _errors_of_rows(match: SpanMatch) -> I64:
    """Missed and spurious spans of every row, int64[n_rows]; a span of the wrong type is both."""
    spans = np.concatenate([match.gold.row, match.predicted.row])
    every = np.bincount(spans, minlength=match.n_rows)
    return every - 2 * np.bincount(match.predicted.row[match.right], minlength=match.n_rows)


def _token_sums(gold_tags: Tags, predicted_tags: Tags) -> F64:
    """Tokens with the right tag, and tokens, of every row: [n_rows, 2]."""
    pairs = zip(gold_tags, predicted_tags, strict=True)
    sums = [(sum(map(eq, gold, predicted)), len(gold)) for gold, predicted in pairs]
    return np.array(sums, np.float64).reshape(-1, 2)


def _metrics(counts: LabelCounts, right: Flags, token_sums: F64) -> dict[str, float]:
    tokens_right, tokens = token_sums.sum(axis=0)
    return {
        **micro_metrics(counts),
        **average_metrics(counts),
        "token_accuracy": float(ratio(tokens_right, tokens)),
        "row_accuracy": float(right.mean()) if len(right) else 0.0,
    }


def _intervals(rows: SpanRows, right: Flags, settings: Settings) -> dict[str, Interval]:
    if not settings.resamples or not len(right):
        return {}
    whole = np.stack([np.ones(len(right)), right], axis=1)
    sums = resampled_sums(Together(whole, rows), settings.resamples, settings.seed)
    counts = LabelCounts(*np.split(sums[:, 2:], 3, axis=1))
    figures = {
        "micro_f1": counts.micro().f1,
        "macro_f1": counts.macro().f1,
        "weighted_f1": counts.weighted().f1,
        "row_accuracy": ratio(sums[:, 1], sums[:, 0]),
    }
    return {name: percentile_interval(of, settings.level) for name, of in figures.items()}


def _span_confusion(match: SpanMatch, most: int) -> tuple[ConfusionCell, ...]:
    """Types of gold and predicted spans with the same bounds; `O` on one side: there is no such span on it."""
    nothing = len(match.labels)
    found = match.same_place >= 0
    missed = np.ones(len(match.gold), bool)
    missed[match.same_place[found]] = False
    gold = np.full(len(match.predicted), nothing)
    gold[found] = match.gold.label[match.same_place[found]]
    alone = match.gold.label[missed]
    pairs = confusion(
        np.concatenate([gold, alone]),
        np.concatenate([match.predicted.label, np.full(len(alone), nothing)]),
        nothing + 1,
    )
    return confusion_cells(pairs, [*match.labels, NO_SPAN], most)


def _worst(
    gold_tags: Tags,
    predicted_tags: Tags,
    ids: Sequence[str],
    errors: I64,
    confidences: Numbers | None,
    settings: Settings,
) -> tuple[Mistake, ...]:
    if confidences is not None:
        check_lengths(confidences=len(confidences), ids=len(ids))
        check_finite("confidences", confidences)
    rows = worst_rows(errors > 0, errors if confidences is None else confidences, ids, settings.worst_rows)
    return tuple(
        Mistake(
            str(ids[row]),
            _named(gold_tags[row]),
            _named(predicted_tags[row]),
            float("nan") if confidences is None else float(confidences[row]),
        )
        for row in rows
    )


def _named(tags: Sequence[str]) -> str:
    """Spans as text: type, first token and the token after the last, as in `PER 0-2, LOC 5-6`."""
    return ", ".join(f"{span.label} {span.start}-{span.end}" for span in spans_of(tags))
