"""Spans and their figures against seqeval, for tags that no scheme allows too."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import sequence_labeling as seqeval
from seqeval.metrics.sequence_labeling import get_entities

from sparkml.errors import InputError
from sparkml.measures.span_counts import SpanRows, match_spans, span_counts
from sparkml.measures.spans import Span, spans_of

TAG = st.sampled_from(
    [
        "O",
        "O",
        *(f"{kind}-{label}" for kind in "BIES" for label in ("PER", "LOC", "a-b")),
        "B",
        "I",
        "E-",
        "S-_",
    ]
)
ROW = st.lists(TAG, max_size=12)
CORPUS = st.lists(st.lists(st.tuples(TAG, TAG), min_size=1, max_size=10), min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("B-PER I-PER O B-LOC", [("PER", 0, 2), ("LOC", 3, 4)]),
        ("O I-PER I-PER O", [("PER", 1, 3)]),  # I- after O starts one
        ("B-PER I-LOC I-LOC", [("PER", 0, 1), ("LOC", 1, 3)]),  # and after another type
        ("B-PER B-PER", [("PER", 0, 1), ("PER", 1, 2)]),
        ("S-PER B-LOC I-LOC E-LOC", [("PER", 0, 1), ("LOC", 1, 4)]),
        ("E-PER E-PER I-PER", [("PER", 0, 1), ("PER", 1, 2), ("PER", 2, 3)]),
        ("I-PER S-PER I-PER", [("PER", 0, 1), ("PER", 1, 2), ("PER", 2, 3)]),
        ("B I O", [("_", 0, 2)]),
        ("O O", []),
        ("", []),
    ],
)
def test_spans_worked_out_by_hand(tags: str, expected: list[tuple[str, int, int]]) -> None:
    assert spans_of(tags.split()) == [Span(*span) for span in expected]


@given(ROW)
@settings(max_examples=400, deadline=None)
def test_spans_are_seqevals(tags: list[str]) -> None:
    assert [(span.label, span.start, span.end - 1) for span in spans_of(tags)] == get_entities(tags)


@pytest.mark.filterwarnings("ignore")
@given(CORPUS)
@settings(deadline=None)
def test_figures_are_seqevals(corpus: list[list[tuple[str, str]]]) -> None:
    gold = [[pair[0] for pair in row] for row in corpus]
    predicted = [[pair[1] for pair in row] for row in corpus]
    ours = span_counts(gold, predicted)
    precision, recall, f1, support = seqeval.precision_recall_fscore_support(gold, predicted, average=None)
    report = {label for label, _, _ in get_entities(gold) + get_entities(predicted)}
    assert ours.labels == tuple(sorted(report))
    assert ours.counts.precision == pytest.approx(precision)
    assert ours.counts.recall == pytest.approx(recall)
    assert ours.counts.f1 == pytest.approx(f1)
    assert ours.counts.gold.tolist() == list(support)
    for average in ("micro", "macro", "weighted") if report else ():
        expected = seqeval.precision_recall_fscore_support(gold, predicted, average=average)[:3]
        figures = getattr(ours.counts, average)()
        assert (figures.precision, figures.recall, figures.f1) == pytest.approx(expected)


def test_a_thousand_random_rows_are_seqevals() -> None:
    rng = random.Random(5)
    tags = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "E-LOC", "S-ORG", "I-ORG"]
    gold = [rng.choices(tags, k=rng.randint(1, 30)) for _ in range(1000)]
    predicted = [[tag if rng.random() < 0.7 else rng.choice(tags) for tag in row] for row in gold]
    expected = seqeval.precision_recall_fscore_support(gold, predicted, average="micro")
    micro = span_counts(gold, predicted).counts.micro()
    assert (micro.precision, micro.recall, micro.f1) == pytest.approx(expected[:3])


@given(CORPUS)
@settings(max_examples=50, deadline=None)
def test_sums_of_batches_add_up(corpus: list[list[tuple[str, str]]]) -> None:
    gold = [[pair[0] for pair in row] for row in corpus]
    predicted = [[pair[1] for pair in row] for row in corpus]
    whole = span_counts(gold, predicted)
    added = span_counts(gold[:3], predicted[:3]) + span_counts(gold[3:], predicted[3:])
    assert added.labels == whole.labels
    for name in ("hits", "predicted", "gold"):
        assert getattr(added.counts, name).tolist() == getattr(whole.counts, name).tolist()


@given(CORPUS, st.integers(0, 8), st.integers(0, 8))
@settings(max_examples=50, deadline=None)
def test_rows_hold_the_spans_of_each_row(corpus: list[list[tuple[str, str]]], start: int, stop: int) -> None:
    gold = [[pair[0] for pair in row] for row in corpus]
    predicted = [[pair[1] for pair in row] for row in corpus]
    match = match_spans(gold, predicted)
    rows = SpanRows(match)
    expected = []
    for row in range(len(gold))[start:stop]:
        of_row = match.counts(np.array([row])).counts
        expected.append([*of_row.hits, *of_row.predicted, *of_row.gold])
        alone = span_counts([gold[row]], [predicted[row]]).counts
        assert [of.sum() for of in (alone.hits, alone.predicted, alone.gold)] == [
            of.sum() for of in (of_row.hits, of_row.predicted, of_row.gold)
        ]
    assert rows[start:stop].tolist() == expected
    assert len(rows) == len(gold)


@pytest.mark.parametrize("tag", ["PER", "B_PER", "b-PER", "O-PER", "X-PER", "", None])
def test_what_is_no_tag_is_told(tag: str) -> None:
    with pytest.raises(InputError, match=r"not a tag[^$]*row 1\n"):
        span_counts([["O"], ["O", tag]], [["O"], ["O", "O"]])


def test_rows_of_other_lengths_are_told() -> None:
    with pytest.raises(InputError, match=r"row 1\n  got: 2 gold, 1 predicted"):
        span_counts([["O"], ["O", "O"]], [["O"], ["O"]])


def test_no_rows_have_no_spans() -> None:
    nothing = span_counts([], [])
    assert nothing.labels == ()
    assert float(nothing.counts.micro().f1) == float(nothing.counts.macro().f1) == 0
