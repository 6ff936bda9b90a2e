"""How many spans a model finds, by type: the counts of the CoNLL-2000 script and of seqeval's default mode."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparkml.errors import InputError
from sparkml.measures.arrays import I64, Flags, check_lengths
from sparkml.measures.counts import LabelCounts
from sparkml.measures.spans import SpanArrays, Tags, decode


@dataclass(frozen=True)
class SpanCounts:
    """Spans that were right, predicted and gold, by type; counts of batches may be added, whatever their types."""

    labels: tuple[str, ...]
    counts: LabelCounts

    def __add__(self, other: SpanCounts) -> SpanCounts:
        labels = tuple(sorted({*self.labels, *other.labels}))
        return SpanCounts(labels, self._over(labels) + other._over(labels))

    def _over(self, labels: tuple[str, ...]) -> LabelCounts:
        number = {label: index for index, label in enumerate(labels)}
        places = np.array([number[label] for label in self.labels], np.int64)

        def spread(figures: I64) -> I64:
            wide = np.zeros(len(labels), np.int64)
            wide[places] = figures
            return wide

        return LabelCounts(*map(spread, (self.counts.hits, self.counts.predicted, self.counts.gold)))


@dataclass(frozen=True)
class SpanMatch:
    """Gold and predicted spans of the same rows: which predicted one lies where a gold one lies, and which is right.

    labels: the types, sorted. same_place: for every predicted span the index of the gold span with the same bounds, or
    -1, int64[predicted]. right: whether their types are equal too, bool[predicted].
    """

    labels: tuple[str, ...]
    n_rows: int
    gold: SpanArrays
    predicted: SpanArrays
    same_place: I64
    right: Flags

    def counts(self, rows: I64 | None = None) -> SpanCounts:
        """Sums of all rows, or of the rows with these indices."""
        among = np.full(self.n_rows, rows is None)
        if rows is not None:
            among[rows] = True
        guessed, of_gold = among[self.predicted.row], among[self.gold.row]
        found = (
            self.predicted.label[guessed & self.right],
            self.predicted.label[guessed],
            self.gold.label[of_gold],
        )
        sums = (np.bincount(labels, minlength=len(self.labels)) for labels in found)
        return SpanCounts(self.labels, LabelCounts(*sums))


def match_spans(gold: Tags, predicted: Tags) -> SpanMatch:
    """Decode and compare the tags of the same rows; a row's gold and predicted tags are equally many."""
    check_lengths(gold=len(gold), predicted=len(predicted))
    _check_tokens(gold, predicted)
    gold_labels, of_gold = decode(gold)
    guessed_labels, guessed = decode(predicted)
    labels = tuple(sorted({*gold_labels, *guessed_labels}))
    of_gold, guessed = _relabel(of_gold, gold_labels, labels), _relabel(guessed, guessed_labels, labels)
    same_place = _same_place(of_gold, guessed)
    right = same_place >= 0
    right[right] = of_gold.label[same_place[right]] == guessed.label[right]
    return SpanMatch(labels, len(gold), of_gold, guessed, same_place, right)


def span_counts(gold: Tags, predicted: Tags) -> SpanCounts:
    """Right, predicted and gold spans of every type; `.counts.micro().f1` is the CoNLL figure."""
    return match_spans(gold, predicted).counts()


class SpanRows:
    """Right, predicted and gold spans by type of every row, [n_rows, 3 n_types], made block by block for resampling."""

    def __init__(self, match: SpanMatch) -> None:
        width = len(match.labels)
        predicted, gold = match.predicted, match.gold
        parts = (
            (predicted.row[match.right], predicted.label[match.right]),
            (predicted.row, predicted.label + width),
            (gold.row, gold.label + 2 * width),
        )
        rows, columns = (np.concatenate(side) for side in zip(*parts, strict=True))
        order = np.argsort(rows, kind="stable")
        self._rows, self._columns = rows[order], columns[order]
        self._n_rows, self._width = match.n_rows, 3 * width

    def __len__(self) -> int:
        return self._n_rows

    def __getitem__(self, block: slice, /) -> I64:
        start, stop, _ = block.indices(self._n_rows)
        low, high = np.searchsorted(self._rows, [start, stop])
        cells = (self._rows[low:high] - start) * self._width + self._columns[low:high]
        size = max(stop - start, 0)
        return np.bincount(cells, minlength=size * self._width).reshape(size, self._width)


def _relabel(spans: SpanArrays, own: list[str], labels: tuple[str, ...]) -> SpanArrays:
    """The same spans with types as indices of `labels`."""
    number = {label: index for index, label in enumerate(labels)}
    table = np.array([number[label] for label in own], np.int64)
    return SpanArrays(spans.row, table[spans.label], spans.start, spans.end)


def _same_place(gold: SpanArrays, predicted: SpanArrays) -> I64:
    """Index of the gold span with the same row and bounds, or -1, for every predicted span."""
    same = np.full(len(predicted), -1, np.int64)
    if not len(gold) or not len(predicted):
        return same
    base = int(max(gold.end.max(), predicted.end.max())) + 1
    left, right = (
        gold.row * base + gold.end,
        predicted.row * base + predicted.end,
    )  # ascending: no two end alike
    at = np.minimum(np.searchsorted(left, right), len(left) - 1)
    found = (left[at] == right) & (gold.start[at] == predicted.start)
    same[found] = at[found]
    return same


def _check_tokens(gold: Tags, predicted: Tags) -> None:
    for row, (left, right) in enumerate(zip(gold, predicted, strict=True)):
        if len(left) != len(right):
            raise InputError(
                "gold and predicted tags of a row are not equally many",
                where=f"row {row}",
                got=f"{len(left)} gold, {len(right)} predicted",
                expected="one tag a token in both",
                next_action="tag every token, also those beyond the model's maximum length (with O)",
            )
