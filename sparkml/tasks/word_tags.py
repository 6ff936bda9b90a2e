"""Words and their IOB2 tags: of rows, of windows, of whatever labels a model has, and the most probable sequence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparkml.measures.spans import Tags, decode
from sparkml.models.text_encoder import Window
from sparkml.tasks.task import Reject

OUTSIDE = "O"
_TAG = re.compile(r"O|[BIES]-.+", re.DOTALL)
_BILOU = {"L-": "E-", "U-": "S-"}
_LEAST = 1e-12  # a probability of 0 has a logarithm then


def is_tag(text: str | None) -> bool:
    """Whether this is O, or B, I, E or S with the name of a kind after a hyphen."""
    return text is not None and _TAG.fullmatch(text) is not None


def tag_names(labels: Sequence[str]) -> list[str]:
    """Labels as tags; one without a mark is the inside of a kind or, where no label is O, a word of its own."""
    mark = "I-" if OUTSIDE in labels else "B-"
    marked = [_BILOU.get(label[:2], label[:2]) + label[2:] for label in labels]
    return [label if is_tag(label) else mark + label for label in marked]


def as_iob2(rows: Tags) -> list[list[str]]:
    """The same spans as IOB2 tags."""
    kinds, spans = decode(rows)
    found = [[OUTSIDE] * len(row) for row in rows]
    columns = (spans.row, spans.label, spans.start, spans.end)
    for row, kind, start, end in zip(*(column.tolist() for column in columns), strict=True):
        found[row][start:end] = [f"B-{kinds[kind]}", *[f"I-{kinds[kind]}"] * (end - start - 1)]
    return found


def best_path(
    probabilities: npt.NDArray[Any], allowed: npt.NDArray[np.bool_] | None
) -> npt.NDArray[np.int64]:
    """The most probable sequence of labels, int64 [words], by Viterbi where the most probable labels do not fit.

    probabilities: [words, labels]. allowed: [labels + 1, labels], from the label before (last row: none) to the next.
    """
    path: npt.NDArray[np.int64] = probabilities.argmax(axis=1).astype(np.int64)
    if allowed is None or not len(path) or allowed[np.concatenate([[-1], path[:-1]]), path].all():
        return path
    gains = np.log(np.maximum(probabilities.astype(np.float64), _LEAST))
    barred = np.where(allowed, 0.0, -np.inf)
    best = barred[-1] + gains[0]
    before = np.zeros(gains.shape, np.int64)
    for word in range(1, len(gains)):
        ways = best[:, None] + barred[:-1]
        before[word] = ways.argmax(axis=0)
        best = ways.max(axis=0) + gains[word]
    path[-1] = best.argmax()
    for word in range(len(gains) - 1, 0, -1):
        path[word - 1] = before[word, path[word]]
    return path


def allowed_in_iob2(tags: Sequence[str]) -> npt.NDArray[np.bool_]:
    """IOB2: an I- comes after the B- or I- of its kind."""
    before = [tag[2:] for tag in tags] + [""]
    rows = [[not tag.startswith("I") or tag[2:] == kind for tag in tags] for kind in before]
    return np.array(rows, np.bool_)


def tokens_of(examples: pa.RecordBatch, rejects: dict[int, Reject]) -> list[list[str]]:
    """The words of each example; one without any becomes a reject."""
    rows: list[list[str] | None] = examples.column("tokens").to_pylist()
    for place, row in enumerate(rows):
        if not row:
            rejects[place] = Reject(place, "tokens_missing", "null" if row is None else "empty")
        elif None in row:
            rejects[place] = Reject(place, "tokens_missing", f"token {row.index(None)} is null")  # type: ignore[arg-type]
    return [row or [] for row in rows]


def tags_of(examples: pa.RecordBatch, rejects: dict[int, Reject]) -> list[list[str] | None]:
    """The tags of each example as IOB2; None where they do not fit its words, which becomes a reject."""
    rows = examples.column("tags").to_pylist()
    lengths = [len(row or ()) for row in examples.column("tokens").to_pylist()]
    for place, (row, n_tokens) in enumerate(zip(rows, lengths, strict=True)):
        if place in rejects:
            continue
        wrong = [tag for tag in row or () if not is_tag(tag)]
        if row is None:
            rejects[place] = Reject(place, "tags_missing", "null")
        elif len(row) != n_tokens:
            rejects[place] = Reject(place, "tags_mismatch", f"{n_tokens} tokens, {len(row)} tags")
        elif wrong:
            rejects[place] = Reject(place, "tags_invalid", f"{wrong[0]!r} is no tag such as O, B-PER, I-PER")
    good = iter(as_iob2([row for place, row in enumerate(rows) if place not in rejects]))
    return [None if place in rejects else next(good) for place in range(len(rows))]


def words_of(windows: Sequence[Window], overlap: int) -> list[list[int]]:
    """For each token of a text's windows the word that it answers, or -1: a word's first token, in one window."""
    firsts: dict[int, int] = {}
    best: dict[int, tuple[int, int, int]] = {}
    start = 0  # of the window, among the tokens of the text
    for number, window in enumerate(windows):
        content = [(position, word) for position, word in enumerate(window.words) if word >= 0]
        for offset, (position, word) in enumerate(content):
            begins = firsts.setdefault(word, start + offset) == start + offset
            nearer = min(offset, len(content) - 1 - offset)
            if begins and (word not in best or nearer > best[word][0]):
                best[word] = (nearer, number, position)
        start += len(content) - overlap
    found = [[-1] * len(window.ids) for window in windows]
    for word, (_, number, position) in best.items():
        found[number][position] = word
    return found
