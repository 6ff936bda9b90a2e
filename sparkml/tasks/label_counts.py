"""Which labels are learnt: from how often each stands in the training rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from sparkml.errors import NotApplicableError
from sparkml.tasks.task import Targets, TaskOptions

SEVERAL = "|"
# Past this many a dense layer, its softmax and an answer of a number a label cost too much: that is a retrieval.
_MOST_LABELS = 20_000


class LabelOptions(TaskOptions):
    """Settings of every task that answers by label."""

    several: bool = Field(
        False, description="A row has several labels, written a|b: each is answered on its own"
    )
    max_labels: int | None = Field(None, ge=2, description="The most frequent labels are learnt; null: all")
    min_rows_per_label: int = Field(1, ge=1, description="A label with fewer training rows is left out")
    max_rows_per_label: int | None = Field(
        None, ge=1, description="Training rows of a label at most, about: chosen by a hash; null: all"
    )
    max_held_out_per_label: int | None = Field(
        None, ge=1, description="Held-out rows of a label at most, about: chosen by a hash; null: all"
    )
    class_weights: bool = Field(False, description="Weigh a label's rows by the inverse of their frequency")
    focal_gamma: float = Field(
        0.0, ge=0, description="Focal loss: how much less sure answers count; 0: cross-entropy"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Share of the target spread over all labels")
    combine: Literal["mean", "vote", "highest"] = Field(
        "mean",
        description="How the windows of one example answer together: the mean of their probabilities by tokens,"
        " the share of windows for a label, or its highest probability",
    )
    threshold: float = Field(0.5, gt=0, lt=1, description="With several labels: a label above it is answered")


def learnt_labels(options: LabelOptions, counts: Mapping[str, Mapping[str, float]]) -> Targets:
    """The labels with enough training rows, at most `max_labels`, in alphabetical order; shares of capped ones.

    `counts` are rows by split and label. NotApplicableError where there are too few labels, or too many.
    """
    train = counts.get("train", {})
    enough = [(label, n) for label, n in train.items() if n >= options.min_rows_per_label]
    ranked = sorted(enough, key=lambda pair: (-pair[1], pair[0]))[: options.max_labels]
    if len(ranked) < (1 if options.several else 2):
        raise _too_few(train, options)
    if len(ranked) > _MOST_LABELS:
        raise NotApplicableError(
            "there are too many labels to classify by",
            got=f"{len(ranked)} labels",
            expected=f"at most {_MOST_LABELS}",
            next_action="set task.max_labels or task.min_rows_per_label, or learn by retrieval",
        )
    labels = sorted(label for label, _ in ranked)
    kept: dict[str, float] = {}
    for split, limit in (
        ("train", options.max_rows_per_label),
        ("held_out", options.max_held_out_per_label),
    ):
        rows = train if split == "train" else _held_out(counts)
        for label in labels:
            if limit is not None and rows.get(label, 0) > limit:
                kept[f"{split}:{label}"] = limit / rows[label]
    return Targets(labels=tuple(labels), counts={label: int(train[label]) for label in labels}, numbers=kept)


def labels_of(label: str | None, *, several: bool) -> list[str]:
    """The labels that a value of column `label` names, without blanks and repetitions."""
    if label is None:
        return []
    names = label.split(SEVERAL) if several else [label]
    return list(dict.fromkeys(name.strip() for name in names if name.strip()))


def _held_out(counts: Mapping[str, Mapping[str, float]]) -> Mapping[str, float]:
    found: dict[str, float] = {}
    for split, rows in counts.items():
        if split != "train":
            for label, n in rows.items():
                found[label] = found.get(label, 0) + n
    return found


def _too_few(train: Mapping[str, float], options: LabelOptions) -> NotApplicableError:
    shown = ", ".join(f"{label!r} ({n:.0f})" for label, n in sorted(train.items())[:5])
    return NotApplicableError(
        "there are too few labels to learn" if train else "there are no labels to learn",
        where="column `label` of the training rows",
        got=shown or "no row with a label",
        expected=f"two labels with {options.min_rows_per_label} rows each",
        next_action="name the label's field: ingest.source.label_field=FIELD, or columns.label=COLUMN",
    )
