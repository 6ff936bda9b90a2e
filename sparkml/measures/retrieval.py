"""How well queries find what answers them: the place of the one right passage of each among all of them.

Every figure is a mean over queries, so that resamples are cheap. With one right passage recall@k is the share of
queries that have it among the first k; nDCG@k is 1 / log2(1 + place) (Järvelin and Kekäläinen 2002), MRR@k 1 / place,
both 0 beyond k. Passages that are as near as the right one stand before it: a model to which all are alike finds none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sparkml.measures.arrays import F64, I64, Numbers, check_finite, check_lengths, row_blocks
from sparkml.measures.evaluation import Evaluation, Mistake, Settings, slice_figures
from sparkml.measures.intervals import Interval, percentile_interval
from sparkml.measures.judged import Judged
from sparkml.measures.mistakes import worst_rows
from sparkml.measures.resampling import resampled_sums
from sparkml.measures.slices import Columns

# Scores [queries of the slice, n_passages]: more is nearer.
Scores = Callable[[slice], Numbers]
METRICS = ("recall_at_1", "recall_at_5", "recall_at_10", "mrr_at_10", "ndcg_at_10")
_MAIN = METRICS.index("mrr_at_10")
_CELLS = 1 << 24  # of scores at once: 64 MB of float32


@dataclass(frozen=True)
class Ranked:
    """Of each query: the place of its passage (from 1), the passage that stands first, and how near that one is."""

    places: I64
    first: I64
    score: F64


def rank_passages(scores: Scores, gold: I64, n_passages: int) -> Ranked:
    """Where the passages of queries stand; `gold` int64[n_queries] says which passage is right. A block at a time."""
    n_queries = len(gold)
    places, first, score = np.empty(n_queries, np.int64), np.empty(n_queries, np.int64), np.empty(n_queries)
    for rows in row_blocks(n_queries, n_passages, _CELLS):
        block = scores(rows)
        check_finite("scores", block)
        right = np.take_along_axis(block, gold[rows, None], axis=1)
        places[rows] = (block >= right).sum(axis=1)  # itself among them
        first[rows] = block.argmax(axis=1)
        score[rows] = block.max(axis=1)
    return Ranked(places, first, score)


def nearest(queries: Numbers, passages: Numbers) -> Scores:
    """Scores of unit vectors, float32 [n_queries, width] and [n_passages, width]: their cosine."""
    return lambda rows: queries[rows] @ passages.T


def figures_of(places: I64) -> F64:
    """[n_queries, 5]: what each query adds to `METRICS`."""
    place = np.asarray(places, np.float64)
    near = place <= 10
    return np.stack(
        [place <= 1, place <= 5, near, near / place, near / np.log2(1 + place)],
        axis=1,
    ).astype(np.float64)


def evaluate_retrieval(
    ranked: Ranked,
    gold: I64,
    ids: Sequence[str],
    passages: Sequence[str],
    *,
    slices: Columns | None = None,
    settings: Settings | None = None,
) -> Evaluation:
    """Figures with bootstrap intervals over queries. The worst mistakes are the nearest passages that are wrong.

    gold: int64[n_queries]; ids: of the queries; passages: how a mistake shows them, [n_passages].
    """
    settings = settings or Settings()
    check_lengths(places=len(ranked.places), gold=len(gold), ids=len(ids))
    figures = figures_of(ranked.places)

    def measure(rows: I64) -> dict[str, float]:
        return dict(zip(METRICS, figures[rows].mean(axis=0).tolist(), strict=True))

    wrong = worst_rows(ranked.places > 1, ranked.score, ids, settings.worst_rows)
    return Evaluation(
        n=len(gold),
        metrics=measure(np.arange(len(gold))),
        intervals=_intervals(figures, settings),
        slices=slice_figures(slices, len(gold), measure, settings),
        worst=tuple(
            Mistake(str(ids[row]), passages[gold[row]], passages[ranked.first[row]], float(ranked.score[row]))
            for row in wrong
        ),
    )


def _intervals(figures: F64, settings: Settings) -> dict[str, Interval]:
    if not settings.resamples or not len(figures):
        return {}
    drawn = resampled_sums(
        np.column_stack([figures, np.ones(len(figures))]), settings.resamples, settings.seed
    )
    means = drawn[:, :-1] / np.maximum(drawn[:, -1:], 1)
    return {name: percentile_interval(means[:, place], settings.level) for place, name in enumerate(METRICS)}


def judged_retrieval(ranked: Ranked) -> Judged:
    """MRR@10; the answer is the passage that stands first."""
    sums = np.column_stack([figures_of(ranked.places)[:, _MAIN], np.ones(len(ranked.places))])
    return Judged(METRICS[_MAIN], sums, _mean, ranked.first)


def _mean(sums: F64) -> F64:
    return np.asarray(sums[..., 0] / np.maximum(sums[..., 1], 1))
